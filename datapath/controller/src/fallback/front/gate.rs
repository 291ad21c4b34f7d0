//! The gate: a byte stream that hyper reads a client's requests from, and that only judged requests come out of.
//!
//! Requests come out one after the other: nothing of the next is looked at before the body at hand has ended. At rest, between
//! two requests, the gate holds no byte. Behind a request to switch protocols it lets everything through.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::chunks::{Chunks, Followed};
use super::judge::{Framing, Passed, judge, judge_line, stand_in};
use super::orders::Orders;
use super::{HEAD_MAX, Rejection, fields, line};

/// What the next byte from the client is.
enum Phase {
    /// In a head, or before it. Where its last line begins.
    Head(usize),
    /// In a body of which so many bytes are left.
    Length(u64),
    /// In a chunked body.
    Chunks(Chunks),
    /// Another protocol's.
    Through,
    /// Nobody's: the last answer is on its way.
    Deaf,
}

/// A client's stream with the judge before it.
pub(in crate::fallback) struct Gate<S> {
    inner: S,
    orders: Arc<Orders>,
    phase: Phase,
    /// Whether the request at hand is to switch protocols.
    upgrade: bool,
    /// What came from the client and was not judged yet.
    held: BytesMut,
    /// What hyper is to get, and how much of it hyper has got.
    out: Vec<u8>,
    taken: usize,
}

impl<S> Gate<S> {
    /// A gate before a stream at the beginning of a request.
    pub(in crate::fallback) fn new(inner: S, orders: Arc<Orders>) -> Self {
        Self {
            inner,
            orders,
            phase: Phase::Head(0),
            upgrade: false,
            held: BytesMut::new(),
            out: Vec::new(),
            taken: 0,
        }
    }

    /// Judges what is held. `false` if more is needed.
    ///
    /// # Errors
    /// If a body breaks off.
    fn advance(&mut self) -> io::Result<bool> {
        match &mut self.phase {
            Phase::Head(_) => Ok(self.head()),
            Phase::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX);
                let count = count.min(self.held.len());
                self.out.extend_from_slice(&self.held.split_to(count));
                *left -= count as u64;
                if *left == 0 {
                    self.next();
                }
                Ok(count > 0)
            }
            Phase::Chunks(chunks) => match chunks.follow(&self.held, &mut self.out) {
                Ok(Followed::More) => {
                    self.held.clear();
                    Ok(!self.out.is_empty())
                }
                Ok(Followed::End(end)) => {
                    self.held.advance(end);
                    self.next();
                    Ok(true)
                }
                Err(rejection) => {
                    self.orders.set_broken(rejection);
                    self.stop();
                    Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the client's body is not chunked as its head says",
                    ))
                }
            },
            Phase::Through => {
                self.out.extend_from_slice(&self.held.split());
                Ok(!self.out.is_empty())
            }
            Phase::Deaf => Ok(false),
        }
    }

    /// Judges the head that begins what is held, as far as it is there.
    fn head(&mut self) -> bool {
        let Phase::Head(begun) = &mut self.phase else {
            return false;
        };
        if *begun == 0 {
            // A client may send empty lines before a request (RFC 9112 section 2.2).
            let blank = |byte: &u8| matches!(byte, b'\r' | b'\n');
            let count = self.held.iter().take_while(|byte| blank(byte)).count();
            self.held.advance(count);
        }
        let Some(&first) = self.held.first() else {
            return false;
        };
        let unread = *begun == 0;
        let end = fields::end(&self.held, begun);
        let sound = line::can_begin(first);
        let judged = if end.unwrap_or(self.held.len()) > HEAD_MAX {
            Err(Rejection::TOO_LARGE)
        } else if !sound {
            Err(Rejection::MALFORMED)
        } else if let Some(end) = end {
            judge(&self.held[..end])
        } else if unread && *begun > 0 {
            // Envoy answers a bad request line without waiting for the rest.
            match judge_line(&self.held) {
                Some(rejection) => Err(rejection),
                None => return false,
            }
        } else {
            return false;
        };
        match (judged, end) {
            (Ok(passed), Some(end)) => {
                self.held.advance(end);
                self.pass(&passed);
            }
            (Ok(_), None) => {}
            (Err(rejection), _) => {
                let stand_in = stand_in(&self.held, rejection);
                self.pass(&stand_in);
                self.stop();
            }
        }
        true
    }

    fn pass(&mut self, passed: &Passed) {
        self.orders.give(passed.order);
        self.out.extend_from_slice(&passed.head);
        self.upgrade = passed.upgrade;
        self.phase = match passed.framing {
            Framing::Length(left) => Phase::Length(left),
            Framing::Chunked => Phase::Chunks(Chunks::default()),
        };
        if let Phase::Length(0) = self.phase {
            self.next();
        }
    }

    /// The body has ended.
    fn next(&mut self) {
        self.phase = if self.upgrade {
            Phase::Through
        } else {
            Phase::Head(0)
        };
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }

    fn stop(&mut self) {
        self.orders.set_deaf();
        self.held = BytesMut::new();
        self.phase = Phase::Deaf;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.taken < this.out.len() {
                let rest = &this.out[this.taken..];
                let count = rest.len().min(buffer.remaining());
                buffer.put_slice(&rest[..count]);
                this.taken += count;
                if this.taken == this.out.len() {
                    this.out = Vec::new();
                    this.taken = 0;
                }
                return Poll::Ready(Ok(()));
            }
            match &mut this.phase {
                // Not the end of the stream: hyper would give up the answer that it is about to send.
                Phase::Deaf => return Poll::Pending,
                Phase::Through if this.held.is_empty() => {
                    return Pin::new(&mut this.inner).poll_read(context, buffer);
                }
                Phase::Length(left) if this.held.is_empty() => {
                    let before = buffer.filled().len();
                    let most = usize::try_from(*left).unwrap_or(usize::MAX);
                    ready!(poll_read_some(&mut this.inner, context, buffer, most))?;
                    *left -= (buffer.filled().len() - before) as u64;
                    if *left == 0 {
                        this.next();
                    }
                    return Poll::Ready(Ok(()));
                }
                _ => {}
            }
            if this.advance()? {
                continue;
            }
            // hyper's buffer serves to read into, so that an idle connection has no other.
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.held.extend_from_slice(&buffer.filled()[before..]);
            buffer.set_filled(before);
        }
    }
}

/// Reads at most so many bytes.
fn poll_read_some<S: AsyncRead + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
    most: usize,
) -> Poll<io::Result<()>> {
    let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most.min(buffer.remaining())));
    ready!(Pin::new(stream).poll_read(context, &mut part))?;
    let count = part.filled().len();
    buffer.advance(count);
    Poll::Ready(Ok(()))
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::super::Order;
    use super::*;

    /// What comes out before the stream's end or a fault; the orders; whether it ended well.
    async fn through(bytes: &[u8], size: usize) -> (String, Arc<Orders>, bool) {
        let (mut client, server) = duplex(bytes.len().max(1));
        let orders: Arc<Orders> = Arc::default();
        let mut gate = Gate::new(server, Arc::clone(&orders));
        let mut out = Vec::new();
        let send = async {
            for piece in bytes.chunks(size) {
                client.write_all(piece).await.unwrap();
            }
            drop(client);
        };
        let ended = async {
            loop {
                // A deaf gate says nothing more.
                if orders.is_deaf() && orders.broken().is_none() && gate.out.is_empty() {
                    return true;
                }
                match gate.read_buf(&mut out).await {
                    Ok(0) => return true,
                    Ok(_) => {}
                    Err(_) => return false,
                }
            }
        };
        let ((), ended) = tokio::join!(send, ended);
        (String::from_utf8(out).unwrap(), orders, ended)
    }

    const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    const LENGTH: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nGET";
    const CHUNKED: &str =
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\n";

    #[tokio::test]
    async fn sound_requests_come_through_however_they_come() {
        let text = [GET, LENGTH, CHUNKED, LENGTH, GET].concat();
        for size in [1, 2, 3, 7, 64, text.len()] {
            let (out, orders, ended) = through(text.as_bytes(), size).await;
            assert!(out == text && ended && !orders.is_deaf(), "{size}: {out}");
            assert_eq!(orders.next(), Order::default());
        }
    }

    #[tokio::test]
    async fn nothing_comes_through_behind_what_is_refused() {
        let text = [GET, "\r\n\x01 garbage\r\n\r\n", GET].concat();
        let (out, orders, _) = through(text.as_bytes(), text.len()).await;
        assert!(out.starts_with(GET) && out.matches("GET").count() == 2);
        assert_eq!(orders.next(), Order::default());
        assert_eq!(orders.next().answer, Some(Rejection::MALFORMED));
        assert!(orders.is_deaf());
    }

    #[tokio::test]
    async fn a_broken_body_is_a_fault() {
        let text = format!("{}{GET}", CHUNKED.replace("3\r\nGET", "2\r\nGET"));
        let (out, orders, ended) = through(text.as_bytes(), 5).await;
        assert!(!ended && out.matches("HTTP/1.1").count() == 1, "{out}");
        assert_eq!(orders.broken(), Some(Rejection::MALFORMED));
    }

    #[tokio::test]
    async fn another_protocol_is_not_looked_at() {
        let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: b\r\n\r\n";
        let text = [head, "\x01\x02 \n\n", GET].concat();
        for size in [1, 5, text.len()] {
            let (out, orders, ended) = through(text.as_bytes(), size).await;
            assert!(out == text && ended, "{out:?}");
            assert!(orders.next().last);
        }
    }
}
