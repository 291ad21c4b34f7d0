//! Anchors: the listening sockets inside pods where anchored connections end.
//!
//! The kernel may answer a client only when the client has read everything that user space sent (a socket's redirected
//! bytes are read before its TCP bytes). So an anchor counts what it sends and publishes the count with every complete answer:
//! before the last bytes leave, because a client's next request may come as fast as they arrive.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kmesh_api::exchange::Answered;
use tokio::net::TcpStream;
use tracing::debug;

use crate::node::Node;

/// Longest head that user space takes, of a request or of a response, bytes; Envoy's limit is 60 KiB. It is also what hyper reads ahead
/// of a connection at most: left alone it is 408 KiB, for each reader that stops. What clients send over HTTP/1.1 may be as long as Envoy lets it (`front`).
pub(super) const HEAD_MAX: usize = 64 * 1024;

/// One anchored client connection, seen from user space.
pub struct Anchor {
    /// The client socket's cookie.
    pub cookie: u64,
    /// Number of the client's pod.
    pub pod: u32,
    /// The service address that the client asked for.
    pub original: SocketAddr,
    /// When it was accepted.
    pub since: Instant,
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
    pub(super) fn new(cookie: u64, pod: u32, original: SocketAddr, socket: TcpStream) -> Self {
        Self {
            cookie,
            pod,
            original,
            since: Instant::now(),
            socket,
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            published: Mutex::default(),
            relaying: AtomicBool::new(false),
        }
    }

    /// The connection.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Bytes that went out so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Bytes went out.
    pub(super) fn count_sent(&self, count: usize) {
        self.sent.fetch_add(count as u64, Ordering::SeqCst);
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
        if node.anchors().get(self.cookie).is_none() {
            // The client is gone; an entry would stay for ever.
            return;
        }
        if let Err(error) = node.datapath().answered.insert(self.cookie, answered, 0) {
            // The client stays in user space: slower, not wrong.
            debug!(cookie = self.cookie, %error, "a client's progress could not be published");
        }
    }

    /// Publishes if there is something new to say.
    pub(super) fn publish_news(&self, node: &Node, coming: usize) {
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

    /// Nothing more is sent; the client may still send.
    pub(super) fn finish(&self) {
        let _ = socket2::SockRef::from(&self.socket).shutdown(std::net::Shutdown::Write);
    }

    /// Reads what the client still sends, until it stops or for as long as Envoy waits (`delayed_close_timeout`): a socket
    /// that is closed with unread bytes resets, and a reset can overtake the answer that explains it.
    pub(super) async fn forget_unread(&self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let forget = async {
            let mut bytes = [0; 4096];
            while self.socket.readable().await.is_ok() {
                match self.socket.try_read(&mut bytes) {
                    Ok(0) => return,
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        };
        let _ = tokio::time::timeout(PATIENCE, forget).await;
    }

    /// Ends the connection after what was sent.
    pub fn close(&self) {
        let _ = socket2::SockRef::from(&self.socket).shutdown(std::net::Shutdown::Both);
    }

    /// Ends the connection at once, whether the client closes its end or not.
    pub(super) fn reset(&self) {
        self.end(None);
    }

    /// The client is gone: nothing more is read or sent.
    pub fn leave(&self) {
        let socket = socket2::SockRef::from(&self.socket);
        // Nobody is there to miss what a reset loses.
        let _ = socket.set_linger(Some(Duration::ZERO));
        let _ = socket.shutdown(std::net::Shutdown::Both);
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
