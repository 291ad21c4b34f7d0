//! When to try a request again, and after which pause: `RetryStateImpl` of Envoy (`source/common/router/retry_state_impl.cc`).

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use hyper::StatusCode;
use kmesh_config::policy::{RetryOn, RetryPolicy};

use super::exchange::Failure;
use crate::upstream::{Breaker, Ticket};

/// The tries of one request.
pub(super) struct Tries<'p> {
    policy: Option<&'p RetryPolicy>,
    /// Tries after the first so far.
    pub(super) done: u32,
    breaker: Arc<Breaker>,
    most_at_once: u32,
    held: Option<Ticket>,
}

impl<'p> Tries<'p> {
    /// None yet; of all the pod's requests to the cluster, `most_at_once` may be retries.
    pub(super) fn new(
        policy: Option<&'p RetryPolicy>,
        breaker: Arc<Breaker>,
        most_at_once: u32,
    ) -> Self {
        Self {
            policy,
            done: 0,
            breaker,
            most_at_once,
            held: None,
        }
    }

    /// The pause before another try, if there is to be one.
    fn again(&mut self) -> Option<Duration> {
        let policy = self.policy?;
        if self.done >= policy.retries {
            return None;
        }
        // The last retry is over.
        self.held = None;
        self.held = Some(self.breaker.retry(self.most_at_once)?);
        let factor = 2_u32.saturating_pow(self.done);
        self.done += 1;
        let most = policy.base_interval.saturating_mul(factor);
        Some(most.min(policy.max_interval).mul_f64(rand::random()))
    }

    /// The pause before another try after this response, if there is to be one.
    pub(super) fn after_response(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Duration> {
        let policy = self.policy?;
        let retried = is_retried(policy, status.as_u16(), headers);
        if retried { self.again() } else { None }
    }

    /// The pause before another try after a try without a response, if there is to be one.
    pub(super) fn after_failure(&mut self, failure: &Failure) -> Option<Duration> {
        let policy = self.policy?;
        let on = |condition| policy.on.contains(&condition);
        let any_reset = on(RetryOn::Reset) || on(RetryOn::ServerError) || on(RetryOn::GatewayError);
        let retried = match failure {
            Failure::Overflow => false,
            Failure::Connect(_) => {
                any_reset || on(RetryOn::ConnectFailure) || on(RetryOn::ResetBeforeRequest)
            }
            Failure::Refused(_) => any_reset || on(RetryOn::RefusedStream),
            Failure::Reset(_)
            | Failure::Garbled(_)
            | Failure::StreamReset(_)
            | Failure::TryTimeout => any_reset,
        };
        if retried { self.again() } else { None }
    }
}

fn is_retried(policy: &RetryPolicy, status: u16, headers: &HeaderMap) -> bool {
    let on = |condition| policy.on.contains(&condition);
    let grpc = || {
        let status = headers.get("grpc-status")?.to_str().ok()?;
        status.parse::<u16>().ok()
    };
    on(RetryOn::ServerError) && status >= 500
        || on(RetryOn::GatewayError) && (502..=504).contains(&status)
        || on(RetryOn::Conflict) && status == 409
        || policy.statuses.contains(&status)
        || !policy.grpc_statuses.is_empty()
            && grpc().is_some_and(|status| policy.grpc_statuses.contains(&status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(on: &[RetryOn]) -> RetryPolicy {
        RetryPolicy {
            on: on.to_vec(),
            statuses: Vec::new(),
            grpc_statuses: Vec::new(),
            retries: 2,
            per_try_timeout: None,
            base_interval: Duration::from_millis(10),
            max_interval: Duration::from_millis(15),
            picks: 1,
        }
    }

    fn tries(policy: &RetryPolicy) -> Tries<'_> {
        Tries::new(Some(policy), Arc::default(), 1)
    }

    #[test]
    fn conditions_hold_for_what_they_name() {
        let none = HeaderMap::new();
        for (on, retried) in [
            (RetryOn::ServerError, vec![500, 502, 503, 504, 599]),
            (RetryOn::GatewayError, vec![502, 503, 504]),
            (RetryOn::Conflict, vec![409]),
            (RetryOn::Reset, vec![]),
        ] {
            let policy = policy(&[on]);
            let found: Vec<u16> = (100..600)
                .filter(|status| is_retried(&policy, *status, &none))
                .filter(|status| [409, 500, 502, 503, 504, 599].contains(status))
                .collect();
            assert_eq!(found, retried, "{on:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", http::HeaderValue::from_static("14"));
        let mut grpc = policy(&[]);
        assert!(!is_retried(&grpc, 200, &headers));
        grpc.grpc_statuses.push(14);
        assert!(is_retried(&grpc, 200, &headers));
    }

    #[test]
    fn tries_and_pauses_are_bounded() {
        let policy = policy(&[RetryOn::ServerError]);
        let mut tries = tries(&policy);
        for most in [10, 15] {
            let pause = tries.after_failure(&Failure::TryTimeout).unwrap();
            assert!(pause <= Duration::from_millis(most), "{pause:?}");
        }
        assert_eq!(tries.after_failure(&Failure::TryTimeout), None, "used up");
        assert_eq!(tries.done, 2);
    }

    #[test]
    fn an_open_breaker_is_not_retried() {
        let policy = policy(&[RetryOn::Reset, RetryOn::ServerError]);
        assert_eq!(tries(&policy).after_failure(&Failure::Overflow), None);
        let breaker: Arc<Breaker> = Arc::default();
        let _other = breaker.retry(1);
        let mut full = Tries::new(Some(&policy), breaker, 1);
        assert_eq!(
            full.after_failure(&Failure::TryTimeout),
            None,
            "another request retries"
        );
    }
}
