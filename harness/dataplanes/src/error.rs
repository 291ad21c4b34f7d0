//! Everything that can go wrong with an arm.

use std::{io, net::SocketAddr, path::PathBuf, process::ExitStatus};

use netns_lab::LabError;

use crate::resources::ResourcesError;

/// Why an arm could not be brought up, asked or kept up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArmError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The scenario's resources.
    #[error(transparent)]
    Resources(#[from] ResourcesError),
    /// The plan names a pod that its topology doesn't have.
    #[error("the plan names pod {pod:?}, which the topology does not have")]
    NoSuchPod {
        /// The pod.
        pod: String,
    },
    /// The plan names a virtual address that no listener has.
    #[error("the plan names {vip}, but no listener of the resources has that address")]
    NoSuchService {
        /// The address.
        vip: SocketAddr,
    },
    /// A program is not where it should be.
    #[error("{program} is not at {path}: {remedy}")]
    Missing {
        /// The program.
        program: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// A program could not be started, or not be read from.
    #[error("{program}: {call} failed")]
    Process {
        /// The program and its pod.
        program: String,
        /// What was being done.
        call: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program ended that should have stayed.
    #[error("{program} ended ({status}); it last said: {said}")]
    Ended {
        /// The program and its pod.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log, in one line.
        said: String,
    },
    /// A program did not become ready.
    #[error("{program} was not ready within {seconds} s ({last}); it last said: {said}")]
    NotReady {
        /// The program and its pod.
        program: String,
        /// How long was waited.
        seconds: u64,
        /// What the last attempt met.
        last: String,
        /// The end of its log, in one line.
        said: String,
    },
    /// `nft` refused the rules, most likely because the kernel lacks nftables NAT.
    #[error(
        "nft in pod {pod} refused the rules, maybe for want of nftables NAT in this kernel: {said}"
    )]
    Nft {
        /// The pod.
        pod: String,
        /// What it said.
        said: String,
    },
    /// The arm has no data plane for a server that calls another.
    #[error("arm {arm} cannot carry a chain of services: {why}")]
    NoChain {
        /// The arm.
        arm: String,
        /// What stands in the way.
        why: &'static str,
    },
    /// The arm has no such way of restarting.
    #[error("arm {arm} cannot be restarted by {how}: {why}")]
    NoRestart {
        /// The arm.
        arm: String,
        /// The way, as in a scenario.
        how: &'static str,
        /// What stands in the way.
        why: &'static str,
    },
    /// An arm that a file describes cannot be brought up.
    #[error("arm {arm}: {problem}")]
    External {
        /// The arm.
        arm: String,
        /// What is missing or what its programs said.
        problem: String,
    },
    /// The kernel refused a program or map, or the object does not have it.
    #[error("{what} cannot be used, maybe for want of root or of kernel BTF")]
    Ebpf {
        /// The program or map.
        what: &'static str,
        /// What the kernel or the loader said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A request of the harness itself got no usable answer.
    #[error("no usable answer from {what} at {address}")]
    Exchange {
        /// What was asked.
        what: String,
        /// Where.
        address: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// `kmeshd` answered with something that is not the status document.
    #[error("the status of kmeshd {name} is not as agreed")]
    Status {
        /// Name of the instance.
        name: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
}
