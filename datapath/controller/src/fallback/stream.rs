//! The byte stream under a client's HTTP connection: the anchor's socket, with counting.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::anchor::Anchor;
use super::spill::{Spill, spill};
use crate::node::Node;

/// A view of the anchor as a byte stream.
pub(super) struct Stream {
    anchor: Arc<Anchor>,
    node: Arc<Node>,
    /// Sends the rest of a spilled request on: until that is done, what comes belongs to it.
    spill: Option<Spill>,
}

impl Stream {
    /// The stream of an anchor that is served here from its first byte.
    pub(super) fn new(anchor: Arc<Anchor>, node: Arc<Node>) -> Self {
        Self {
            anchor,
            node,
            spill: None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(spill) = &mut self.spill {
                ready!(spill.as_mut().poll(context))?;
                self.spill = None;
            }
            ready!(self.anchor.socket().poll_read_ready(context))?;
            // The kernel says so before the bytes come.
            self.spill = spill(&self.node, &self.anchor);
            if self.spill.is_some() {
                continue;
            }
            match self.anchor.socket().try_read(buffer.initialize_unfilled()) {
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
            ready!(self.anchor.socket().poll_write_ready(context))?;
            match self.anchor.socket().try_write(bytes) {
                Ok(count) => {
                    self.anchor.count_sent(count);
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
        let socket = socket2::SockRef::from(self.anchor.socket());
        match socket.shutdown(std::net::Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}
