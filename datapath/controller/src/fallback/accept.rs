//! Accepting anchored connections, and the HTTP servers on them.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kmesh_api::Address;
use kmesh_api::pod::{Anchored, AnchoredKey};
use kmesh_config::model::{ListenerKind, Sniffed};
use kmesh_config::policy::Codec;
use kmesh_orchestration::listener;
use nix::sys::resource::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::anchor::{Anchor, HEAD_MAX};
use super::front::Gate;
use super::listening::{is_listening, listen_again};
use super::peek::peek;
use super::plan::options;
use super::serve::Session;
use super::sniff::sniff;
use super::spill::is_spilled;
use super::stream::Stream;
use super::tunnel::tunnel;
use super::upgrade::join;
use crate::buffers::Buffers;
use crate::generation::Generation;
use crate::node::Node;
use crate::pods::Pod;
use crate::shares::Held;
use crate::splice;
use crate::upstream::abandon;

/// How long accepting rests after a failure: descriptors do not come back by asking at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Descriptors that clients leave to the daemon: for its control sockets, its files and pods to come.
const RESERVED: u64 = 32;

/// Accepts anchored connections for `pod` until it accepts no more, or the task is aborted.
pub async fn accept(node: Arc<Node>, pod: Arc<Pod>, mut listener: Arc<TcpListener>) {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    // The connections end with this task: a pod that is released has no mesh any more.
    let mut connections = JoinSet::new();
    let at = listener.local_addr();
    loop {
        match listener.accept().await {
            // The lowest free number is given out, so one this high says that there are few left.
            Ok((socket, _)) if socket.as_raw_fd() as u64 >= limit.saturating_sub(RESERVED) => {
                if let Some(before) = pod.misconduct.allows() {
                    warn!(
                        pod = pod.spec().name,
                        before,
                        "anchored connections are closed: no descriptors are left for clients"
                    );
                }
            }
            Ok((socket, client)) => {
                if let Some(connection) = begin(&node, &pod, socket, client) {
                    connections.spawn(connection);
                }
                while connections.try_join_next().is_some() {}
            }
            Err(_) if !pod.accepts() => return,
            Err(error) => {
                // Out of descriptors or memory, or the client is gone again: others can still be accepted, later.
                if let Some(before) = pod.misconduct.allows() {
                    warn!(pod = pod.spec().name, %error, before, "anchored connections are lost");
                }
                match &at {
                    Ok(at) if !is_listening(&listener) => {
                        let Some(again) = listen_again(&node, &pod, &listener, at.ip()).await
                        else {
                            return;
                        };
                        listener = again;
                    }
                    _ => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        }
    }
}

/// Keeps an anchor findable while its connection lives.
struct Registered {
    node: Arc<Node>,
    cookie: u64,
}

impl Registered {
    fn new(node: &Arc<Node>, anchor: &Arc<Anchor>) -> Self {
        node.anchors().enter(anchor);
        Self {
            node: Arc::clone(node),
            cookie: anchor.cookie,
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.node.anchors().remove(self.cookie);
        abandon(&self.node, self.cookie);
        // The kernel removes these when the client closes, but an answer may have been published after that.
        let mut datapath = self.node.datapath();
        let _ = datapath.answered.remove(&self.cookie);
        let _ = datapath.waiting.remove(&self.cookie);
        let _ = datapath.spilled.remove(&self.cookie);
    }
}

/// Has the entries of a spliced connection forgotten when its anchor closes.
struct Spliced {
    node: Arc<Node>,
    key: AnchoredKey,
    told: Anchored,
    local: io::Result<Address>,
}

impl Drop for Spliced {
    fn drop(&mut self) {
        if let Ok(local) = self.local {
            splice::forget(&self.node, self.key, self.told, local);
        }
    }
}

/// What keeps an accepted connection's entries: in the order in which they are given up.
struct Kept {
    _spliced: Option<Spliced>,
    _registered: Registered,
    _descriptor: Held,
}

/// Registers an accepted connection at once, so that it ends with its pod, and returns what serves it; `None` if it is refused.
fn begin(
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    socket: TcpStream,
    client: SocketAddr,
) -> Option<impl Future<Output = ()> + use<>> {
    let key = AnchoredKey {
        pod: pod.index,
        client: client.into(),
    };
    let Some(descriptor) = node.descriptors.take(pod.index) else {
        // Its connections must not take the descriptors of others'. Counted by pod.
        debug!(pod = pod.spec().name, %client, "refused a connection over the pod's share of descriptors");
        return None;
    };
    let anchored = node.datapath().anchored.get(&key, 0);
    let Ok(anchored) = anchored else {
        // Not sent here by the mesh: something in the pod connected to the anchor itself.
        debug!(pod = pod.spec().name, %client, "refused a connection that was not anchored");
        return None;
    };
    if let Err(error) = socket
        .set_nodelay(true)
        .and_then(|()| Buffers::ANCHOR.fix(&socket))
    {
        debug!(%client, %error, "socket options");
    }
    let anchor = Arc::new(Anchor::new(
        anchored.cookie,
        pod.index,
        anchored.original.into(),
        socket,
    ));
    let kept = Kept {
        _spliced: pod.spliced.then(|| Spliced {
            node: Arc::clone(node),
            key,
            told: anchored,
            local: anchor.socket().local_addr().map(Address::from),
        }),
        _registered: Registered::new(node, &anchor),
        _descriptor: descriptor,
    };
    let session = Arc::new(Session {
        node: Arc::clone(node),
        pod: Arc::clone(pod),
        anchor,
        client: client.ip().to_canonical(),
        switched: Mutex::default(),
        orders: Arc::default(),
    });
    Some(async move {
        let _kept = kept;
        serve(session).await;
    })
}

/// Serves an anchored connection until it ends.
async fn serve(session: Arc<Session>) {
    let (node, anchor) = (&session.node, &session.anchor);
    let client = session.client;
    let generation = node.generation();
    let options = generation
        .as_ref()
        .and_then(|generation| options(generation, anchor.original));
    let (codec, streams) = options.map_or((Codec::Auto, None), |options| {
        (options.codec, options.max_concurrent_streams)
    });
    if let Some(generation) = &generation
        && let Some(sniffed) = sniffed(generation, anchor.original)
    {
        let Some(seen) = sniff(anchor.socket()).await else {
            return;
        };
        match sniffed.chain(&seen) {
            ListenerKind::Http(_) => {}
            ListenerKind::Tcp(choices) => {
                let client = stream(&session);
                return tunnel(&session, generation, choices, client).await;
            }
            _ => return,
        }
    }
    let http2 = match codec {
        Codec::Http1 => false,
        Codec::Http2 => true,
        Codec::Auto => {
            begins_with_preface(anchor.socket()).await && !is_spilled(&session.node, anchor.cookie)
        }
    };
    let served = if http2 {
        serve_http2(session, streams).await
    } else {
        serve_http1(session).await
    };
    if let Err(error) = served {
        debug!(%client, %error, "an anchored connection ended early");
    }
}

/// The chains among which a connection's first bytes choose, if the listener has several.
fn sniffed(generation: &Generation, original: SocketAddr) -> Option<&Sniffed> {
    let number = listener::find(&generation.image, &original.into())?;
    generation.policies.sniffed.get(&number)
}

/// What HTTP/2 clients begin with (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether the client begins as HTTP/2 clients do that know what they talk to (RFC 9113 section 3.4). Reads nothing.
async fn begins_with_preface(socket: &TcpStream) -> bool {
    let mut begin = [0; PREFACE.len()];
    let decide = |begin: &[u8]| {
        let may = PREFACE.starts_with(begin);
        (!may || begin.len() == PREFACE.len()).then_some(may)
    };
    // Of an end or an error the HTTP/1.1 server sees the same and knows what to do.
    (peek(socket, &mut begin, decide).await).unwrap_or(false)
}

fn stream(session: &Session) -> Stream {
    Stream::new(Arc::clone(&session.anchor), Arc::clone(&session.node))
}

async fn serve_http1(session: Arc<Session>) -> hyper::Result<()> {
    let service = service_fn(|request| Box::pin(Arc::clone(&session).serve(request)));
    let gate = Gate::new(stream(&session), Arc::clone(&session.orders));
    let mut connection = http1::Builder::new()
        .auto_date_header(false)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(gate), service);
    let served = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let switched = session
        .switched
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    match switched {
        Some(upstream) if served.is_ok() => join(connection.into_parts(), upstream).await,
        _ => {
            session.anchor.finish();
            if session.orders.is_deaf() {
                session.anchor.forget_unread().await;
            }
        }
    }
    served
}

async fn serve_http2(session: Arc<Session>, streams: Option<u32>) -> hyper::Result<()> {
    let io = TokioIo::new(stream(&session));
    let service = service_fn(move |request| Arc::clone(&session).serve(request));
    let mut server = http2::Builder::new(TokioExecutor::new());
    if let Some(most) = streams {
        server.max_concurrent_streams(most);
    }
    server
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_header_list_size(HEAD_MAX as u32)
        .serve_connection(io, service)
        .await
}
