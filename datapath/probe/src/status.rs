//! The status document that `kmeshd` hands out and `kmeshctl` and the harness read.

use std::collections::BTreeMap;
use std::fmt;

use kmesh_api::Reason;
use serde::{Deserialize, Serialize};

/// State of one daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name (`--name`).
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// The configuration file.
    pub config: String,
    /// Number of the active configuration, from 1.
    pub generation: u64,
    /// Why the newest configuration, pods file or entry of a pods file was refused or is not in force yet, if so.
    pub refused: Option<String>,
    /// Tasks of the daemon that ended, and whether they run again: what it cannot do, or could not; empty unless it has a defect.
    #[serde(default)]
    pub down: Vec<String>,
    /// What became of the lines of its log.
    #[serde(default)]
    pub log: LogCounts,
    /// The enrolled pods.
    pub pods: Vec<String>,
    /// Requests by path.
    pub requests: Requests,
    /// Connections by outcome.
    pub connections: BTreeMap<String, u64>,
    /// Upstream connections that the kernel owns.
    pub upstreams: u64,
    /// Client connections that have an anchor.
    pub anchors: u64,
    /// Upstream slots by state, and what is wrong with them.
    #[serde(default)]
    pub leases: Leases,
    /// What each pod has of what all share.
    #[serde(default)]
    pub shares: Vec<Share>,
}

/// What a pod has of what all pods of the node share, and how often it was refused more of it because it has its share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The pod's name.
    pub pod: String,
    /// Anchored connections in the kernel's tables.
    pub connections: u64,
    /// Connections that were closed again.
    pub connections_refused: u64,
    /// Upstream slots.
    pub upstreams: u64,
    /// Upstream connections that stayed in user space.
    pub upstreams_refused: u64,
    /// Descriptors of anchored connections.
    pub descriptors: u64,
    /// Connections that were closed again for want of a descriptor.
    pub descriptors_refused: u64,
}

impl Share {
    /// Whether the pod was refused anything.
    pub fn is_limited(&self) -> bool {
        self.connections_refused + self.upstreams_refused + self.descriptors_refused > 0
    }
}

/// What became of the lines of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCounts {
    /// Lines that were written.
    pub written: u64,
    /// Lines that nobody read fast enough.
    pub dropped: u64,
    /// Lines that could not be written.
    pub failed: u64,
    /// Why the last of those could not.
    pub error: Option<String>,
}

/// Upstream slots by state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// In a pool.
    pub free: u64,
    /// Leased to a client.
    pub leased: u64,
    /// Leased, and the response is relayed.
    pub relayed: u64,
    /// About to be closed.
    pub retired: u64,
    /// Being opened or used in user space.
    pub user: u64,
    /// Of the leased ones: whose client is gone while the server has not noticed yet, or not here yet.
    pub abandoned: u64,
    /// Slots that were found wrong since the start, and ended; 0 unless the datapath has a defect.
    #[serde(default)]
    pub wrong: u64,
    /// What was wrong with the first of them: leases lost, held twice or held by nobody.
    pub violations: Vec<String>,
}

/// Requests since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Finished in the kernel.
    pub kernel: u64,
    /// Finished in user space.
    pub user: u64,
    /// The user-space ones by reason; `pinned` are those that followed on a connection which the kernel had given up.
    pub by_reason: BTreeMap<String, u64>,
    /// The kernel ones: to servers on this node.
    pub local: u64,
    /// The kernel ones: through TCP.
    pub remote: u64,
    /// Exchanges that lost their server or their client on the way, and requests that were refused to their senders.
    pub broken: BTreeMap<String, u64>,
}

impl Requests {
    /// Sorts the kernel's counters into requests.
    ///
    /// A relayed response counts as finished in user space, although its request went through the kernel.
    pub fn from_counts(counts: &[(Reason, u64)]) -> Self {
        let mut requests = Self::default();
        for &(reason, count) in counts {
            let name = || reason.name().to_owned();
            match reason {
                Reason::Local => requests.local = count,
                Reason::Remote => requests.remote = count,
                Reason::UpstreamGone
                | Reason::ClientGone
                | Reason::WaitingFull
                | Reason::SlotWrong => {
                    requests.broken.insert(name(), count);
                }
                Reason::Pinned
                | Reason::Opaque
                | Reason::OpaqueRefused
                | Reason::Anchored
                | Reason::AnchorRefused
                | Reason::AnchorFull
                | Reason::OverShare
                | Reason::ClientsFull => {}
                _ => {
                    requests.user += count;
                    requests.by_reason.insert(name(), count);
                }
            }
        }
        let relayed = requests
            .by_reason
            .get(Reason::Relayed.name())
            .copied()
            .unwrap_or(0);
        requests.kernel = (requests.local + requests.remote).saturating_sub(relayed);
        requests
    }

    /// Adds what the kernel did not see: it counts a connection that it gave up once, by the reason, and user space serves
    /// every request that follows on it (`pinned`). `served` are the requests that user space has begun.
    #[must_use]
    pub fn with_served(mut self, served: u64) -> Self {
        let relayed = Reason::Relayed.name();
        let passed = self.user - self.by_reason.get(relayed).copied().unwrap_or(0);
        let unseen = served.saturating_sub(passed);
        if unseen > 0 {
            self.user += unseen;
            let name = Reason::Pinned.name().to_owned();
            self.by_reason.insert(name, unseen);
        }
        self
    }

    /// Share of requests finished in the kernel, 0 to 1; `None` before the first request.
    pub fn kernel_share(&self) -> Option<f64> {
        let all = self.kernel + self.user;
        (all > 0).then(|| self.kernel as f64 / all as f64)
    }
}

/// Connections by outcome, from the kernel's counters.
pub fn connections(counts: &[(Reason, u64)]) -> BTreeMap<String, u64> {
    use Reason::{
        AnchorFull, AnchorRefused, Anchored, ClientsFull, Opaque, OpaqueRefused, OverShare,
    };
    let wanted = [
        Anchored,
        AnchorRefused,
        AnchorFull,
        ClientsFull,
        OverShare,
        Opaque,
        OpaqueRefused,
    ];
    let outcomes = counts.iter().filter(|(reason, _)| wanted.contains(reason));
    outcomes
        .map(|&(reason, count)| (reason.name().to_owned(), count))
        .collect()
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kmeshd {} (pid {})", self.name, self.pid)?;
        writeln!(
            f,
            "  configuration  {} generation {}",
            self.config, self.generation
        )?;
        if let Some(refused) = &self.refused {
            writeln!(f, "  refused        {refused}")?;
        }
        for down in &self.down {
            writeln!(f, "  DOWN           {down}")?;
        }
        let log = &self.log;
        if log.dropped + log.failed > 0 {
            let error = log.error.as_deref().unwrap_or("nobody reads it");
            let (dropped, failed) = (log.dropped, log.failed);
            writeln!(
                f,
                "  LOG            {dropped} lines dropped, {failed} not written: {error}"
            )?;
        }
        writeln!(f, "  pods           {}", self.pods.join(" "))?;
        writeln!(f, "  upstreams      {} in the kernel", self.upstreams)?;
        let leases = &self.leases;
        writeln!(
            f,
            "  leases         {} free, {} leased, {} relayed, {} retired, {} in user space",
            leases.free, leases.leased, leases.relayed, leases.retired, leases.user
        )?;
        for share in self.shares.iter().filter(|share| share.is_limited()) {
            writeln!(
                f,
                "  over its share {}: {} connections, {} refused; {} upstreams, {} refused; {} descriptors, {} refused",
                share.pod,
                share.connections,
                share.connections_refused,
                share.upstreams,
                share.upstreams_refused,
                share.descriptors,
                share.descriptors_refused
            )?;
        }
        for violation in &leases.violations {
            writeln!(f, "  VIOLATION      {violation}")?;
        }
        writeln!(f, "  anchors        {}", self.anchors)?;
        for (outcome, count) in &self.connections {
            writeln!(f, "  connections    {outcome} {count}")?;
        }
        let requests = &self.requests;
        let share = requests
            .kernel_share()
            .map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0));
        writeln!(
            f,
            "  requests       {} in the kernel ({share})",
            requests.kernel
        )?;
        writeln!(
            f,
            "                 {} local, {} remote",
            requests.local, requests.remote
        )?;
        writeln!(f, "                 {} in user space", requests.user)?;
        for (reason, count) in requests.by_reason.iter().filter(|(_, count)| **count > 0) {
            writeln!(f, "                   {reason} {count}")?;
        }
        for (reason, count) in requests.broken.iter().filter(|(_, count)| **count > 0) {
            writeln!(f, "                 {reason} {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_lands_in_one_place() {
        let counts: Vec<(Reason, u64)> = Reason::ALL.iter().map(|&reason| (reason, 10)).collect();
        let requests = Requests::from_counts(&counts);
        assert_eq!(requests.local, 10);
        assert_eq!(
            requests.kernel, 10,
            "two kernel paths minus the relayed responses"
        );
        assert_eq!(requests.by_reason.values().sum::<u64>(), requests.user);
        assert_eq!(
            requests.by_reason.len() + requests.broken.len() + 2 + 8,
            Reason::ALL.len()
        );
        assert_eq!(connections(&counts).len(), 7);
    }

    #[test]
    fn requests_on_a_connection_that_the_kernel_gave_up_count_too() {
        let counts = [
            (Reason::Local, 10),
            (Reason::HeadTooLong, 2),
            (Reason::Relayed, 3),
        ];
        let requests = |served| Requests::from_counts(&counts).with_served(served);
        // Two connections, eight requests; the relayed responses never came to user space's server.
        let many = requests(8);
        assert_eq!(
            (many.kernel, many.user, many.by_reason["pinned"]),
            (7, 11, 6)
        );
        // One of the two is still on its way.
        let few = requests(1);
        assert_eq!((few.user, few.by_reason.get("pinned")), (5, None));
    }

    #[test]
    fn share_of_nothing_is_not_a_number() {
        assert_eq!(Requests::default().kernel_share(), None);
    }
}
