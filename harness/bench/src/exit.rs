//! Exit codes of DESIGN section 5.

use crate::gate::side::SideError;
use crate::run::RunError;
use crate::scenario::ScenarioError;
use crate::summary::Status;
use kmesh_streams::lab::CheckError;

/// The command line or a file it names is wrong.
pub const USAGE: u8 = 4;
/// A wrong routing decision or a wrong byte.
pub const WRONG: u8 = 2;
/// The environment is unfit for a verdict.
pub const UNFIT: u8 = 3;
/// Something failed that no other code stands for.
pub const FAILED: u8 = 1;
/// Ended by the user, by the shell's convention.
pub const INTERRUPTED: u8 = 130;

/// What was asked for on the command line cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The exit code of several scenarios together: a wrong decision outweighs everything, then a run
/// that was unfit, then a missed expectation, then one that the data leave open.
pub fn of_all(statuses: &[Status]) -> u8 {
    let worst = [
        Status::Wrong,
        Status::Invalid,
        Status::Missed,
        Status::Undecided,
    ]
    .into_iter()
    .find(|status| statuses.contains(status));
    worst.unwrap_or(Status::Held).exit_code()
}

/// The exit code of an error.
pub fn of_error(error: &anyhow::Error) -> u8 {
    if error.is::<ScenarioError>() || error.is::<UsageError>() {
        return USAGE;
    }
    if let Some(error) = error.downcast_ref::<CheckError>() {
        return match error {
            CheckError::UnknownArm { .. } => USAGE,
            _ => UNFIT,
        };
    }
    match error.downcast_ref::<SideError>() {
        Some(SideError::Unknown { .. }) => return USAGE,
        Some(SideError::Command { .. } | SideError::Io { .. }) => return UNFIT,
        None => {}
    }
    match error.downcast_ref::<RunError>() {
        Some(RunError::UnknownArm(_) | RunError::Description(_)) => USAGE,
        Some(RunError::Interrupted) => INTERRUPTED,
        Some(RunError::Arm { .. } | RunError::Generator { .. }) => UNFIT,
        None => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_decision_outweighs_everything() {
        assert_eq!(
            of_all(&[Status::Held, Status::Missed, Status::Invalid, Status::Wrong]),
            2
        );
        assert_eq!(of_all(&[Status::Invalid, Status::Missed]), 3);
        assert_eq!(of_all(&[Status::Held, Status::Missed]), 1);
        assert_eq!(of_all(&[Status::Undecided, Status::Missed]), 1);
        assert_eq!(of_all(&[Status::Held, Status::Undecided]), 3);
        assert_eq!(of_all(&[]), 0);
    }

    #[test]
    fn usage_is_four() {
        assert_eq!(of_error(&RunError::UnknownArm("x".into()).into()), 4);
        assert_eq!(of_error(&anyhow::anyhow!("disk full")), 1);
    }
}
