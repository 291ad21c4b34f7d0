//! One request in user space: decide, forward, or answer that there is nowhere to go.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, Version};
use kmesh_api::Reason;
use kmesh_api::limits::ENDPOINTS_MAX;
use kmesh_api::listener::CLASS_ANCHORED;
use kmesh_orchestration::{decide, listener};
use tracing::debug;

use super::anchor::Anchor;
use super::exchange::{Body, forward};
use super::head::scan_request;
use crate::node::{Node, NodeDice};
use crate::pods::Pod;
use crate::upstream::record;

/// Where a decided request goes.
pub(super) struct Destination {
    /// The endpoint.
    pub endpoint: std::net::SocketAddr,
    /// Its stable id.
    pub id: u32,
    /// Whether the connection should go to the kernel afterwards.
    pub kernel_bound: bool,
}

/// Envoy's words when an endpoint gives no answer.
pub(super) const NO_ANSWER: &str = "upstream connect error or disconnect/reset before headers";

/// Serves one request that the kernel passed.
pub(super) async fn serve(
    node: Arc<Node>,
    pod: Arc<Pod>,
    anchor: Arc<Anchor>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    wait_for_kernel(&node, &anchor).await;
    let response = match destination(&node, &anchor, &request) {
        Ok(destination) => match forward(&node, &pod, &anchor, destination, request).await {
            Ok(response) => return Ok(response),
            Err(error) => {
                debug!(error = format!("{error:#}"), "no answer from upstream");
                (StatusCode::SERVICE_UNAVAILABLE, NO_ANSWER)
            }
        },
        Err(refusal) => refusal,
    };
    Ok(reply(&anchor, response.0, response.1))
}

/// The destination, or the reply that Envoy gives when there is none.
fn destination(
    node: &Node,
    anchor: &Anchor,
    request: &Request<Incoming>,
) -> Result<Destination, (StatusCode, &'static str)> {
    if request.version() != Version::HTTP_11 {
        return Err((StatusCode::UPGRADE_REQUIRED, ""));
    }
    // RFC 9112 section 3.2, and Envoy: 400 without a Host.
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        return Err((StatusCode::BAD_REQUEST, ""));
    }
    if request.method() == Method::CONNECT {
        return Err((StatusCode::NOT_FOUND, ""));
    }
    if request.headers().contains_key(UPGRADE) {
        return Err((StatusCode::FORBIDDEN, ""));
    }
    let Some(generation) = node.generation() else {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "no configuration"));
    };
    let image = &*generation.image;
    let scanned = scan_request(image, request).map_err(|reason| match reason {
        Reason::HeadTooLong | Reason::TooManyHeaders => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "")
        }
        _ => (StatusCode::BAD_REQUEST, ""),
    })?;
    let governed = listener::find(image, &anchor.original.into())
        .map(|number| listener::at(image, number))
        .filter(|governed| governed.class == CLASS_ANCHORED)
        .ok_or((StatusCode::NOT_FOUND, ""))?;
    let choice =
        decide(image, governed.target, &scanned.head, &mut NodeDice(node)).map_err(|reason| {
            match reason {
                Reason::NoEndpoint => (StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream"),
                _ => (StatusCode::NOT_FOUND, ""),
            }
        })?;
    let endpoint = &image.endpoints[choice.endpoint as usize & (ENDPOINTS_MAX - 1)];
    Ok(Destination {
        endpoint: endpoint.address.into(),
        id: endpoint.id,
        kernel_bound: scanned.kernel_bound,
    })
}

/// Waits until the exchange that the kernel still has for this client is over: answers come in the order of requests.
async fn wait_for_kernel(node: &Node, anchor: &Anchor) {
    const POLL: Duration = Duration::from_millis(1);
    let client = anchor.cookie;
    let Ok(waiting) = node.datapath().waiting.get(&client, 0) else {
        return;
    };
    if let Some(record) = record(node, waiting.slot) {
        while record.client() == client
            && record.lease() == waiting.lease
            && (record.done() != waiting.lease || anchor.is_relaying())
        {
            tokio::time::sleep(POLL).await;
        }
        // A response that the kernel had begun before the client pipelined is queued shortly after it counts as done.
        tokio::time::sleep(POLL).await;
    }
    // Absent is what this asks for.
    let _ = node.datapath().waiting.remove(&client);
}

fn reply(anchor: &Arc<Anchor>, status: StatusCode, text: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {});
    let mut response = Response::new(Body::last(Arc::clone(anchor), body.boxed()));
    *response.status_mut() = status;
    if !text.is_empty() {
        let plain = HeaderValue::from_static("text/plain");
        response.headers_mut().insert(CONTENT_TYPE, plain);
    }
    response
}

/// Whether the connection that a message came on may carry another one.
pub(super) fn keeps_open(headers: &HeaderMap) -> bool {
    let mut options = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    !options.any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// Removes the headers that belong to one hop (RFC 9110 section 7.6.1).
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
}
