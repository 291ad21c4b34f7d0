//! Anchors: the listening sockets inside pods where anchored connections end.
//!
//! The kernel may answer a client only when the client has read everything that user space sent (a socket's redirected
//! bytes are read before its TCP bytes). So an anchor counts what it sends and publishes the count with every complete answer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kmesh_api::exchange::Answered;
use kmesh_api::pod::AnchoredKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::serve::serve;
use crate::node::Node;
use crate::pods::Pod;

/// Longest head that user space reads, bytes; Envoy's `max_request_headers_kb`.
pub(super) const HEAD_MAX: usize = 64 * 1024;

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
    /// The value of `answered` that the kernel knows.
    published: AtomicU64,
}

impl Anchor {
    fn new(cookie: u64, original: SocketAddr, socket: TcpStream) -> Self {
        let zero = || AtomicU64::new(0);
        Self { cookie, original, socket, sent: zero(), answered: zero(), published: zero() }
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

    /// Tells the kernel how far this client has been answered.
    pub(super) fn publish(&self, node: &Node) {
        let requests = self.answered.load(Ordering::SeqCst);
        let answered = Answered { requests, bytes: self.sent.load(Ordering::SeqCst) };
        self.published.store(requests, Ordering::SeqCst);
        if let Err(error) = node.datapath().answered.insert(self.cookie, answered, 0) {
            // The client stays in user space: slower, not wrong.
            debug!(cookie = self.cookie, %error, "a client's progress could not be published");
        }
    }

    /// Ends the connection at once; `last_words` if the client may still be told something.
    pub(super) fn end(&self, last_words: Option<&[u8]>) {
        let socket = socket2::SockRef::from(&self.socket);
        if let Some(words) = last_words {
            // A client that cannot take a few bytes gets the end of the connection without them.
            let _ = self.socket.try_write(words);
        } else {
            // A response that broke off must not look complete: reset.
            let _ = socket.set_linger(Some(std::time::Duration::ZERO));
        }
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }
}

/// Accepts anchored connections for `pod` until the task is aborted.
pub async fn accept(node: Arc<Node>, pod: Arc<Pod>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((socket, client)) => {
                tokio::spawn(connection(Arc::clone(&node), Arc::clone(&pod), socket, client));
            }
            Err(error) => {
                // Out of descriptors or memory, or the client is gone again: others can still be accepted.
                warn!(pod = pod.spec.name, %error, "an anchored connection was lost");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn connection(node: Arc<Node>, pod: Arc<Pod>, socket: TcpStream, client: SocketAddr) {
    let key = AnchoredKey { pod: pod.index, client: client.into() };
    let anchored = node.datapath().anchored.get(&key, 0);
    let Ok(anchored) = anchored else {
        // Not sent here by the mesh: something in the pod connected to the anchor itself.
        debug!(pod = pod.spec.name, %client, "refused a connection that was not anchored");
        return;
    };
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%client, %error, "no TCP_NODELAY");
    }
    let anchor = Arc::new(Anchor::new(anchored.cookie, anchored.original.into(), socket));
    node.anchors().insert(anchor.cookie, Arc::clone(&anchor));
    let io = TokioIo::new(Stream { anchor: Arc::clone(&anchor), node: Arc::clone(&node) });
    let service = service_fn(|request| {
        serve(Arc::clone(&node), Arc::clone(&pod), Arc::clone(&anchor), request)
    });
    let served = http1::Builder::new()
        .auto_date_header(false)
        .max_buf_size(HEAD_MAX)
        .serve_connection(io, service)
        .await;
    if let Err(error) = served {
        debug!(%client, %error, "an anchored connection ended early");
    }
    node.anchors().remove(&anchor.cookie);
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

    /// Everything written so far is in the socket: the place to publish complete answers.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let anchor = &self.anchor;
        if anchor.answered.load(Ordering::SeqCst) != anchor.published.load(Ordering::SeqCst) {
            anchor.publish(&self.node);
        }
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
