//! A client's session and a control plane's conversation in one process, under a clock of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kmesh_xds::session::{Request, Response};
use kmesh_xds::{Answer, Decoder, Identity, Judge, Kind, Protocol, Resource, Session, Snapshot};

use crate::{Conversation, Quirks, World};

/// Changes or drops a request on its way: how a case is shown to notice a client that is wrong.
pub type Sabotage = fn(Request) -> Option<Request>;

/// Client and control plane.
pub struct Link {
    /// The client.
    pub session: Session,
    /// The control plane's side, while a stream is open.
    pub conversation: Option<Conversation>,
    /// What the control plane has.
    pub world: World,
    /// What it does wrong, on this stream and those to come.
    pub quirks: Quirks,
    /// Every snapshot that the client gave.
    pub snapshots: Vec<Snapshot>,
    /// The resources that the client's reader refuses.
    pub refuses: Vec<(Kind, String)>,
    /// What becomes of requests on their way.
    pub sabotage: Option<Sabotage>,
    /// Requests of all streams.
    pub requests: Vec<Request>,
    now: Instant,
    streams: u64,
}

struct Refusing<'a>(&'a [(Kind, String)]);

impl Judge for Refusing<'_> {
    fn judge(&self, resource: &Resource) -> Answer {
        if self
            .0
            .iter()
            .any(|(kind, name)| *kind == resource.kind() && name == resource.name())
        {
            let reasons = vec!["lb_policy: MAGLEV is refused by the test".to_owned()];
            return Answer::Refused { reasons };
        }
        Answer::Taken { inert: Vec::new() }
    }
}

/// The pod that streams speak for.
pub fn identity() -> Identity {
    Identity {
        pod: "productpage-v1-0".to_owned(),
        namespace: "default".to_owned(),
        addresses: vec!["10.244.0.10".to_owned()],
        labels: [("app", "productpage"), ("version", "v1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        service_account: "bookinfo-productpage".to_owned(),
        node_name: "node1".to_owned(),
        cluster_id: "Kubernetes".to_owned(),
        locality: String::new(),
    }
}

impl Link {
    /// A client that has not connected.
    pub fn new(protocol: Protocol, world: World) -> Self {
        Self {
            session: Session::new(protocol, &identity(), Arc::new(Decoder::default())),
            conversation: None,
            world,
            quirks: Quirks::default(),
            snapshots: Vec::new(),
            refuses: Vec::new(),
            sabotage: None,
            requests: Vec::new(),
            now: Instant::now(),
            streams: 0,
        }
    }

    /// The present moment on this link's clock.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A stream opens, and all is said that there is to say.
    pub fn connect(&mut self) {
        self.open();
        self.settle(Vec::new());
    }

    /// A stream opens; nothing is said yet.
    pub fn open(&mut self) {
        self.streams += 1;
        let conversation =
            Conversation::new(self.session.protocol(), self.quirks.clone(), self.streams);
        self.conversation = Some(conversation);
        self.session.connected(self.now);
    }

    /// The stream ends.
    pub fn disconnect(&mut self, why: &str) {
        self.conversation = None;
        self.session.disconnected(self.now, why);
    }

    /// A new client takes the place of the old one, which knew everything.
    pub fn restart_client(&mut self) {
        let protocol = self.session.protocol();
        self.conversation = None;
        self.session = Session::new(protocol, &identity(), Arc::new(Decoder::default()));
    }

    /// The control plane pushes its present state, and all is said that there is to say.
    pub fn push(&mut self) {
        let responses = self.conversation.as_mut().map(|it| {
            it.set_quirks(self.quirks.clone());
            it.push(&self.world)
        });
        self.settle(responses.unwrap_or_default());
    }

    /// Delivers these responses, and all that follows.
    pub fn settle(&mut self, responses: Vec<Response>) {
        let mut responses: VecDeque<Response> = responses.into();
        loop {
            while let Some(request) = self.session.poll_transmit(self.now) {
                self.requests.push(request.clone());
                let request = self
                    .sabotage
                    .map_or(Some(request.clone()), |sabotage| sabotage(request));
                if let (Some(request), Some(conversation)) = (request, &mut self.conversation) {
                    responses.extend(conversation.request(request, &self.world));
                }
            }
            self.snapshots.extend(self.session.poll_snapshot());
            let Some(response) = responses.pop_front() else {
                return;
            };
            let refuses = self.refuses.clone();
            self.session
                .received(response, &Refusing(&refuses), self.now);
        }
    }

    /// Lets time pass, timer by timer.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.session.tick(self.now);
            self.settle(Vec::new());
            if self
                .session
                .poll_timeout()
                .is_some_and(|next| next <= self.now)
            {
                break;
            }
        }
        self.now = end;
        self.session.tick(end);
        self.settle(Vec::new());
    }

    /// The last snapshot; empty if there was none.
    pub fn last(&self) -> Snapshot {
        self.snapshots.last().cloned().unwrap_or_default()
    }
}
