//! How a command here ends: the codes of [`kmesh_cli::exit`], for verdicts and for this crate's errors.

use crate::gate::recorded::NoiseError;
use crate::gate::side::SideError;
use crate::report::ReadError;
use crate::run::RunError;
use crate::scenario::ScenarioError;
use crate::summary::Status;
pub use kmesh_cli::exit::{FAILED, OUTPUT, UNFIT, USAGE, WRONG};
use kmesh_dataplanes::DescriptionError;
use kmesh_oracle::edge::RecordError;
use kmesh_streams::lab::CheckError;

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

/// The exit code of an error; none for one that is nobody's here.
pub fn of_error(error: &anyhow::Error) -> Option<u8> {
    error.chain().find_map(of_cause)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(ScenarioError::Cache { .. }) = cause.downcast_ref() {
        return Some(OUTPUT);
    }
    if cause.is::<ScenarioError>()
        || cause.is::<UsageError>()
        || cause.is::<NoiseError>()
        || cause.is::<DescriptionError>()
    {
        return Some(USAGE);
    }
    if let Some(error) = cause.downcast_ref::<ReadError>() {
        return Some(match error {
            ReadError::Write { .. } => OUTPUT,
            _ => USAGE,
        });
    }
    if let Some(RecordError::Write(_)) = cause.downcast_ref() {
        return Some(OUTPUT);
    }
    if let Some(error) = cause.downcast_ref::<CheckError>() {
        return Some(match error {
            CheckError::UnknownArm { .. } => USAGE,
            _ => UNFIT,
        });
    }
    if let Some(error) = cause.downcast_ref::<SideError>() {
        return Some(match error {
            SideError::Unknown { .. } => USAGE,
            SideError::Command { .. } | SideError::Io { .. } => UNFIT,
        });
    }
    Some(match cause.downcast_ref::<RunError>()? {
        RunError::UnknownArm(_) | RunError::Description(_) => USAGE,
        RunError::Interrupted => INTERRUPTED,
        RunError::Arm { .. } | RunError::Generator { .. } => UNFIT,
    })
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
        assert_eq!(of_error(&RunError::UnknownArm("x".into()).into()), Some(4));
        assert_eq!(of_error(&anyhow::anyhow!("something")), None);
    }
}
