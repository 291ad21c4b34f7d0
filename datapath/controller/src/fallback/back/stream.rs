//! A byte stream that hyper reads a server's responses from, and that only judged heads come out of.
//!
//! One exchange at a time is on a connection, so nobody here follows bodies: whoever sends a request says that a head is next.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::front::fields;
use super::judge::judge;
use super::{Garbled, HEAD_MAX};

/// Whether a head is next.
#[derive(Clone, Debug)]
pub(in crate::fallback) struct Turn(Arc<AtomicBool>);

impl Turn {
    /// A request is about to be sent, and all of the last response has been read.
    pub(in crate::fallback) fn begin(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A server's stream with the judge before it.
pub(in crate::fallback) struct Back<S> {
    inner: S,
    turn: Turn,
    /// What came of a head so far.
    held: BytesMut,
    /// Where its last line begins.
    begun: usize,
    /// A head that hyper has not read yet.
    out: BytesMut,
}

impl<S> Back<S> {
    /// A stream at the beginning of a response.
    pub(in crate::fallback) fn new(inner: S) -> Self {
        Self {
            inner,
            turn: Turn(Arc::new(AtomicBool::new(true))),
            held: BytesMut::new(),
            begun: 0,
            out: BytesMut::new(),
        }
    }

    /// Says which response begins.
    pub(in crate::fallback) fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// The stream itself, if nothing that was read from it is left here.
    pub(in crate::fallback) fn into_inner(self) -> Option<S> {
        (self.held.is_empty() && self.out.is_empty()).then_some(self.inner)
    }

    /// Judges heads as far as they are there.
    fn advance(&mut self) -> Result<(), Garbled> {
        while self.turn.0.load(Ordering::SeqCst) && !self.held.is_empty() {
            let end = fields::end(&self.held, &mut self.begun);
            let too_long = end.unwrap_or(self.held.len()) > HEAD_MAX;
            // Envoy does not wait for the end of what cannot be the begin of a response.
            if self.held[0] != b'H' || too_long {
                return Err(Garbled);
            }
            let Some(end) = end else {
                return Ok(());
            };
            let passed = judge(&self.held[..end])?;
            self.held.advance(end);
            self.begun = 0;
            self.out.extend_from_slice(&passed.head);
            self.turn.0.store(passed.is_interim, Ordering::SeqCst);
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Back<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            this.advance()?;
            let judged = if this.out.is_empty() && !this.turn.0.load(Ordering::SeqCst) {
                &mut this.held
            } else {
                &mut this.out
            };
            if !judged.is_empty() {
                let count = judged.len().min(buffer.remaining());
                buffer.put_slice(&judged.split_to(count));
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
            if !this.turn.0.load(Ordering::SeqCst) {
                return Poll::Ready(Ok(()));
            }
            // hyper's buffer serves to read into, so that an idle connection has no other.
            let read = buffer.filled().len() - before;
            this.held.extend_from_slice(&buffer.filled()[before..]);
            buffer.set_filled(before);
            if read == 0 {
                return Poll::Ready(if this.held.is_empty() {
                    Ok(())
                } else {
                    Err(Garbled.into())
                });
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Back<S> {
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
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Reads what comes out, in pieces as they come; `Err` with what came before the fault.
    async fn through(bytes: &[u8], size: usize) -> Result<String, String> {
        let pieces = bytes.chunks(size).map(<[u8]>::to_vec);
        let mut back = Back::new(Pieces(pieces.collect()));
        let mut out = Vec::new();
        let ended = back.read_to_end(&mut out).await;
        let out = String::from_utf8(out).unwrap();
        ended.map(|_| out.clone()).map_err(|_| out)
    }

    /// A stream that gives one piece at a time.
    struct Pieces(std::collections::VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(mut piece) = self.0.pop_front() {
                let count = piece.len().min(buffer.remaining());
                buffer.put_slice(&piece[..count]);
                piece.drain(..count);
                if !piece.is_empty() {
                    self.0.push_front(piece);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn heads_are_judged_and_bodies_left_alone_however_they_come() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        let text = format!("{interim}{interim}HTTP/1.1 200 OK\n\nHTTP/1.1 x\r\n\r\n\x01");
        let wanted = format!("{interim}{interim}HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 x\r\n\r\n\x01");
        for size in [1, 2, 3, 7, text.len()] {
            let out = through(text.as_bytes(), size).await;
            assert_eq!(out.as_ref(), Ok(&wanted), "{size}");
        }
    }

    #[tokio::test]
    async fn a_head_that_breaks_off_is_garbled_and_no_head_is_an_end() {
        assert_eq!(through(b"", 1).await, Ok(String::new()));
        let text = b"HTTP/1.1 200 OK\r\na: b\r\n\r\n";
        for end in 1..text.len() {
            assert_eq!(through(&text[..end], 5).await, Err(String::new()), "{end}");
        }
        let long = [b"HTTP/1.1 200 ".as_slice(), &b"x".repeat(HEAD_MAX)].concat();
        assert_eq!(through(&long, 1000).await, Err(String::new()));
    }

    #[tokio::test]
    async fn the_next_response_is_judged_when_its_turn_begins() {
        let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        let mut back = Back::new(Pieces([head.clone(), head, b"x".to_vec()].into()));
        let mut out = [0; 100];
        assert_eq!(back.read(&mut out).await.unwrap(), 19);
        back.turn().begin();
        assert_eq!(back.read(&mut out).await.unwrap(), 19);
        back.turn().begin();
        assert!(Garbled::caused(&back.read(&mut out).await.unwrap_err()));
    }
}
