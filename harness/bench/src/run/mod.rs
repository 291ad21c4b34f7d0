//! Running scenarios: every arm up at once, blocks of cells in balanced order, one generator per arm.

mod breakdown;
mod calls;
mod cell;
mod connections;
mod crosscheck;
mod foreign;
mod generator;
mod group;
mod interrupt;
mod retry;
mod scenario;
mod stall;
mod swap;
mod traffic;

pub use breakdown::breakdown;
pub use calls::{CLIENT, CallsPerRequest, SERVERS};
pub use crosscheck::{AGREE, CrossOptions, Crossed, cross, suits};
pub use foreign::Foreign;
pub(crate) use group::arm_plan;
pub(crate) use group::same_lab;
pub use group::{Arena, Group, Lane, groups};
pub use interrupt::Interrupt;
pub use retry::measure_retrying;
pub(crate) use scenario::Session;
pub use scenario::{Measured, Options, measure};
pub use stall::{StallOptions, Stalled, stall};

/// Why a run could not be finished. All of these mean "no verdict".
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An arm did not come up, or died.
    #[error("arm {arm}")]
    Arm {
        /// The arm.
        arm: String,
        /// What it says.
        #[source]
        source: kmesh_dataplanes::ArmError,
    },
    /// An arm's generator did not start, or stopped answering.
    #[error("generator of arm {arm}: {message}")]
    Generator {
        /// The arm.
        arm: String,
        /// What happened.
        message: String,
    },
    /// No such arm.
    #[error("{}", crate::arms::unknown(.0))]
    UnknownArm(String),
    /// A described arm whose description is wrong.
    #[error(transparent)]
    Description(#[from] kmesh_dataplanes::DescriptionError),
    /// Ctrl-C or SIGTERM.
    #[error("interrupted; everything has been taken down")]
    Interrupted,
}
