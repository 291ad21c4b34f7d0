//! Responses to exchanges that began in the kernel and cannot end there: large, chunked, or cut off.
//!
//! Their bytes travel from the server to the upstream socket by TCP, with TCP's flow control, and from here to the client's
//! anchor. The request went through the kernel, so the HTTP client below writes its copy of it nowhere.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::anchor::Anchor;
use super::serve::strip_hop_by_hop;
use crate::node::Node;
use crate::upstream::Record;

/// Reads one response from `stream` and sends it to the leaseholder. `true` if the connection can be used again.
///
/// # Errors
/// If either side breaks off; the client's connection is ended then.
pub async fn relay(node: &Node, record: Record, stream: &TcpStream) -> anyhow::Result<bool> {
    let (client, lease) = (record.client(), record.lease());
    let anchor = node.anchors().get(&client).map(Arc::clone);
    let Some(anchor) = anchor else {
        bail!("the client is gone");
    };
    let reusable = transfer(&anchor, record.head_request() != 0, stream).await;
    if reusable.is_ok() {
        // In this order: once the lease is done the kernel asks how far the client was answered.
        anchor.publish(node);
        record.set_done(lease);
    }
    reusable
}

async fn transfer(anchor: &Anchor, to_head: bool, stream: &TcpStream) -> anyhow::Result<bool> {
    let method = if to_head { Method::HEAD } else { Method::GET };
    let request = Request::builder().method(method).uri("/").body(Empty::<Bytes>::new())?;
    // The response side of the connection lives as long as this function: borrow the descriptor.
    let readable = ResponseOnly { socket: dup(stream)? };
    let (mut sender, connection) = http1::handshake(TokioIo::new(readable)).await?;
    let exchange = async {
        let response = sender.send_request(request).await.context("no response head")?;
        let (framed, length) = head(&response, to_head);
        anchor.send(&framed).await?;
        let keeps = send_body(anchor, response.into_body(), length, to_head).await?;
        anyhow::Ok(keeps && !sender.is_closed())
    };
    tokio::pin!(connection);
    tokio::select! {
        biased;
        done = exchange => done,
        ended = &mut connection => {
            ended?;
            bail!("the upstream closed before its response was complete")
        }
    }
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
    anchor: &Anchor,
    mut body: Incoming,
    length: bool,
    to_head: bool,
) -> anyhow::Result<bool> {
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if !length {
            anchor.send(format!("{:x}\r\n", data.len()).as_bytes()).await?;
        }
        anchor.send(&data).await?;
        if !length {
            anchor.send(b"\r\n").await?;
        }
    }
    if !length {
        anchor.send(b"0\r\n\r\n").await?;
    }
    Ok(to_head || body.is_end_stream())
}

/// Ends an exchange whose upstream died: 503 if the client has seen nothing of the response, a reset otherwise.
pub fn reset(node: &Node, record: Record) {
    const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\n\
        content-length: 57\r\nconnection: close\r\n\r\n\
        upstream connect error or disconnect/reset before headers";
    let anchor = node.anchors().get(&record.client()).map(Arc::clone);
    if let Some(anchor) = anchor {
        anchor.end((record.answered() == 0).then_some(UNAVAILABLE));
    }
}

fn dup(stream: &TcpStream) -> io::Result<TcpStream> {
    let copy = socket2::SockRef::from(stream).try_clone()?;
    TcpStream::from_std(copy.into())
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
