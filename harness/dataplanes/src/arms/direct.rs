//! No mesh: the client connects to the endpoints by their own addresses. `direct-aa` is the same once more, so that a
//! report can show how far two equal arms differ.

use crate::{Arm, ArmError, ArmPlan, RunningArm, running::Running, stage::Stage};

/// The arm, under one of its two names.
pub(crate) struct Direct {
    pub(crate) name: &'static str,
}

impl Arm for Direct {
    fn name(&self) -> &'static str {
        self.name
    }

    fn up(&self, plan: &ArmPlan<'_>) -> Result<Box<dyn RunningArm>, ArmError> {
        let mut stage = Stage::build(plan, self.name)?;
        stage.to_endpoints = true;
        stage.start_servers(plan)?;
        stage.await_traffic(plan, false)?;
        let (sidecars, kmeshd) = (Vec::new(), None);
        Ok(Box::new(Running {
            name: self.name.to_owned(),
            decides: false,
            sidecars,
            proxies: Vec::new(),
            kmeshd,
            shortcut: None,
            stage,
        }))
    }
}
