//! The datapath with the servers not enrolled: to the client's node they look as if they were on another one.

use super::kmesh::{Variant, up};
use crate::{Arm, ArmError, ArmPlan, RunningArm};

/// The arm.
pub(crate) struct KmeshRemote;

impl Arm for KmeshRemote {
    fn name(&self) -> &'static str {
        "kmesh-remote"
    }

    fn up(&self, plan: &ArmPlan<'_>) -> Result<Box<dyn RunningArm>, ArmError> {
        up(
            self.name(),
            plan,
            Variant {
                enrol_servers: false,
                l4: false,
                path: "shortcut",
            },
        )
    }
}
