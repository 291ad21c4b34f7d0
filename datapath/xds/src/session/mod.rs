//! The xDS protocol of one identity without I/O: it is told of responses, of streams that begin and end, and of time;
//! it says what to send and when. It outlives its streams: what was served stays in force while no control plane answers.
//!
//! Order: clusters are asked for first, their endpoints next, listeners once no cluster waits for its endpoints, their
//! routes last; where clusters never come, listeners are asked for after [`PATIENCE`]. A stream after the first asks for all at once, with the versions that are held, and nothing changes until
//! the control plane has answered for every type (or [`RESYNC`] has passed): no state is in force that is half one
//! control plane's and half another's.

mod channel;
mod delta;
mod incoming;
mod sotw;
mod status;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use incoming::Response;
pub use status::{KindStatus, Status};

use crate::needs::PATIENCE;
use crate::resource::Decoder;
use crate::store::{Answer, Judge, Store};
use crate::{Identity, Kind, Snapshot, wire};
use channel::Channel;
use incoming::Incoming;

/// How long a new stream's first answers are awaited before those that came take effect by themselves.
pub const RESYNC: Duration = Duration::from_millis(500);
/// Bytes of a NACK's text at most: it goes into the control plane's log and status.
pub const NACK_MAX: usize = 4096;

/// The two forms of the aggregated discovery service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `StreamAggregatedResources`: each response is the state of the world.
    Sotw,
    /// `DeltaAggregatedResources`: each response is what changed.
    Delta,
}

/// What to send next.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// On a stream of state-of-the-world responses.
    Sotw(wire::DiscoveryRequest),
    /// On a stream of changes.
    Delta(wire::DeltaDiscoveryRequest),
}

/// The protocol's state for one identity.
#[derive(Debug)]
pub struct Session {
    protocol: Protocol,
    node: wire::Node,
    decoder: Arc<Decoder>,
    store: Store,
    channels: [Channel; 4],
    stream: Option<Stream>,
    /// Whether a snapshot was given: later ones need not be complete.
    begun: bool,
    warm_next: Option<Instant>,
    lost: Option<(Instant, String)>,
    strays: u64,
    control_plane: String,
}

/// One stream's life.
#[derive(Debug)]
struct Stream {
    since: Instant,
    /// Whether the first request, which introduces the node, was sent.
    introduced: bool,
    /// Kinds whose first answer is awaited before a snapshot is given.
    awaited: Vec<Kind>,
}

impl Session {
    /// A session that has asked for nothing yet. Sessions that share a decoder share equal resources.
    pub fn new(protocol: Protocol, identity: &Identity, decoder: Arc<Decoder>) -> Self {
        Self {
            protocol,
            node: identity.node(),
            decoder,
            store: Store::default(),
            channels: Default::default(),
            stream: None,
            begun: false,
            warm_next: None,
            lost: None,
            strays: 0,
            control_plane: String::new(),
        }
    }

    /// What was served so far.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Which form of the protocol it speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// A stream began: everything is asked for anew, with nothing of the former stream but the versions held.
    pub fn connected(&mut self, now: Instant) {
        let mut awaited = Vec::new();
        for kind in Kind::ALL {
            if self.channels[kind.index()].begin() {
                awaited.push(kind);
            }
            self.drop_unwanted(kind);
        }
        self.store.forget_absent();
        if !self.begun {
            awaited.clear();
        }
        self.stream = Some(Stream {
            since: now,
            introduced: false,
            awaited,
        });
    }

    /// The stream ended, with an error or without one. What is in force stays so.
    pub fn disconnected(&mut self, now: Instant, why: &str) {
        self.stream = None;
        let since = self.lost.as_ref().map_or(now, |(since, _)| *since);
        self.lost = Some((since, why.to_owned()));
    }

    /// A response came on the stream.
    pub fn received(&mut self, response: Response, judge: &dyn Judge, now: Instant) {
        if self.stream.is_none() {
            return;
        }
        self.lost = None;
        match Incoming::read(response, &self.decoder) {
            Ok(incoming) => self.apply(&incoming, judge, now),
            // Nobody asked for it, so nobody can accept or refuse it.
            Err(_type_url) => self.strays += 1,
        }
    }

    /// The next request to send now, if any; to be asked until there is none.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Request> {
        self.stream.as_ref()?;
        for kind in Kind::ALL {
            if !self.channels[kind.index()].asked && !self.may_ask(kind, now) {
                continue;
            }
            let request = match self.protocol {
                Protocol::Sotw => self.sotw_request(kind, now).map(Request::Sotw),
                Protocol::Delta => self.delta_request(kind, now).map(Request::Delta),
            };
            if request.is_some() {
                return request;
            }
        }
        None
    }

    /// When [`Session::tick`] and [`Session::poll_transmit`] have to be called again although nothing came.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stream = self.stream.as_ref();
        let answers = self.channels.iter().filter_map(Channel::next_answer);
        let answers = answers.filter(|_| stream.is_some());
        let listeners = stream
            .filter(|_| !self.channels[Kind::Listener.index()].asked)
            .map(|stream| stream.since + PATIENCE);
        let resync = stream
            .filter(|stream| !stream.awaited.is_empty())
            .map(|stream| stream.since + RESYNC);
        answers
            .chain(self.warm_next)
            .chain(listeners)
            .chain(resync)
            .min()
    }

    /// Lets time pass: what has waited long enough goes into force.
    pub fn tick(&mut self, now: Instant) {
        self.warm_next = self.store.warm(now);
        let stream = self.stream.as_mut();
        if let Some(stream) = stream.filter(|stream| now >= stream.since + RESYNC) {
            stream.awaited.clear();
        }
    }

    /// The state in force, if it is another one than the last time, and whole.
    pub fn poll_snapshot(&mut self) -> Option<Snapshot> {
        let awaited = self
            .stream
            .as_ref()
            .is_some_and(|stream| !stream.awaited.is_empty());
        if awaited || !self.store.changed() || !(self.begun || self.is_complete()) {
            return None;
        }
        self.begun = true;
        self.store.take_changed();
        Some(self.store.snapshot())
    }

    /// Whether clusters and listeners were served, and none of them waits for what it needs.
    pub fn is_complete(&self) -> bool {
        [Kind::Cluster, Kind::Listener]
            .into_iter()
            .all(|kind| self.channels[kind.index()].served && self.store.is_warm(kind))
    }

    fn may_ask(&mut self, kind: Kind, now: Instant) -> bool {
        match kind {
            Kind::Cluster => true,
            Kind::Endpoints | Kind::Routes => !self.store.wanted(kind).is_empty(),
            Kind::Listener => {
                let channel = &self.channels[kind.index()];
                let clusters = &self.channels[Kind::Cluster.index()];
                let stream = self.stream.as_ref();
                channel.served
                    || (clusters.served && self.store.is_warm(Kind::Cluster))
                    || stream.is_some_and(|stream| now >= stream.since + PATIENCE)
            }
        }
    }

    fn apply(&mut self, incoming: &Incoming, judge: &dyn Judge, now: Instant) {
        let kind = incoming.kind;
        if !incoming.control_plane.is_empty() {
            incoming.control_plane.clone_into(&mut self.control_plane);
        }
        let channel = &mut self.channels[kind.index()];
        let at = channel.brake.answer_at(incoming.content, now);
        // Istiod serves a state without a version when it could not read its own configuration: an empty mesh.
        let problems = if incoming.version.is_empty() && channel.versioned {
            channel.unversioned += 1;
            channel.doubted.extend(incoming.removed.iter().cloned());
            vec![format!(
                "the response has no version, those before had: taken for a fault of the control plane, {} kept as it was",
                kind.service()
            )]
        } else {
            self.take(incoming, judge)
        };
        let error = (!problems.is_empty()).then(|| nack_text(&problems));
        self.channels[kind.index()].answer(&incoming.nonce, &incoming.version, error, at, now);
        if let Some(stream) = &mut self.stream {
            stream.awaited.retain(|awaited| *awaited != kind);
        }
        self.tick(now);
    }

    /// Takes what is good of a response; says what is not.
    fn take(&mut self, incoming: &Incoming, judge: &dyn Judge) -> Vec<String> {
        let kind = incoming.kind;
        let noun = kind.noun();
        let wanted = self.store.wanted(kind);
        let mut problems = incoming.problems.clone();
        let mut seen = BTreeSet::new();
        for item in &incoming.items {
            let name = item.name.as_str();
            if !seen.insert(name) {
                problems.push(format!(
                    "{noun} {name:?}: stands twice in one response, the first is kept"
                ));
                continue;
            }
            if !kind.wildcard() && !wanted.contains(name) {
                self.channels[kind.index()].unasked += 1;
                continue;
            }
            let answer = match &item.resource {
                Ok(resource) => judge.judge(resource),
                Err(reason) => Answer::Refused {
                    reasons: vec![reason.clone()],
                },
            };
            if let Answer::Refused { reasons } = &answer {
                problems.push(format!("{noun} {name:?}: {}", reasons.join("; ")));
            }
            self.store.put(
                kind,
                name,
                &item.version,
                item.resource.clone().ok(),
                answer,
            );
        }
        let channel = &mut self.channels[kind.index()];
        channel.served = true;
        channel.versioned |= !incoming.version.is_empty();
        let doubted = std::mem::take(&mut channel.doubted);
        let mut gone: Vec<String> = incoming.removed.iter().cloned().chain(doubted).collect();
        // What could not be named could be any of those that seem to be missing.
        if incoming.whole && incoming.problems.is_empty() {
            gone.extend(self.store.names(kind));
        }
        for name in gone.iter().filter(|name| !seen.contains(name.as_str())) {
            if kind.wildcard() {
                self.store.remove(kind, name);
            } else {
                self.store.set_absent(kind, name);
            }
        }
        problems
    }

    /// Drops what no resource needs any more; to be called when the control plane is told.
    fn drop_unwanted(&mut self, kind: Kind) {
        if kind.wildcard() {
            return;
        }
        let wanted = self.store.wanted(kind);
        for name in self.store.names(kind) {
            if !wanted.contains(&name) {
                self.store.remove(kind, &name);
            }
        }
    }

    /// The node, once on each stream.
    fn introduction(&mut self) -> Option<wire::Node> {
        let stream = self.stream.as_mut()?;
        let first = !std::mem::replace(&mut stream.introduced, true);
        first.then(|| self.node.clone())
    }
}

fn nack_text(problems: &[String]) -> String {
    let mut text = String::new();
    for (index, problem) in problems.iter().enumerate() {
        let rest = problems.len() - index;
        if index > 0 && text.len() + problem.len() > NACK_MAX {
            let _ = write!(text, "\n(and {rest} more)");
            break;
        }
        if index > 0 {
            text.push('\n');
        }
        text.push_str(problem);
    }
    if text.len() > NACK_MAX * 2 {
        text.truncate(text.floor_char_boundary(NACK_MAX * 2));
    }
    text
}

/// Whether these are the same names; nearly always they are the same allocation.
fn same(told: &Arc<BTreeSet<String>>, wanted: &Arc<BTreeSet<String>>) -> bool {
    Arc::ptr_eq(told, wanted) || told == wanted
}

/// An error detail: gRPC's `INVALID_ARGUMENT`, as Envoy sends it.
fn status(message: String) -> wire::Status {
    wire::Status { code: 3, message }
}
