//! A service as kube-proxy's nftables mode makes it: the virtual address is translated to a random endpoint, per
//! connection, in the client's namespace. No proxy and no HTTP.

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
        nft::load(
            &plan.binaries.nft,
            stage.client()?,
            &nft::service_dnat(&stage.services),
        )?;
        stage.await_traffic(plan, true)?;
        let (sidecars, kmeshd) = (Vec::new(), None);
        Ok(Box::new(Running {
            name: self.name().to_owned(),
            decides: false,
            to_endpoints: false,
            sidecars,
            proxies: Vec::new(),
            kmeshd,
            shortcut: None,
            stage,
        }))
    }
}
