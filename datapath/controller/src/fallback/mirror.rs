//! Copies of requests for other clusters; nobody waits for what becomes of them.

use std::sync::Arc;

use http::request::Parts;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::header::HeaderValue;
use kmesh_config::policy::Mirror;
use kmesh_orchestration::balance;
use tracing::debug;

use super::body::Tape;
use super::exchange::{After, Carrier, Target, send};
use super::serve::{address, happens};
use crate::node::{Node, NodeDice};
use crate::pods::Pod;

/// Sends a copy of the request to each of the mirrors, once all of it was read.
pub(super) fn copy(
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    original: &Target,
    mirrors: &[Mirror],
    head: &Parts,
    tape: &Arc<Tape>,
) {
    for mirror in mirrors.iter().filter(|mirror| happens(mirror.share)) {
        let generation = &original.generation;
        let clusters = &generation.names.clusters;
        let Some(index) = clusters.iter().position(|name| name.name == mirror.cluster) else {
            continue;
        };
        let cluster = &generation.image.clusters[index];
        let Ok(endpoint) = balance::endpoint(cluster, &mut NodeDice(node)) else {
            continue;
        };
        let target = Target {
            generation: Arc::clone(generation),
            cluster: index as u32,
            endpoint,
            original: original.original,
            http2: original.http2,
        };
        let mut head = head.clone();
        if mirror.host_suffix
            && let Some(host) = head.headers.get(http::header::HOST)
            && let Ok(host) = HeaderValue::from_bytes(&shadow(host.as_bytes()))
        {
            head.headers.insert(http::header::HOST, host);
        }
        let (node, pod, tape) = (Arc::clone(node), Arc::clone(pod), Arc::clone(tape));
        tokio::spawn(async move {
            tape.ended().await;
            let Some(body) = tape.copy() else {
                debug!("a request was not mirrored: its body is longer than what is kept");
                return;
            };
            let body = Full::new(body)
                .map_err(|never| match never {})
                .boxed_unsync();
            let Ok(request) = address(Request::from_parts(head, body), &target) else {
                return;
            };
            match send(&node, &pod, &target, request).await {
                Ok((response, carrier)) => finish(response, carrier).await,
                Err(error) => debug!(error = format!("{error:#}"), "a mirrored request failed"),
            }
        });
    }
}

/// Envoy's host of a copy: `-shadow` after the name, before the port.
fn shadow(host: &[u8]) -> Vec<u8> {
    let colon = host.iter().rposition(|byte| *byte == b':');
    let numeric = |at: &usize| host[at + 1..].iter().all(u8::is_ascii_digit);
    let end = colon.filter(numeric).unwrap_or(host.len());
    [&host[..end], b"-shadow", &host[end..]].concat()
}

/// Reads a response that nobody wants, so that its connection can be used again.
async fn finish(response: hyper::Response<hyper::body::Incoming>, carrier: Carrier) {
    let after = After::new(carrier, &response, false);
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return;
        }
    }
    after.complete();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_says_so_in_its_host() {
        assert_eq!(shadow(b"svc.test"), b"svc.test-shadow");
        assert_eq!(shadow(b"svc.test:80"), b"svc.test-shadow:80");
    }
}
