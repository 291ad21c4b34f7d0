//! One request in user space: decide, do what the route's policy says, forward, or answer that there is nowhere to go.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, COOKIE, HOST, HeaderValue, UPGRADE};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode, Uri, Version};
use kmesh_config::policy::{Fault, RoutePolicy, Share};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::anchor::Anchor;
use super::arrive::arrive;
use super::body::{Answer, Reader, Tape};
use super::cors::{self, Crossing};
use super::exchange::{After, Carrier, Failure, Outgoing, Target, send};
use super::front::{Orders, Rejection};
use super::headers::{change_request, change_response, strip_hop_by_hop};
use super::mirror;
use super::phrase;
use super::plan::{Plan, options, plan};
use super::relay::queued;
use super::reply::{Reply, is_grpc};
use super::retry::Tries;
use super::time::{out_of_time, time_limit};
use super::upgrade::Switched;
use crate::node::Node;
use crate::pods::Pod;
use crate::upstream::{UpstreamError, record};

/// Configurations that may take the endpoint of a request away before it is sent.
const RENEWALS: u32 = 8;

/// One client connection, for the requests that come on it.
pub(super) struct Session {
    pub(super) node: Arc<Node>,
    pub(super) pod: Arc<Pod>,
    pub(super) anchor: Arc<Anchor>,
    /// The client's address.
    pub(super) client: IpAddr,
    /// The upstream that the connection switched protocols with.
    pub(super) switched: Mutex<Option<Switched>>,
    /// What the front knows of the requests to come.
    pub(super) orders: Arc<Orders>,
}

impl Session {
    /// Serves one request that the kernel passed.
    pub(super) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Infallible> {
        let order = self.orders.next();
        self.node.served.fetch_add(1, Ordering::Relaxed);
        wait_for_kernel(&self.node, &self.anchor).await;
        let mut response = match order.answer {
            Some(rejection) => {
                let to_grpc = is_grpc(request.headers());
                rejection.reply().response(&self.anchor, to_grpc)
            }
            None => self.decide(request).await,
        };
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if order.last && !switches || self.orders.broken().is_some() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        phrase::put(&mut response);
        Ok(response)
    }

    /// The response to a sound request.
    async fn decide(&self, mut request: Request<Incoming>) -> Response<Answer> {
        let to_grpc = is_grpc(request.headers());
        if let Some(generation) = self.node.generation()
            && let Some(options) = options(&generation, self.anchor.original)
            && let Err(reply) = arrive(&mut request, options, self.client)
        {
            return reply.response(&self.anchor, to_grpc);
        }
        let planned = plan(&self.node, &self.anchor, &request);
        let fault = match &planned {
            Ok(plan) => plan.policy().fault.as_ref(),
            Err(rejection) => rejection.fault.as_ref(),
        };
        if let Some(abort) = self.fail(fault).await {
            return abort.response(&self.anchor, to_grpc);
        }
        let cors = match &planned {
            Ok(plan) => plan.policy().cors.as_ref(),
            Err(_) => None,
        };
        let crossing = cors.map(|cors| cors::judge(cors, request.method(), request.headers()));
        let outcome = match planned {
            Ok(_) if matches!(crossing, Some(Crossing::Preflight(_))) => {
                Ok(Response::new(Answer::made(&self.anchor, Bytes::new())))
            }
            Ok(plan) => self.carry(&plan, request).await,
            Err(rejection) => Err(rejection.reply),
        };
        let mut response = outcome.unwrap_or_else(|reply| {
            // A body that broke off is the client's fault, whatever became of the try that carried it.
            let broken = self.orders.broken().map(Rejection::reply);
            broken.unwrap_or(reply).response(&self.anchor, to_grpc)
        });
        if let Some(Crossing::Preflight(own) | Crossing::Allowed(own)) = crossing {
            for (name, value) in &own {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }

    /// Makes the failures that are asked for: first the delay, then the reply.
    async fn fail(&self, fault: Option<&Fault>) -> Option<Reply> {
        let fault = fault?;
        if let Some((delay, share)) = fault.delay
            && happens(share)
        {
            sleep(delay).await;
        }
        let (status, share) = fault.abort?;
        let status = StatusCode::from_u16(status).ok()?;
        happens(share).then(|| Reply::new(status, "fault filter abort"))
    }

    /// Forwards the request and returns the response, or Envoy's reply if there is none.
    async fn carry(
        &self,
        plan: &Plan,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Reply> {
        let policy = plan.policy();
        let keep = policy.retry.is_some() || !policy.mirrors.is_empty();
        let (head, body) = request.into_parts();
        let tape = Tape::new(body, keep);
        let _abandoned = Abandoned(&tape);
        let head = outgoing(plan, head).map_err(|_| Reply::new(StatusCode::BAD_REQUEST, ""))?;
        mirror::copy(
            &self.node,
            &self.pod,
            &plan.target,
            &policy.mirrors,
            &head,
            &tape,
        );
        let timeout = time_limit(policy, &head.headers);
        let begun = Instant::now();
        let exchange = self.exchange(plan, &head, &tape);
        let response = tokio::select! {
            biased;
            response = exchange => response,
            reply = out_of_time(policy, timeout, &tape, begun) => Err(reply),
        };
        response.map(|mut response| {
            let body = response.body_mut();
            // The time runs from the end of the request, and to the end of the response's body.
            let ended = tape.ended_at().unwrap_or_else(Instant::now);
            let timeout = timeout.map(|limit| ended + limit);
            let duration = policy.max_duration.map(|limit| begun + limit);
            if let Some(limit) = timeout.into_iter().chain(duration).min() {
                body.limit(limit);
            }
            if let Some(patience) = policy.idle_timeout {
                body.be_patient(patience);
            }
            response
        })
    }

    /// Tries until there is a response to keep.
    async fn exchange(
        &self,
        plan: &Plan,
        head: &http::request::Parts,
        tape: &Arc<Tape>,
    ) -> Result<Response<Answer>, Reply> {
        let policy = plan.policy();
        let cluster = plan.target.cluster();
        let breaker = (self.node.upstreams).breaker(self.pod.index, plan.target.cluster_id());
        let mut tries = Tries::new(policy.retry.as_ref(), breaker, cluster.policy.max_retries);
        let mut target = plan.target.clone();
        let mut renewals = 0;
        let mut tried = Vec::new();
        loop {
            let body = Reader::new(tape).boxed_unsync();
            let pause = match self.attempt(policy, head, body, &target).await {
                Ok((response, carrier)) => {
                    let pause = tries.after_response(response.status(), response.headers());
                    match pause.filter(|_| tape.can_replay()) {
                        Some(pause) => pause,
                        None => return Ok(self.answer(plan, response, carrier)),
                    }
                }
                // Nothing was sent, and the cluster has other endpoints by now.
                Err(Failure::Connect(UpstreamError::Gone { .. }))
                    if renewals < RENEWALS && tape.can_replay() =>
                {
                    renewals += 1;
                    Duration::ZERO
                }
                Err(failure) => {
                    debug!(error = format!("{failure:#}"), "no answer from upstream");
                    let pause = tries.after_failure(&failure);
                    match pause.filter(|_| tape.can_replay()) {
                        Some(pause) => pause,
                        None => return Err(Reply::to_failure(&failure, tries.done)),
                    }
                }
            };
            sleep(pause).await;
            tried.push(target.endpoint_id());
            let picks = policy.retry.as_ref().map_or(1, |retry| retry.picks);
            target = plan.next(&self.node, &tried, picks);
        }
    }

    /// One try.
    async fn attempt(
        &self,
        policy: &RoutePolicy,
        head: &http::request::Parts,
        body: Outgoing,
        target: &Target,
    ) -> Result<(Response<Incoming>, Carrier), Failure> {
        let mut request = Request::from_parts(head.clone(), body);
        if policy.auto_host_rewrite
            && let Some(name) = target.cluster().policy.hostnames.get(&target.address())
            && let Ok(host) = HeaderValue::from_str(name)
        {
            request.headers_mut().insert(HOST, host);
        }
        let request = address(request, target).map_err(|_| Failure::TryTimeout)?;
        let sent = send(&self.node, &self.pod, target, request);
        let limit = policy
            .retry
            .as_ref()
            .and_then(|retry| retry.per_try_timeout);
        match limit {
            Some(limit) => timeout(limit, sent)
                .await
                .unwrap_or(Err(Failure::TryTimeout)),
            None => sent.await,
        }
    }

    /// The upstream's response for the client.
    fn answer(
        &self,
        plan: &Plan,
        mut response: Response<Incoming>,
        carrier: Carrier,
    ) -> Response<Answer> {
        let policy = plan.policy();
        let cluster = &plan.target.cluster().name;
        let after = |carrier, response: &Response<Incoming>| {
            After::new(carrier, response, plan.kernel_bound)
        };
        let switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match carrier {
            Carrier::Own(busy) if switch => {
                let upgrade = response.headers().get(UPGRADE).cloned();
                strip_hop_by_hop(response.headers_mut());
                change_response(response.headers_mut(), policy, cluster);
                if let Some(upgrade) = upgrade {
                    let headers = response.headers_mut();
                    headers.insert(UPGRADE, upgrade);
                    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                }
                let (driver, ticket) = busy.into_driver();
                *self.switched.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Switched { driver, ticket });
                response.map(|_| Answer::switch(&self.anchor))
            }
            carrier => {
                let after = after(carrier, &response);
                strip_hop_by_hop(response.headers_mut());
                change_response(response.headers_mut(), policy, cluster);
                *response.version_mut() = Version::HTTP_11;
                response.map(|body| Answer::stream(&self.anchor, body, after))
            }
        }
    }
}

/// The request's head as upstreams get it, besides what depends on their protocol.
fn outgoing(
    plan: &Plan,
    mut head: http::request::Parts,
) -> Result<http::request::Parts, http::Error> {
    let policy = plan.policy();
    let upgrade = head.headers.get(UPGRADE).cloned();
    strip_hop_by_hop(&mut head.headers);
    if let Some(upgrade) = upgrade {
        head.headers.insert(UPGRADE, upgrade);
        let connection = HeaderValue::from_static("upgrade");
        head.headers.insert(CONNECTION, connection);
    }
    // An authority in the target replaces the Host header (RFC 9112 section 3.2.2, RFC 9113 section 8.3.1).
    if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str())?;
        head.headers.insert(HOST, host);
    }
    join_cookies(&mut head);
    change_request(&mut head.headers, policy, &plan.target.cluster().name);
    if let Some(host) = &policy.host_rewrite {
        head.headers.insert(HOST, HeaderValue::from_str(host)?);
    }
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let rewrite = plan.target.generation.rewrites[plan.route as usize].as_ref();
    head.uri = match rewrite {
        Some(rewrite) => rewrite.apply(target).parse()?,
        None => target.parse()?,
    };
    head.extensions.clear();
    Ok(head)
}

/// A tape that nobody plays any more when this goes.
struct Abandoned<'t>(&'t Tape);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Whether what happens to this share of requests happens to this one.
pub(super) fn happens(share: Share) -> bool {
    share == Share::ALL || rand::random_range(0..Share::ALL.0) < share.0
}

/// Gives the request the form of the target's protocol: HTTP/2 has the host in the URI.
///
/// # Errors
/// If the host cannot be part of a URI.
pub(super) fn address(
    mut request: Request<Outgoing>,
    target: &Target,
) -> Result<Request<Outgoing>, http::Error> {
    if !target.speaks_http2() {
        *request.version_mut() = Version::HTTP_11;
        return Ok(request);
    }
    *request.version_mut() = Version::HTTP_2;
    let mut uri = request.uri().clone().into_parts();
    if let Some(host) = request.headers_mut().remove(HOST) {
        uri.scheme = Some(http::uri::Scheme::HTTP);
        uri.authority = Some(http::uri::Authority::try_from(host.as_bytes())?);
    }
    *request.uri_mut() = Uri::from_parts(uri)?;
    Ok(request)
}

/// HTTP/2 may send a cookie in pieces, HTTP/1.1 may not (RFC 9113 section 8.2.3).
fn join_cookies(head: &mut http::request::Parts) {
    let pieces: Vec<&[u8]> = (head.headers.get_all(COOKIE).iter())
        .map(HeaderValue::as_bytes)
        .collect();
    if head.version == Version::HTTP_2
        && pieces.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&pieces.join(&b"; "[..]))
    {
        head.headers.insert(COOKIE, cookie);
    }
}

/// Waits until the exchange that the kernel still has for this client is over: answers come in the order of requests.
async fn wait_for_kernel(node: &Node, anchor: &Anchor) {
    const POLL: Duration = Duration::from_millis(1);
    let client = anchor.cookie;
    let waiting = node.datapath().waiting.get(&client, 0);
    let Ok(waiting) = waiting else {
        // An exchange counts as done a moment before its relayed answer has left.
        while anchor.is_relaying() {
            sleep(POLL).await;
        }
        return;
    };
    if let Some(record) = record(node, waiting.slot) {
        let is_open = || {
            let word = record.word();
            word.lease() == waiting.lease && (word.is_open() || anchor.is_relaying())
        };
        while is_open() {
            sleep(POLL).await;
        }
        // A response that the kernel had begun before the client pipelined is queued shortly after it counts as done: by a
        // server on this node in its own `send`, which nobody can see the end of, otherwise by a worker, which is waited for.
        sleep(POLL).await;
        queued(node, client).await;
    }
    // Absent is what this asks for.
    let _ = node.datapath().waiting.remove(&client);
}
