//! The datapath in the kernel, client and servers on one node: every pod is enrolled.

use crate::{Arm, ArmError, ArmPlan, RunningArm, kmeshd::Kmeshd, running::Running, stage::Stage};

/// The arm.
pub(crate) struct Kmesh;

impl Arm for Kmesh {
    fn name(&self) -> &'static str {
        "kmesh"
    }

    fn up(&self, plan: &ArmPlan<'_>) -> Result<Box<dyn RunningArm>, ArmError> {
        up(
            self.name(),
            plan,
            Variant {
                enrol_servers: true,
                l4: false,
                path: "shortcut",
            },
        )
    }
}

/// How the three arms with `kmeshd` differ.
#[derive(Clone, Copy)]
pub(super) struct Variant {
    /// Whether all pods are enrolled, or only the client.
    pub(super) enrol_servers: bool,
    /// Whether the daemon is to ignore HTTP.
    pub(super) l4: bool,
    /// What carries requests, by its name on the daemon's command line.
    pub(super) path: &'static str,
}

/// Brings up any of them. The daemon comes before the servers: sockets that exist at enrolment are not covered.
pub(super) fn up(
    name: &str,
    plan: &ArmPlan<'_>,
    variant: Variant,
) -> Result<Box<dyn RunningArm>, ArmError> {
    if plan.is_chain() && !variant.enrol_servers {
        return Err(ArmError::NoChain {
            arm: name.to_owned(),
            why: "its servers are not enrolled, and a server that calls another would have to be",
        });
    }
    let mut stage = Stage::build(plan, name)?;
    let pods = if variant.enrol_servers {
        stage.lab.pods().iter().collect()
    } else {
        vec![stage.client()?]
    };
    let kmeshd = Some(Kmeshd::start(
        &stage.lab,
        plan,
        &pods,
        variant.l4,
        variant.path,
    )?);
    stage.start_servers(plan)?;
    // Not by virtual address: this process is in the pod's namespace but not in its cgroup, so its own connections are not
    // governed. The daemon has said that all pods are enrolled, and the generator's warm-up is the proof.
    stage.await_traffic(plan, false)?;
    let decides = !variant.l4;
    Ok(Box::new(Running {
        name: name.to_owned(),
        decides,
        sidecars: Vec::new(),
        proxies: Vec::new(),
        kmeshd,
        shortcut: None,
        stage,
    }))
}
