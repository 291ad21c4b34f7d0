//! Anchors: the listening sockets inside pods where anchored connections end.
//!
//! The kernel may answer a client only when the client has read everything that user space sent (a socket's redirected
//! bytes are read before its TCP bytes). So an anchor counts what it sends and publishes the count with every complete answer:
//! before the last bytes leave, because a client's next request may come as fast as they arrive.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kmesh_api::exchange::Answered;
use kmesh_api::pod::AnchoredKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::serve::serve;
use crate::node::Node;
use crate::pods::Pod;

/// Longest head that user space reads, bytes; Envoy's `max_request_headers_kb`.
pub(super) const HEAD_MAX: usize = 64 * 1024;

/// How long accepting rests after a failure: descriptors do not come back by asking at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// One anchored client connection, seen from user space.
pub struct Anchor {
    /// The client socket's cookie.
    pub cookie: u64,
    /// The service address that the client asked for.
    pub original: SocketAddr,
    socket: TcpStream,
    /// Bytes sent so far.
    sent: AtomicU64,
    /// Requests whose answer was handed to the connection completely.
    answered: AtomicU64,
    /// What the kernel knows of `answered` and of `sent`.
    published: Mutex<Answered>,
    /// Whether the response of a kernel exchange is being relayed.
    relaying: AtomicBool,
}

impl Anchor {
    fn new(cookie: u64, original: SocketAddr, socket: TcpStream) -> Self {
        Self {
            cookie,
            original,
            socket,
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            published: Mutex::default(),
            relaying: AtomicBool::new(false),
        }
    }

    /// Says whether a response of a kernel exchange is being relayed.
    pub(super) fn set_relaying(&self, relaying: bool) {
        self.relaying.store(relaying, Ordering::SeqCst);
    }

    /// Whether a response of a kernel exchange is being relayed.
    pub(super) fn is_relaying(&self) -> bool {
        self.relaying.load(Ordering::SeqCst)
    }

    /// One more request has its complete answer; takes effect when the connection is flushed.
    pub(super) fn answer_complete(&self) {
        self.answered.fetch_add(1, Ordering::SeqCst);
    }

    /// Sends bytes outside of the HTTP connection, which must be idle.
    ///
    /// # Errors
    /// What the socket says.
    pub(super) async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.socket.writable().await?;
            match self.socket.try_write(bytes) {
                Ok(count) => {
                    self.sent.fetch_add(count as u64, Ordering::SeqCst);
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells the kernel how far this client has been answered, counting `coming` bytes that are sent right after this: the
    /// kernel goes by it when the client has read that far, and not before.
    pub(super) fn publish(&self, node: &Node, coming: usize) {
        let answered = Answered {
            requests: self.answered.load(Ordering::SeqCst),
            bytes: self.sent.load(Ordering::SeqCst) + coming as u64,
        };
        *self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = answered;
        if !node.anchors().contains_key(&self.cookie) {
            // The client is gone; an entry would stay for ever.
            return;
        }
        if let Err(error) = node.datapath().answered.insert(self.cookie, answered, 0) {
            // The client stays in user space: slower, not wrong.
            debug!(cookie = self.cookie, %error, "a client's progress could not be published");
        }
    }

    /// Publishes if there is something new to say.
    fn publish_news(&self, node: &Node, coming: usize) {
        let published = *self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let sent = self.sent.load(Ordering::SeqCst) + coming as u64;
        let news = self.answered.load(Ordering::SeqCst) != published.requests;
        // Between answers the count of bytes does not matter.
        if news || (coming == 0 && published.requests > 0 && sent != published.bytes) {
            self.publish(node, coming);
        }
    }

    /// Ends the connection after what was sent.
    pub(super) fn close(&self) {
        let _ = socket2::SockRef::from(&self.socket).shutdown(std::net::Shutdown::Both);
    }

    /// Ends the connection at once; `last_words` if the client may still be told something.
    pub(super) fn end(&self, last_words: Option<&[u8]>) {
        let socket = socket2::SockRef::from(&self.socket);
        if let Some(words) = last_words {
            // A client that cannot take a few bytes gets the end of the connection without them.
            let _ = self.socket.try_write(words);
        } else {
            // A response that broke off must not look complete: reset.
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }
}

/// Accepts anchored connections for `pod` until the task is aborted.
pub async fn accept(node: Arc<Node>, pod: Arc<Pod>, listener: TcpListener) {
    // The connections end with this task: a pod that is released has no mesh any more.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((socket, client)) => {
                connections.spawn(connection(
                    Arc::clone(&node),
                    Arc::clone(&pod),
                    socket,
                    client,
                ));
                while connections.try_join_next().is_some() {}
            }
            Err(error) => {
                // Out of descriptors or memory, or the client is gone again: others can still be accepted, later.
                warn!(pod = pod.spec.name, %error, "an anchored connection was lost");
                tokio::time::sleep(ACCEPT_PAUSE).await;
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
        node.anchors().insert(anchor.cookie, Arc::clone(anchor));
        Self {
            node: Arc::clone(node),
            cookie: anchor.cookie,
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.node.anchors().remove(&self.cookie);
        // The kernel removes these when the client closes, but an answer may have been published after that.
        let mut datapath = self.node.datapath();
        let _ = datapath.answered.remove(&self.cookie);
        let _ = datapath.waiting.remove(&self.cookie);
    }
}

async fn connection(node: Arc<Node>, pod: Arc<Pod>, socket: TcpStream, client: SocketAddr) {
    let key = AnchoredKey {
        pod: pod.index,
        client: client.into(),
    };
    let anchored = node.datapath().anchored.get(&key, 0);
    let Ok(anchored) = anchored else {
        // Not sent here by the mesh: something in the pod connected to the anchor itself.
        debug!(pod = pod.spec.name, %client, "refused a connection that was not anchored");
        return;
    };
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%client, %error, "no TCP_NODELAY");
    }
    let anchor = Arc::new(Anchor::new(
        anchored.cookie,
        anchored.original.into(),
        socket,
    ));
    let _registered = Registered::new(&node, &anchor);
    let io = TokioIo::new(Stream {
        anchor: Arc::clone(&anchor),
        node: Arc::clone(&node),
    });
    let service = service_fn(|request| {
        serve(
            Arc::clone(&node),
            Arc::clone(&pod),
            Arc::clone(&anchor),
            request,
        )
    });
    let served = http1::Builder::new()
        .auto_date_header(false)
        .max_buf_size(HEAD_MAX)
        .serve_connection(io, service)
        .await;
    if let Err(error) = served {
        debug!(%client, %error, "an anchored connection ended early");
    }
}

/// The byte stream under the HTTP connection: the anchor's socket, with counting.
struct Stream {
    anchor: Arc<Anchor>,
    node: Arc<Node>,
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.anchor.socket.poll_read_ready(context))?;
            match self.anchor.socket.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.anchor.publish_news(&self.node, bytes.len());
        loop {
            ready!(self.anchor.socket.poll_write_ready(context))?;
            match self.anchor.socket.try_write(bytes) {
                Ok(count) => {
                    self.anchor.sent.fetch_add(count as u64, Ordering::SeqCst);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Everything written so far is in the socket: the place to correct what was published.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.anchor.publish_news(&self.node, 0);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = socket2::SockRef::from(&self.anchor.socket);
        match socket.shutdown(std::net::Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}
