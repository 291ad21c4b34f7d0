//! A real Envoy beside the client (and any other caller) only: what it connects to is intercepted, routed by the scenario's configuration, and
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
        let mut sidecars = plan
            .callers()
            .into_iter()
            .map(|pod| start_sidecar(&stage, plan, pod))
            .collect::<Result<Vec<_>, _>>()?;
        for sidecar in &mut sidecars {
            sidecar.await_ready(&stage.lab)?;
        }
        intercept_callers(&stage, plan)?;
        stage.await_traffic(plan, true)?;
        let kmeshd = None;
        Ok(Box::new(Running {
            name: self.name().to_owned(),
            decides: true,
            sidecars,
            proxies: Vec::new(),
            kmeshd,
            shortcut: None,
            stage,
        }))
    }
}

/// A caller's sidecar, with the scenario's listeners and clusters.
fn start_sidecar(stage: &Stage, plan: &ArmPlan<'_>, pod: &str) -> Result<Sidecar, ArmError> {
    let bootstrap = outbound(&stage.resources, pod, plan.envoy_profile);
    let (envoy, cpus) = (&plan.binaries.envoy, &plan.placement.servers);
    Sidecar::start(&stage.lab, pod, envoy, &bootstrap, plan.envoy_profile, cpus)
}

/// From now on the callers' connections go to their sidecars.
pub(super) fn intercept_callers(stage: &Stage, plan: &ArmPlan<'_>) -> Result<(), ArmError> {
    for caller in plan.callers() {
        nft::load(
            &plan.binaries.nft,
            stage.lab.pod(caller)?,
            &nft::intercept_outbound(),
        )?;
    }
    Ok(())
}
