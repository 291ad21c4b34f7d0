//! One try of a request at an endpoint: a connection, the exchange, and what becomes of the connection afterwards.
//!
//! HTTP/1.1 connections carry one exchange at a time and are donated to the kernel when it could have carried the request;
//! HTTP/2 connections are shared by all requests of a pod to an endpoint and stay here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Parts, SendRequest};
use hyper::client::conn::http2;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kmesh_api::cluster::Endpoint;
use kmesh_api::limits::ENDPOINTS_MAX;
use kmesh_api::pool::{PoolKey, Sequences};
use kmesh_config::model::ClusterConfig;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::back::{Back, Garbled, READ_AHEAD, Turn};
use super::body::BoxError;
use super::headers::keeps_open;
use crate::generation::Generation;
use crate::node::Node;
use crate::pods::Pod;
use crate::upstream::{Breaker, Opened, Slot, Ticket, UpstreamError, donate, grow, open, reclaim};

/// A request's body as an upstream gets it.
pub(super) type Outgoing = UnsyncBoxBody<Bytes, BoxError>;

/// The task that drives an HTTP/1.1 connection; its end hands the socket back.
pub(super) type Driver = JoinHandle<hyper::Result<Parts<TokioIo<Back<TcpStream>>>>>;

/// HTTP/2 requests share a connection through clones of this.
pub type Shared = http2::SendRequest<Outgoing>;

/// Why a try gave no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection.
    #[error("remote connection failure")]
    Connect(#[source] UpstreamError),
    /// The connection could not be used for HTTP, or broke off before the response's head.
    #[error("connection termination")]
    Reset(#[source] hyper::Error),
    /// What came is no response.
    #[error("protocol error")]
    Garbled(#[source] hyper::Error),
    /// The HTTP/2 stream was refused: the request was not looked at.
    #[error("remote refused stream reset")]
    Refused(#[source] hyper::Error),
    /// The HTTP/2 stream was reset.
    #[error("remote reset")]
    StreamReset(#[source] hyper::Error),
    /// The time for one try is over.
    #[error("per-try timeout")]
    TryTimeout,
    /// A circuit breaker is open.
    #[error("overflow")]
    Overflow,
}

impl Failure {
    pub(super) fn broken(error: hyper::Error) -> Self {
        let reason = std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<h2::Error>())
            .and_then(h2::Error::reason);
        match reason {
            Some(h2::Reason::REFUSED_STREAM) => Self::Refused(error),
            Some(_) => Self::StreamReset(error),
            None if error.is_parse() || Garbled::caused(&error) => Self::Garbled(error),
            None => Self::Reset(error),
        }
    }
}

/// Where a try goes.
#[derive(Clone)]
pub(super) struct Target {
    /// The configuration that it was decided with.
    pub generation: Arc<Generation>,
    /// The cluster's index.
    pub cluster: u32,
    /// The endpoint's index.
    pub endpoint: u32,
    /// The address that the client asked for.
    pub original: SocketAddr,
    /// The client speaks HTTP/2.
    pub http2: bool,
}

impl Target {
    /// The cluster.
    pub(super) fn cluster(&self) -> &ClusterConfig {
        &self.generation.policies.clusters[self.cluster as usize]
    }

    /// The cluster's stable id.
    pub(super) fn cluster_id(&self) -> u32 {
        self.generation.names.clusters[self.cluster as usize].id
    }

    /// The endpoint's stable id.
    pub(super) fn endpoint_id(&self) -> u32 {
        self.endpoint().id
    }

    fn endpoint(&self) -> &Endpoint {
        &self.generation.image.endpoints[self.endpoint as usize & (ENDPOINTS_MAX - 1)]
    }

    /// Where it is: port 0 in the tables stands for the address that the client asked for.
    pub(super) fn address(&self) -> SocketAddr {
        match self.endpoint().address {
            address if address.port == 0 => self.original,
            address => address.into(),
        }
    }

    /// Whether it is spoken to by HTTP/2.
    pub(super) fn speaks_http2(&self) -> bool {
        let policy = &self.cluster().policy;
        policy.http2 || policy.like_client && self.http2
    }

    fn key(&self, pod: &Pod) -> PoolKey {
        PoolKey {
            pod: pod.index,
            endpoint: self.endpoint().id,
        }
    }
}

/// A user-space connection to an endpoint, between exchanges.
pub struct Idle {
    sender: SendRequest<Outgoing>,
    driver: Driver,
    turn: Turn,
    slot: Option<Slot>,
    sequences: Option<Sequences>,
    key: PoolKey,
    ticket: Ticket,
    /// How long it may be unused.
    patience: Option<Duration>,
    since: Instant,
}

impl Idle {
    /// Whether another request can be sent on it.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed() && self.expiry().is_none_or(|expiry| Instant::now() < expiry)
    }

    /// When it has been unused for too long.
    pub fn expiry(&self) -> Option<Instant> {
        self.patience.map(|patience| self.since + patience)
    }
}

/// An HTTP/1.1 connection that carries an exchange.
pub(super) struct Busy {
    idle: Idle,
    target: Target,
    pod: Arc<Pod>,
    node: Arc<Node>,
}

impl Busy {
    /// The connection's driver, for a switch of protocols: it ends when the switch is made.
    pub(super) fn into_driver(self) -> (Driver, Ticket) {
        (self.idle.driver, self.idle.ticket)
    }
}

/// What carried an exchange.
pub(super) enum Carrier {
    /// A connection of its own.
    Own(Box<Busy>),
    /// A place on a shared one.
    Shared {
        /// Its part of the limit.
        _place: Ticket,
    },
}

/// Sends the request and waits for the response's head.
///
/// # Errors
/// [`Failure`]; the request may have been sent.
pub(super) async fn send(
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    target: &Target,
    mut request: Request<Outgoing>,
) -> Result<(Response<Incoming>, Carrier), Failure> {
    let breaker = node.upstreams.breaker(pod.index, target.cluster_id());
    if target.speaks_http2() {
        let most = target.cluster().policy.max_requests;
        let place = breaker.request(most).ok_or(Failure::Overflow)?;
        let mut shared = share(node, pod, target, &breaker).await?;
        shared.ready().await.map_err(Failure::broken)?;
        let response = shared
            .send_request(request)
            .await
            .map_err(Failure::broken)?;
        return Ok((response, Carrier::Shared { _place: place }));
    }
    loop {
        let mut idle = acquire(node, pod, target, &breaker).await?;
        idle.turn.begin();
        match idle.sender.try_send_request(request).await {
            Ok(response) => {
                let busy = Busy {
                    idle,
                    target: target.clone(),
                    pod: Arc::clone(pod),
                    node: Arc::clone(node),
                };
                return Ok((response, Carrier::Own(Box::new(busy))));
            }
            // Nothing of it was sent: the connection had ended before. Envoy would not have had it in its pool any more.
            Err(mut failed) => match failed.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(Failure::broken(failed.into_error())),
            },
        }
    }
}

/// An idle connection, or a new one as soon as the circuit breaker allows it.
async fn acquire(
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    target: &Target,
    breaker: &Arc<Breaker>,
) -> Result<Idle, Failure> {
    /// The kernel does not say when it frees a connection.
    const POLL: Duration = Duration::from_millis(2);
    let key = target.key(pod);
    let cluster = target.cluster();
    let take_idle = || {
        let reusable = !cluster.policy.single_use;
        reusable.then(|| node.upstreams.take_idle(key)).flatten()
    };
    if let Some(idle) = take_idle() {
        return Ok(idle);
    }
    let _waiting = breaker
        .pending(cluster.max_pending_requests)
        .ok_or(Failure::Overflow)?;
    loop {
        let freed = breaker.freed.notified();
        if let Some(idle) = take_idle() {
            return Ok(idle);
        }
        if let Some(ticket) = breaker.connection(key.endpoint, cluster.max_connections) {
            return connect(node, pod, target, ticket).await;
        }
        // Closing a free one of the kernel's makes room.
        reclaim(node, key);
        tokio::select! {
            () = freed => {}
            () = sleep(POLL) => {}
        }
    }
}

async fn connect(
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    target: &Target,
    ticket: Ticket,
) -> Result<Idle, Failure> {
    let endpoint = target.endpoint();
    let patience = target.cluster().connect_timeout;
    let opened = open(node, pod, target.address(), endpoint.id, patience, ticket);
    let Opened {
        stream,
        slot,
        sequences,
        key,
        ticket,
    } = opened.await.map_err(Failure::Connect)?;
    let stream = Back::new(stream);
    let turn = stream.turn();
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(READ_AHEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::Reset)?;
    let driver = tokio::spawn(connection.without_shutdown());
    Ok(Idle {
        sender,
        driver,
        turn,
        slot,
        sequences,
        key,
        ticket,
        patience: target.cluster().policy.idle_timeout,
        since: Instant::now(),
    })
}

/// The pod's HTTP/2 connection to the endpoint.
async fn share(
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    target: &Target,
    breaker: &Arc<Breaker>,
) -> Result<Shared, Failure> {
    let key = target.key(pod);
    let cluster = target.cluster();
    let single_use = cluster.policy.single_use;
    let known = || (!single_use).then(|| node.upstreams.shared(key)).flatten();
    if let Some(shared) = known() {
        return Ok(shared);
    }
    let _waiting = breaker
        .pending(cluster.max_pending_requests)
        .ok_or(Failure::Overflow)?;
    // One request opens the connection, those that come meanwhile use it.
    let opening = node.upstreams.opening(key);
    let _turn = opening.lock().await;
    if let Some(shared) = known() {
        return Ok(shared);
    }
    let ticket = breaker
        .connection(key.endpoint, cluster.max_connections)
        .ok_or(Failure::Overflow)?;
    let endpoint = target.endpoint();
    let patience = cluster.connect_timeout;
    let opened = open(node, pod, target.address(), endpoint.id, patience, ticket);
    let Opened { stream, ticket, .. } = opened.await.map_err(Failure::Connect)?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::broken)?;
    let node_of_driver = Arc::clone(node);
    tokio::spawn(async move {
        let ended = connection.await;
        if let Err(error) = ended {
            tracing::debug!(%error, "an HTTP/2 upstream ended early");
        }
        if !single_use {
            node_of_driver.upstreams.forget_shared(key);
        }
        drop(ticket);
    });
    if !single_use {
        node.upstreams.keep_shared(key, sender.clone());
    }
    Ok(sender)
}

/// What to do with the connection once the response is complete.
pub(super) struct After {
    carrier: Carrier,
    reusable: bool,
    donate: bool,
}

impl After {
    /// `donate` if the kernel could have carried the request.
    pub(super) fn new(carrier: Carrier, response: &Response<Incoming>, donate: bool) -> Self {
        let single_use = match &carrier {
            Carrier::Own(busy) => busy.target.cluster().policy.single_use,
            Carrier::Shared { .. } => false,
        };
        Self {
            carrier,
            reusable: keeps_open(response.headers()) && !single_use,
            donate,
        }
    }

    /// The response is complete.
    pub(super) fn complete(self) {
        let Carrier::Own(busy) = self.carrier else {
            return;
        };
        let Busy {
            mut idle,
            target,
            pod,
            node,
        } = *busy;
        if !self.reusable || !idle.is_open() {
            return;
        }
        if !self.donate || idle.slot.is_none() {
            idle.since = Instant::now();
            let breaker = node.upstreams.breaker(pod.index, target.cluster_id());
            node.upstreams.keep_idle(idle.key, idle);
            breaker.freed.notify_waiters();
            return;
        }
        tokio::spawn(async move {
            let Idle {
                sender,
                driver,
                slot,
                sequences,
                key,
                ticket,
                patience,
                ..
            } = idle;
            // Without a sender the driver finishes and hands the socket back.
            drop(sender);
            if let Ok(Ok(Parts { io, read_buf, .. })) = driver.await
                && read_buf.is_empty()
                && let Some(stream) = io.into_inner().into_inner()
            {
                let opened = Opened {
                    stream,
                    slot,
                    sequences,
                    key,
                    ticket,
                };
                donate(&node, opened, patience);
                let breaker = node.upstreams.breaker(pod.index, target.cluster_id());
                let endpoint = target.address();
                grow(&node, &pod, endpoint, key, target.cluster(), &breaker).await;
            }
        });
    }
}
