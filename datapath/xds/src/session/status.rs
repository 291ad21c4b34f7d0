//! What a session can say of itself.

use std::time::{Duration, Instant};

use super::Session;
use crate::{Answer, Kind};

/// A session at one moment.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// The node id that it speaks for.
    pub node: String,
    /// What the control plane calls itself.
    pub control_plane: String,
    /// Whether a stream is open.
    pub connected: bool,
    /// For how long no control plane has answered, in seconds, and why; traffic goes by what was served before.
    pub alone: Option<(u64, String)>,
    /// Whether everything that was served has what it needs.
    pub complete: bool,
    /// Responses of types that were not asked for.
    pub strays: u64,
    /// Each type.
    pub kinds: Vec<KindStatus>,
}

/// One type of resources.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KindStatus {
    /// `CDS`, `EDS`, `LDS` or `RDS`.
    pub service: &'static str,
    /// The last version without a refused resource.
    pub accepted: String,
    /// Resources known.
    pub resources: usize,
    /// Of these, refused as last served.
    pub refused: usize,
    /// Of these, waiting for what they need.
    pub warming: usize,
    /// Names asked for that the control plane has not served.
    pub unserved: usize,
    /// Responses so far.
    pub responses: u64,
    /// Responses that were answered by a NACK.
    pub nacks: u64,
    /// The text of the last answer, if it was a NACK.
    pub last_nack: Option<String>,
    /// Responses that were the same as the one before; many of them are answered slowly.
    pub repeated: u64,
    /// Resources served that nobody had asked for.
    pub unasked: u64,
    /// Responses without a version, refused because those before had one.
    pub unversioned: u64,
    /// Seconds since the last response.
    pub silent_seconds: Option<u64>,
}

impl Session {
    /// What there is to say now.
    pub fn status(&self, now: Instant) -> Status {
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
        let lost = self.lost.as_ref();
        Status {
            node: self.node.id.clone(),
            control_plane: self.control_plane.clone(),
            connected: self.stream.is_some(),
            alone: lost.map(|(since, why)| (seconds(*since), why.clone())),
            complete: self.is_complete(),
            strays: self.strays,
            kinds: Kind::ALL.map(|kind| self.kind_status(kind, now)).to_vec(),
        }
    }

    fn kind_status(&self, kind: Kind, now: Instant) -> KindStatus {
        let channel = &self.channels[kind.index()];
        let entries = || self.store.entries(kind).map(|(_, entry)| entry);
        let unserved = channel
            .told
            .iter()
            .filter(|name| self.store.entry(kind, name).is_none());
        let heard = channel
            .heard
            .map(|heard| now.saturating_duration_since(heard));
        KindStatus {
            service: kind.service(),
            accepted: channel.accepted.clone(),
            resources: entries().count(),
            refused: entries()
                .filter(|it| matches!(it.answer(), Answer::Refused { .. }))
                .count(),
            warming: entries().filter(|it| it.warming_since().is_some()).count(),
            unserved: unserved.count(),
            responses: channel.responses,
            nacks: channel.nacks,
            last_nack: channel.refused.clone(),
            repeated: channel.repeated_before + channel.brake.repeated(),
            unasked: channel.unasked,
            unversioned: channel.unversioned,
            silent_seconds: heard.as_ref().map(Duration::as_secs),
        }
    }
}
