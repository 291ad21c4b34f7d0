//! How long a request may take: what its route says, and what gRPC clients ask for.

use std::time::Duration;

use hyper::StatusCode;
use kmesh_config::policy::RoutePolicy;
use tokio::time::{Instant, sleep_until};

use super::body::Tape;
use super::reply::{Reply, TIMEOUT, is_grpc};

/// The time limit of a request: the route's, or for gRPC the one that it asks for itself, if the route says how long that may be.
pub(super) fn time_limit(policy: &RoutePolicy, headers: &http::HeaderMap) -> Option<Duration> {
    let Some(most) = policy.grpc_timeout_max.filter(|_| is_grpc(headers)) else {
        return policy.timeout;
    };
    let asked = headers
        .get("grpc-timeout")
        .and_then(|text| grpc_timeout(text.as_bytes()));
    let most = Some(most).filter(|most| !most.is_zero());
    match (asked, most) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, most) => asked.or(most),
    }
}

/// The value of a `grpc-timeout` header: up to eight digits and a unit. `None` if it is none, or no limit.
fn grpc_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let limit = match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    (digits.len() <= 8 && !limit.is_zero()).then_some(limit)
}

/// Waits until one of the route's time limits is over; Envoy's reply then.
pub(super) async fn out_of_time(
    policy: &RoutePolicy,
    timeout: Option<Duration>,
    tape: &Tape,
    begun: Instant,
) -> Reply {
    async fn or_never(limited: Option<impl Future<Output = ()>>) {
        match limited {
            Some(limited) => limited.await,
            None => std::future::pending().await,
        }
    }
    let timeout = timeout.map(async |limit| sleep_until(tape.ended().await + limit).await);
    let duration = policy.max_duration.map(|limit| sleep_until(begun + limit));
    let idle = policy.idle_timeout.map(|patience| tape.is_still(patience));
    let text = tokio::select! {
        () = or_never(timeout) => return Reply::new(StatusCode::GATEWAY_TIMEOUT, TIMEOUT),
        () = or_never(duration) => "downstream duration timeout",
        () = or_never(idle) => "stream timeout",
    };
    // Whose fault it is depends on who was waited for.
    let status = match tape.ended_at() {
        Some(_) => StatusCode::GATEWAY_TIMEOUT,
        None => StatusCode::REQUEST_TIMEOUT,
    };
    Reply::new(status, text)
}
