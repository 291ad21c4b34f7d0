//! The article's first stage: the sidecar mesh of `envoy-both`, in which the sockets of one node pass messages to each other past TCP
//! wherever that is safe. Three connections, but none of the six stack traversals for what takes the shortcut.

use super::envoy_both;
use crate::{Arm, ArmError, ArmPlan, RunningArm};

/// The arm.
pub(crate) struct EnvoyBothSockmap;

impl Arm for EnvoyBothSockmap {
    fn name(&self) -> &'static str {
        "envoy-both-sockmap"
    }

    fn up(&self, plan: &ArmPlan<'_>) -> Result<Box<dyn RunningArm>, ArmError> {
        envoy_both::up(self.name(), plan, true)
    }
}
