//! The datapath with packets rewritten at the pods' devices. It does not ask where a server is: this arm stands for one node and for two.

use super::kmesh::{Variant, up};
use crate::{Arm, ArmError, ArmPlan, RunningArm};

/// The arm.
pub(crate) struct KmeshSplice;

impl Arm for KmeshSplice {
    fn name(&self) -> &'static str {
        "kmesh-splice"
    }

    fn up(&self, plan: &ArmPlan<'_>) -> Result<Box<dyn RunningArm>, ArmError> {
        up(
            self.name(),
            plan,
            Variant {
                enrol_servers: true,
                l4: false,
                path: "splice",
            },
        )
    }
}
