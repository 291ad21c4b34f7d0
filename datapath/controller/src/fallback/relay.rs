//! Responses to exchanges that began in the kernel and cannot end there: large, chunked, or cut off.
//!
//! Their bytes travel from the server to the upstream socket by TCP, with TCP's flow control, and from here to the client's
//! anchor. Where the kernel has found out how long the response is, bytes are all that they are (`carry`). Any other is read by the
//! HTTP client below; the request went through the kernel, so it writes its copy of it nowhere.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use kmesh_api::exchange::{QUEUEING, UNREAD};
use kmesh_orchestration::slot;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::anchor::Anchor;
use super::back::{Back, Garbled, READ_AHEAD};
use super::carry::carry;
use super::headers::{keeps_open, strip_hop_by_hop};
use crate::node::Node;
use crate::upstream::Record;

/// How long a client's connection may take to be accepted here when its first response already waits.
const ACCEPT_PATIENCE: Duration = Duration::from_secs(5);

/// The leaseholder's anchor. Its connection may not have been accepted yet: the kernel path does not wait for that.
async fn find(node: &Node, client: u64) -> Option<Arc<Anchor>> {
    const POLL: Duration = Duration::from_millis(1);
    let found = timeout(ACCEPT_PATIENCE, async {
        loop {
            if let Some(anchor) = node.anchors().get(client) {
                return Arc::clone(anchor);
            }
            sleep(POLL).await;
        }
    });
    found.await.ok()
}

/// Whether the kernel has answered this client with something that is not in its queue yet, where what is sent from here would
/// be read before it.
fn is_queueing(node: &Node, client: u64) -> bool {
    backlog(node, client) & QUEUEING != 0
}

fn backlog(node: &Node, client: u64) -> i32 {
    // An error says that the datapath is gone, and with it what it had to queue.
    node.datapath().backlog(client).unwrap_or(0)
}

/// Waits until all that the kernel has answered this client with is in its queue.
pub(super) async fn queued(node: &Node, client: u64) {
    until_none(node, client, QUEUEING).await;
}

/// Waits until the client has read all that the kernel has given it: one message must not come in two queues, or a reader may take the
/// end of the first for the end of all there is.
async fn read(node: &Node, client: u64) {
    until_none(node, client, QUEUEING | UNREAD).await;
}

/// Waits until the client's backlog has none of `what`, or its connection is over.
async fn until_none(node: &Node, client: u64, what: i32) {
    const POLL: Duration = Duration::from_millis(1);
    while node.anchors().get(client).is_some() && backlog(node, client) & what != 0 {
        sleep(POLL).await;
    }
}

/// Reads one response from `stream` and sends it to the holder of `lease`. `true` if the connection can be used again.
///
/// # Errors
/// If either side breaks off; the client's connection is ended then.
pub async fn relay(
    node: &Node,
    record: Record,
    lease: u64,
    stream: &std::net::TcpStream,
) -> anyhow::Result<bool> {
    let Some(anchor) = find(node, record.client()).await else {
        bail!("the client is gone");
    };
    read(node, record.client()).await;
    let client = Leaseholder {
        node,
        record,
        lease,
        anchor: &anchor,
    };
    anchor.set_relaying(true);
    let reusable = match record.remaining() {
        0 => transfer(&client, record.head_request() != 0, stream).await,
        left => carry(&client, left, &dup(stream)?)
            .await
            .map(|()| is_silent(stream)),
    };
    anchor.set_relaying(false);
    if reusable.is_ok() && record.word().is_sending() {
        // The client still sends a request whose answer it has. Its connection is out of step, and so is the upstream.
        anchor.close();
        return Ok(false);
    }
    reusable
}

/// Where a response goes.
pub(super) struct Leaseholder<'a> {
    pub(super) node: &'a Node,
    record: Record,
    lease: u64,
    pub(super) anchor: &'a Anchor,
}

impl Leaseholder<'_> {
    /// Sends the end of the response. The exchange is over before the client can know it: its next request may be in the
    /// kernel before this returns.
    pub(super) async fn finish(&self, last: &[u8]) -> io::Result<()> {
        // In this order: once the lease is done the kernel asks how far the client was answered.
        self.anchor.publish(self.node, last.len());
        if !slot::finish(&self.record, self.lease) {
            // The client was told already that its upstream died.
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.anchor.send(last).await
    }
}

async fn transfer(
    client: &Leaseholder<'_>,
    to_head: bool,
    stream: &std::net::TcpStream,
) -> anyhow::Result<bool> {
    let method = if to_head { Method::HEAD } else { Method::GET };
    let request = Request::builder()
        .method(method)
        .uri("/")
        .body(Empty::<Bytes>::new())?;
    // The response side of the connection lives as long as this function: borrow the descriptor.
    let readable = Back::new(ResponseOnly {
        socket: dup(stream)?,
    });
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(READ_AHEAD)
        .handshake(TokioIo::new(readable))
        .await?;
    let exchange = async {
        let response = match sender.send_request(request).await {
            Err(error) if error.is_parse() || Garbled::caused(&error) => {
                client.finish(&bad_gateway()).await?;
                return Ok(false);
            }
            response => response.context("no response head")?,
        };
        let keeps = keeps_open(response.headers());
        let (framed, length) = head(&response, to_head);
        let body = response.into_body();
        if body.is_end_stream() && length {
            client.finish(&framed).await?;
        } else {
            client.anchor.send(&framed).await?;
            send_body(client, body, length).await?;
        }
        anyhow::Ok(keeps && !sender.is_closed())
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        biased;
        done = &mut exchange => done,
        ended = &mut connection => {
            ended?;
            // The upstream's side is over; what was read of the response may still be on its way to the client.
            exchange.await?;
            Ok(false)
        }
    }
}

/// What the client is told instead of something that is no response, in Envoy's words.
fn bad_gateway() -> Vec<u8> {
    let text =
        "upstream connect error or disconnect/reset before headers. reset reason: protocol error";
    let length = text.len();
    format!("HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{text}").into()
}

/// The response's head for the client's hop, and whether its body keeps a known length.
fn head(response: &Response<Incoming>, to_head: bool) -> (Vec<u8>, bool) {
    let mut headers = response.headers().clone();
    strip_hop_by_hop(&mut headers);
    let status = response.status();
    let bodiless = to_head || status.as_u16() == 204 || status.as_u16() == 304;
    let length = bodiless || headers.contains_key(CONTENT_LENGTH);
    let mut bytes = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for (name, value) in &headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    if !length {
        bytes.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    (bytes, length)
}

async fn send_body(
    client: &Leaseholder<'_>,
    mut body: Incoming,
    length: bool,
) -> anyhow::Result<()> {
    let anchor = client.anchor;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if length {
            if body.is_end_stream() {
                return Ok(client.finish(&data).await?);
            }
            anchor.send(&data).await?;
        } else if !data.is_empty() {
            anchor
                .send(format!("{:x}\r\n", data.len()).as_bytes())
                .await?;
            anchor.send(&data).await?;
            anchor.send(b"\r\n").await?;
        }
    }
    // With a length, the last bytes went out above, unless there were none.
    Ok(client
        .finish(if length { b"" } else { b"0\r\n\r\n" })
        .await?)
}

/// Ends an exchange whose upstream died: 503 if the client has seen nothing of the response, a reset otherwise. `false` if the
/// client cannot be told: its connection is not here, not yet or no more, or it has yet to get an answer that came before.
pub fn reset(node: &Node, record: Record) -> bool {
    const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\n\
        content-length: 57\r\nconnection: close\r\n\r\n\
        upstream connect error or disconnect/reset before headers";
    let anchor = node.anchors().get(record.client()).map(Arc::clone);
    let Some(anchor) = anchor else {
        return false;
    };
    if is_queueing(node, record.client()) {
        return false;
    }
    anchor.end((record.answered() == 0).then_some(UNAVAILABLE));
    true
}

/// Ends the connection of a client that has its answer but still owes bytes of its request, as Envoy does.
pub fn cut(node: &Node, record: Record) {
    if let Some(anchor) = node.anchors().get(record.client()) {
        anchor.close();
    }
}

/// Whether nothing has come behind the response: no more bytes, and no end.
fn is_silent(stream: &std::net::TcpStream) -> bool {
    stream
        .peek(&mut [0; 1])
        .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn dup(stream: &std::net::TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.try_clone()?)
}

/// A byte stream that reads a response and swallows the request.
struct ResponseOnly {
    socket: TcpStream,
}

impl AsyncRead for ResponseOnly {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ResponseOnly {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
