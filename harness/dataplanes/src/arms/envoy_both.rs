//! The sidecar mesh: a real Envoy beside the client and one beside every server, both reached by transparent
//! redirection. Three connections instead of one. A server that calls another has one Envoy for both directions.

use std::collections::{BTreeMap, BTreeSet};

use super::envoy_client::intercept_callers;
use crate::{
    Arm, ArmError, ArmPlan, RunningArm,
    envoy::{Sidecar, both, inbound, outbound},
    nft,
    resources::Protocol,
    running::Running,
    shortcut::Shortcut,
    stage::Stage,
};

/// The arm.
pub(crate) struct EnvoyBoth;

impl Arm for EnvoyBoth {
    fn name(&self) -> &'static str {
        "envoy-both"
    }

    fn up(&self, plan: &ArmPlan<'_>) -> Result<Box<dyn RunningArm>, ArmError> {
        up(self.name(), plan, false)
    }
}

/// Brings up the arm, with sockets that skip TCP (`shortcut`) or without.
pub(super) fn up(
    name: &str,
    plan: &ArmPlan<'_>,
    shortcut: bool,
) -> Result<Box<dyn RunningArm>, ArmError> {
    let mut stage = Stage::build(plan, name)?;
    // Before any program listens: the programs cover the sockets that are made after them.
    let shortcut = if shortcut {
        Some(Shortcut::attach(&stage.lab)?)
    } else {
        None
    };
    stage.start_servers(plan)?;
    let server_pods = ports_by_pod(plan);
    let callers = plan.callers();
    let pods: BTreeSet<&str> = callers.iter().chain(server_pods.keys()).copied().collect();
    let mut sidecars = Vec::new();
    for pod in pods {
        let profile = plan.envoy_profile;
        let bootstrap = match (callers.contains(&pod), server_pods.get(pod)) {
            (true, Some(ports)) => both(&stage.resources, pod, ports, profile),
            (true, None) => outbound(&stage.resources, pod, profile),
            (false, ports) => inbound(pod, ports.map_or(&[], Vec::as_slice), profile),
        };
        let (envoy, cpus) = (&plan.binaries.envoy, &plan.placement.servers);
        sidecars.push(Sidecar::start(
            &stage.lab, pod, envoy, &bootstrap, profile, cpus,
        )?);
    }
    for sidecar in &mut sidecars {
        sidecar.await_ready(&stage.lab)?;
    }
    for pod in server_pods.keys() {
        nft::load(
            &plan.binaries.nft,
            stage.lab.pod(pod)?,
            &nft::intercept_inbound(),
        )?;
    }
    intercept_callers(&stage, plan)?;
    stage.await_traffic(plan, true)?;
    let kmeshd = None;
    Ok(Box::new(Running {
        name: name.to_owned(),
        decides: true,
        sidecars,
        proxies: Vec::new(),
        kmeshd,
        shortcut,
        stage,
    }))
}

/// The servers' pods, each with its ports.
fn ports_by_pod<'p>(plan: &'p ArmPlan<'_>) -> BTreeMap<&'p str, Vec<(u16, Protocol)>> {
    let mut pods: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for server in &plan.servers {
        pods.entry(&server.pod)
            .or_default()
            .push((server.port, server.kind.protocol()));
    }
    pods
}
