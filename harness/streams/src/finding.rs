//! What the checker found out: the count of what was compared, and each thing that is not as planned.

use serde::{Deserialize, Serialize};

use crate::plan::Number;

/// Most findings that are kept; one is enough to fail, the others help to understand it.
pub const KEPT: usize = 20;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A byte is lost, doubled, moved, foreign or invented, or a message reached a server that it must not reach.
    Wrong,
    /// A message got no answer or not the planned one: an error status, a reset, a hang.
    Broken,
}

/// One thing that is not as planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub kind: Kind,
    /// Who noticed: `client`, or a server's name.
    pub by: String,
    /// The step, with which seed and plan reproduce it: the message's numbers, if they are known.
    pub step: String,
    /// What it is.
    pub what: String,
}

impl Finding {
    /// A finding about a message.
    pub fn about(kind: Kind, by: &str, number: Number, what: &impl ToString) -> Self {
        Self {
            kind,
            by: by.to_owned(),
            step: format!(
                "connection {} message {}",
                number.connection, number.message
            ),
            what: what.to_string(),
        }
    }
}

/// Everything counted, by one side or by both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Connections that were opened.
    pub connections: u64,
    /// Messages whose answer came as planned, to the last byte.
    pub messages: u64,
    /// Those that were sent while an earlier one was on its way.
    pub pipelined: u64,
    /// Those with a chunked request or answer.
    pub chunked: u64,
    /// Those with a body of more than 64 KiB.
    pub large: u64,
    /// Requests that a server's announced close left unanswered; they were never begun.
    pub withdrawn: u64,
    /// Bytes that the client sent.
    pub bytes_sent: u64,
    /// Bytes that the client received.
    pub bytes_received: u64,
    /// Findings of kind [`Kind::Wrong`].
    pub wrong: u64,
    /// Findings of kind [`Kind::Broken`].
    pub broken: u64,
    /// The first [`KEPT`] findings.
    pub findings: Vec<Finding>,
}

impl Tally {
    /// Notes a finding.
    pub fn find(&mut self, finding: Finding) {
        match finding.kind {
            Kind::Wrong => self.wrong += 1,
            Kind::Broken => self.broken += 1,
        }
        if self.findings.len() < KEPT {
            self.findings.push(finding);
        }
    }

    /// Adds what another part counted.
    pub fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.messages += other.messages;
        self.pipelined += other.pipelined;
        self.chunked += other.chunked;
        self.large += other.large;
        self.withdrawn += other.withdrawn;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.wrong += other.wrong;
        self.broken += other.broken;
        let room = KEPT.saturating_sub(self.findings.len());
        self.findings.extend(other.findings.into_iter().take(room));
    }
}
