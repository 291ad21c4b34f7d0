//! The datapath without HTTP: an endpoint is chosen when the client connects, and any endpoint of the service may answer.

use super::kmesh::{Variant, up};
use crate::{Arm, ArmError, ArmPlan, RunningArm};

/// The arm.
pub(crate) struct KmeshL4;

impl Arm for KmeshL4 {
    fn name(&self) -> &'static str {
        "kmesh-l4"
    }

    fn up(&self, plan: &ArmPlan<'_>) -> Result<Box<dyn RunningArm>, ArmError> {
        up(
            self.name(),
            plan,
            Variant {
                enrol_servers: true,
                l4: true,
                path: "shortcut",
            },
        )
    }
}
