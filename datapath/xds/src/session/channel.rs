//! What a session keeps for one type of resources.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::brake::Brake;

/// An ACK, or a NACK with its text, and when it may be sent.
#[derive(Debug)]
pub(super) struct Pending {
    pub nonce: String,
    pub error: Option<String>,
    pub at: Instant,
}

/// One type's subscription and answers.
#[derive(Debug, Default)]
pub(super) struct Channel {
    // Of the present stream.
    /// Whether it was asked for on this stream.
    pub asked: bool,
    /// Names that the control plane knows this stream wants.
    pub told: Arc<BTreeSet<String>>,
    /// Nonce of the last response.
    pub nonce: String,
    pub answers: VecDeque<Pending>,
    pub brake: Brake,
    // Of the session.
    /// Whether any response to it was taken, ever.
    pub served: bool,
    /// Version of the last response without a refused resource.
    pub accepted: String,
    /// Whether responses of this control plane have versions.
    pub versioned: bool,
    /// Names that a response without a version removed.
    pub doubted: BTreeSet<String>,
    pub heard: Option<Instant>,
    pub responses: u64,
    pub nacks: u64,
    pub unasked: u64,
    pub unversioned: u64,
    pub repeated_before: u64,
    pub refused: Option<String>,
}

impl Channel {
    /// A stream begins; returns whether the stream before it had asked for this type.
    pub(super) fn begin(&mut self) -> bool {
        self.told = Arc::default();
        self.nonce.clear();
        self.answers.clear();
        self.doubted.clear();
        self.repeated_before += std::mem::take(&mut self.brake).repeated();
        std::mem::take(&mut self.asked)
    }

    /// Notes the answer to a response.
    pub(super) fn answer(
        &mut self,
        nonce: &str,
        version: &str,
        error: Option<String>,
        at: Instant,
        now: Instant,
    ) {
        nonce.clone_into(&mut self.nonce);
        self.heard = Some(now);
        self.responses += 1;
        self.refused.clone_from(&error);
        if error.is_some() {
            self.nacks += 1;
        } else {
            version.clone_into(&mut self.accepted);
        }
        self.answers.push_back(Pending {
            nonce: nonce.to_owned(),
            error,
            at,
        });
    }

    pub(super) fn next_answer(&self) -> Option<Instant> {
        self.answers.front().map(|answer| answer.at)
    }

    /// The oldest answer, if it may be sent now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Pending> {
        self.next_answer().filter(|at| *at <= now)?;
        self.answers.pop_front()
    }
}
