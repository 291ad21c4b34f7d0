//! A real Envoy beside the client only: what it connects to is intercepted, routed by the scenario's configuration, and
//! sent on to the server's own address. Two connections instead of one.

use crate::{
    Arm, ArmError, ArmPlan, RunningArm,
    envoy::{Sidecar, outbound},
    nft,
    running::Running,
    stage::Stage,
};

/// The arm.
pub(crate) struct EnvoyClient;

impl Arm for EnvoyClient {
    fn name(&self) -> &'static str {
        "envoy-client"
    }

    fn up(&self, plan: &ArmPlan<'_>) -> Result<Box<dyn RunningArm>, ArmError> {
        let mut stage = Stage::build(plan, self.name())?;
        stage.start_servers(plan)?;
        let mut sidecar = start_client_sidecar(&stage, plan)?;
        sidecar.await_ready(&stage.lab)?;
        intercept_client(&stage, plan)?;
        stage.await_traffic(plan, true)?;
        let (sidecars, kmeshd) = (vec![sidecar], None);
        Ok(Box::new(Running {
            name: self.name().to_owned(),
            decides: true,
            to_endpoints: false,
            sidecars,
            proxies: Vec::new(),
            kmeshd,
            shortcut: None,
            stage,
        }))
    }
}

/// The client's sidecar, with the scenario's listeners and clusters.
pub(super) fn start_client_sidecar(stage: &Stage, plan: &ArmPlan<'_>) -> Result<Sidecar, ArmError> {
    let bootstrap = outbound(&stage.resources, plan.envoy_profile);
    let (envoy, cpus) = (&plan.binaries.envoy, &plan.placement.servers);
    Sidecar::start(
        &stage.lab,
        plan.client,
        envoy,
        &bootstrap,
        plan.envoy_profile,
        cpus,
    )
}

/// From now on the client's connections go to its sidecar.
pub(super) fn intercept_client(stage: &Stage, plan: &ArmPlan<'_>) -> Result<(), ArmError> {
    nft::load(
        &plan.binaries.nft,
        stage.client()?,
        &nft::intercept_outbound(),
    )
}
