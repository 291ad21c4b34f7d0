//! One exchange with an endpoint over HTTP/1.1, and what becomes of the connection afterwards.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, Parts, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kmesh_api::pool::PoolKey;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::anchor::Anchor;
use super::serve::{Destination, keeps_open, strip_hop_by_hop};
use crate::node::Node;
use crate::pods::Pod;
use crate::upstream::{Opened, Slot, donate, open};

type Driver = JoinHandle<hyper::Result<Parts<TokioIo<TcpStream>>>>;

/// A user-space connection to an endpoint, between exchanges.
pub struct Idle {
    sender: SendRequest<Incoming>,
    driver: Driver,
    slot: Option<Slot>,
    key: PoolKey,
}

impl Idle {
    /// Whether another request can be sent on it.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// Sends the request to its destination and returns the response, whose body streams through.
///
/// # Errors
/// If the endpoint cannot be reached or breaks off before the response's head.
pub(super) async fn forward(
    node: &Arc<Node>,
    pod: &Pod,
    anchor: &Arc<Anchor>,
    destination: Destination,
    mut request: Request<Incoming>,
) -> anyhow::Result<Response<Body>> {
    let key = PoolKey {
        pod: pod.index,
        endpoint: destination.id,
    };
    let idle = node.upstreams.take_idle(key);
    let mut connection = match idle {
        Some(connection) => connection,
        None => connect(node, pod, &destination).await?,
    };
    strip_hop_by_hop(request.headers_mut());
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    *request.uri_mut() = target.parse()?;
    let mut response = connection.sender.send_request(request).await?;
    let reusable = keeps_open(response.headers());
    strip_hop_by_hop(response.headers_mut());
    let (parts, body) = response.into_parts();
    let donate = destination.kernel_bound;
    let after = After {
        node: Arc::clone(node),
        connection,
        reusable,
        donate,
    };
    Ok(Response::from_parts(
        parts,
        Body::stream(Arc::clone(anchor), body, after),
    ))
}

async fn connect(node: &Arc<Node>, pod: &Pod, destination: &Destination) -> anyhow::Result<Idle> {
    let Opened { stream, slot, key } =
        open(node, pod, destination.endpoint, destination.id).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection.without_shutdown());
    Ok(Idle {
        sender,
        driver,
        slot,
        key,
    })
}

/// What to do with the connection once the response is complete.
struct After {
    node: Arc<Node>,
    connection: Idle,
    reusable: bool,
    donate: bool,
}

impl After {
    fn complete(self) {
        let Self {
            node,
            connection,
            reusable,
            donate: to_kernel,
        } = self;
        if !reusable || !connection.is_open() {
            return;
        }
        if !to_kernel || connection.slot.is_none() {
            let key = connection.key;
            node.upstreams.keep_idle(key, connection);
            return;
        }
        tokio::spawn(async move {
            let Idle {
                sender,
                driver,
                slot,
                key,
            } = connection;
            // Without a sender the driver finishes and hands the socket back.
            drop(sender);
            if let Ok(Ok(Parts { io, read_buf, .. })) = driver.await
                && read_buf.is_empty()
            {
                donate(
                    &node,
                    Opened {
                        stream: io.into_inner(),
                        slot,
                        key,
                    },
                );
            }
        });
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A response body on its way to the client. Its end counts as the answer to one request.
pub(super) struct Body {
    inner: BoxBody<Bytes, BoxError>,
    anchor: Arc<Anchor>,
    after: Option<After>,
    finished: bool,
}

impl Body {
    /// A body made here.
    pub(super) fn last(anchor: Arc<Anchor>, inner: BoxBody<Bytes, BoxError>) -> Self {
        Self {
            inner,
            anchor,
            after: None,
            finished: true,
        }
    }

    fn stream(anchor: Arc<Anchor>, body: Incoming, after: After) -> Self {
        use http_body_util::BodyExt as _;
        use hyper::body::Body as _;
        let finished = body.is_end_stream();
        let inner = body.map_err(Into::into).boxed();
        Self {
            inner,
            anchor,
            after: Some(after),
            finished,
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        self.finished = frame.is_none() || self.inner.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Body {
    /// The connection drops a body when it has taken all of it, or when the client is gone.
    fn drop(&mut self) {
        self.anchor.answer_complete();
        if let Some(after) = self.after.take()
            && self.finished
        {
            after.complete();
        }
    }
}
