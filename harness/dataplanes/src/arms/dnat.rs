//! A service as kube-proxy's nftables mode makes it: the virtual address is translated to a random endpoint, per
//! connection, in the caller's namespace. No proxy and no HTTP.

use crate::{Arm, ArmError, ArmPlan, RunningArm, nft, running::Running, stage::Stage};

/// The arm.
pub(crate) struct Dnat;

impl Arm for Dnat {
    fn name(&self) -> &'static str {
        "dnat"
    }

    fn up(&self, plan: &ArmPlan<'_>) -> Result<Box<dyn RunningArm>, ArmError> {
        let mut stage = Stage::build(plan, self.name())?;
        stage.start_servers(plan)?;
        let rules = nft::service_dnat(&stage.services);
        for caller in plan.callers() {
            nft::load(&plan.binaries.nft, stage.lab.pod(caller)?, &rules)?;
        }
        stage.await_traffic(plan, true)?;
        let (sidecars, kmeshd) = (Vec::new(), None);
        Ok(Box::new(Running {
            name: self.name().to_owned(),
            decides: false,
            sidecars,
            proxies: Vec::new(),
            kmeshd,
            shortcut: None,
            stage,
        }))
    }
}
