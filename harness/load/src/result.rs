//! What one block of load showed: the output of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::distribution::Distribution;

/// Result of one block.
///
/// A request belongs to the block if it fell due (open loop) or was started (closed loop) after the
/// warm-up and before the end. The generator waits for the answers of all of them, so
/// `sent == ok + wrong() + errors()` always holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockResult {
    /// Start of the measured part, nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// Length of the measured part in seconds, without warm-up and without waiting for the last answers.
    pub duration_s: f64,
    /// Offered rate in requests per second; null in a closed loop.
    pub offered_rps: Option<f64>,
    /// Complete answers received within the measured part, per second.
    pub achieved_rps: f64,
    /// CPU time that the generator burnt on polls that found nothing, microseconds, warm-up included. Whoever charges the
    /// generator's CPU time to requests takes it off first.
    pub spun_us: u64,
    /// Requests started, those whose connection attempt failed included.
    pub sent: u64,
    /// Answers that were right in every respect.
    pub ok: u64,
    /// Open loop: requests that fell due and found no free connection before the end.
    pub dropped: u64,
    /// Answers from a server that the class does not expect, or that does not say who it is.
    pub wrong_decisions: u64,
    /// Answers with another status than the class expects.
    pub wrong_status: u64,
    /// Answers to another request: `x-request-seq` differs, or is missing and was required.
    pub wrong_seq: u64,
    /// Bodies that are not what the class expects, or a request body that arrived damaged (`x-body-hash`).
    pub wrong_body: u64,
    /// Bytes that no request asked for: after the end of an answer, or on a connection at rest.
    pub stray_bytes: u64,
    /// Requests without a complete answer, by cause.
    pub errors: BTreeMap<ErrorKind, u64>,
    /// Answers by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers by request class and by server; the empty name stands for an answer without one.
    pub served_by: BTreeMap<String, BTreeMap<String, u64>>,
    /// Connections opened during the block, those between blocks excluded.
    pub connects: u64,
    /// Bytes written to sockets for the requests of this block.
    pub bytes_out: u64,
    /// Bytes read from sockets for the requests of this block.
    pub bytes_in: u64,
    /// Latency distributions.
    pub latency: Latency,
    /// The first few wrong answers and errors, in words.
    pub examples: Vec<String>,
}

impl BlockResult {
    /// Answers that were complete but wrong; each is counted under its first failed check only, in the
    /// order decision, seq, status, body.
    pub fn wrong(&self) -> u64 {
        self.wrong_decisions + self.wrong_status + self.wrong_seq + self.wrong_body
    }

    /// Requests without a complete answer.
    pub fn errors(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Latency distributions of the requests that got a complete answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// From the actual start of a request (its connect, if it needs one) to the last byte of its answer.
    pub service: Distribution,
    /// From the moment a request was due to the last byte: corrected for coordinated omission. A dropped
    /// request counts with the time it had waited when the block ended, which is less than it would have
    /// taken. Empty in a closed loop, where nothing is ever due.
    pub intended: Distribution,
    /// From the start of a connect to its completion; one value per connection opened in the block.
    pub connect: Distribution,
    /// From writing the request to the first byte of the answer.
    pub first_byte: Distribution,
    /// Open loop: how late the generator itself was, from the moment a request was due *and* a
    /// connection was free to the moment it started.
    pub lag: Distribution,
}

/// Why a request has no complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Nobody listens at the target.
    ConnectRefused,
    /// The connection could not be opened for another reason (no route, no local port, ...).
    ConnectFailed,
    /// The connection was reset.
    Reset,
    /// The connection was closed before the answer was complete.
    Closed,
    /// No complete answer within the plan's timeout.
    Timeout,
    /// The answer is not HTTP/1.x, or its framing is broken.
    Parse,
    /// Any other socket error.
    Io,
}

impl ErrorKind {
    /// Every kind, in the order of the JSON.
    pub const ALL: [Self; 7] = [
        Self::ConnectRefused,
        Self::ConnectFailed,
        Self::Reset,
        Self::Closed,
        Self::Timeout,
        Self::Parse,
        Self::Io,
    ];

    /// The name used in JSON and in text.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect_refused",
            Self::ConnectFailed => "connect_failed",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Parse => "parse",
            Self::Io => "io",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_name_of_an_error_is_its_text_name() {
        for kind in ErrorKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
