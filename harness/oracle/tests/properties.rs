//! Properties of decisions (`P1` to `P15` of the research on harnesses), on the generators that all judges share.
//!
//! | | property | where |
//! |---|---|---|
//! | P1 | equals the oracle | `envoy.rs`, `decisions.rs`, `root_kernel.rs`, `golden.rs`; `kmesh-bench verify decisions` |
//! | P2 | any segmentation of the stream gives the same decisions | `orchestration/tests/split.rs`, `vectors.rs`; `edge.rs`; fuzz `split`, `chunks` |
//! | P3 | a pipelined request's decision depends on that request only | here; `edge.rs` |
//! | P4 | the order of distinct headers does not matter | `decisions.rs` |
//! | P5 | the case of header names does not matter, that of values does | `decisions.rs`; `golden.rs` |
//! | P6 | bytes of a body never route | here; `edge.rs` (`SMUG-*`) |
//! | P7 | weights are exact over a round, zero is never drawn | `decisions.rs`, `envoy.rs`, `golden.rs` |
//! | P8 | a route added below a match changes nothing | here |
//! | P9 | the endpoint belongs to the cluster | `decisions.rs`, `explain.rs`; fuzz `head` |
//! | P10 | round robin is even on every CPU | `orchestration/tests/balance.rs` |
//! | P11 | during a swap a decision is the old or the new configuration's | `controller/src/generation.rs`, `controller/tests/root_config.rs` |
//! | P12 | what cannot be decided goes to user space, never to a backend | here; `edge.rs`; fuzz `head` |
//! | P13 | every request on a connection is routed anew | here; `controller/tests/root_routing.rs` |
//! | P14 | the verifier accepts the programs, below its budget | `root_cost.rs`, `root_kernel.rs` |
//! | P15 | no byte is lost, doubled or out of order | `kmesh-bench verify streams`, `controller/tests/root_framing.rs` |
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use kmesh_api::limits::HEAD_MAX;
use kmesh_config::model::{ListenerKind, VirtualHostConfig};
use kmesh_config::{Classes, Compiled, Identities, compile};
use kmesh_oracle::Request;
use kmesh_oracle::differential::{Case, Decision, Judges, draw};
use kmesh_oracle::edge::by_native;
use proptest::test_runner::TestRunner;

const CASES: usize = 60;
const QUESTIONS: usize = 12;

/// Random cases with their tables; the questions to the first listener only.
fn cases(mut check: impl FnMut(&Case, &Compiled)) {
    let mut runner = TestRunner::deterministic();
    for _ in 0..CASES {
        let mut case = draw(&mut runner, QUESTIONS).unwrap();
        case.config.listeners.truncate(1);
        for question in &mut case.questions {
            question.listener = 0;
        }
        let compiled =
            compile(&case.config, &mut Identities::default(), Classes::default()).unwrap();
        check(&case, &compiled);
    }
}

/// The one word for a request that is alone on its connection.
fn alone(compiled: &Compiled, request: &Request) -> String {
    let mut words = by_native(compiled, &request.to_bytes());
    assert_eq!(words.len(), 1, "{request}: {words:?}");
    words.remove(0)
}

/// P3 and P13: on one connection each request gets what it gets alone.
#[test]
fn requests_on_one_connection_do_not_know_of_each_other() {
    cases(|case, compiled| {
        let requests = case.questions.iter().map(|question| &question.request);
        let expected: Vec<_> = requests.clone().map(|r| alone(compiled, r)).collect();
        let stream: Vec<u8> = requests.flat_map(Request::to_bytes).collect();
        let mut said = by_native(compiled, &stream);
        // The first that goes to user space takes the rest of the connection with it.
        let left = expected.iter().position(|word| word.starts_with("user:"));
        said.truncate(left.unwrap_or(said.len()));
        assert_eq!(said, expected[..left.unwrap_or(expected.len())]);
    });
}

/// P6: a body that is a request, whole or in chunks, is not routed, and what follows it is.
#[test]
fn bodies_do_not_route() {
    cases(|case, compiled| {
        for pair in case.questions.windows(2) {
            let (first, body) = (&pair[0].request, pair[1].request.to_bytes());
            let word = alone(compiled, first);
            if word.starts_with("user:") {
                continue;
            }
            let next = alone(compiled, &pair[1].request);
            let framed = first
                .clone()
                .with("content-length", &body.len().to_string())
                .to_bytes();
            let chunk = format!("{:x}\r\n", body.len());
            let chunked = first
                .clone()
                .with("transfer-encoding", "chunked")
                .to_bytes();
            let chunked = [&chunked, chunk.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
            for sent in [[framed, body.clone()].concat(), chunked] {
                let one = by_native(compiled, &sent);
                assert_eq!(one, std::slice::from_ref(&word), "{first}");
                let two = by_native(compiled, &[&sent[..], &body].concat());
                assert_eq!(two, [word.clone(), next.clone()], "{first}");
            }
        }
    });
}

/// P8: appending to every virtual host the routes of another changes only what had no route.
#[test]
fn routes_below_a_match_change_nothing() {
    let mut judges = Judges::default();
    let mut routed = 0;
    cases(|case, _| {
        let mut longer = case.clone();
        let ListenerKind::Http(routes) = &mut longer.config.listeners[0].kind else {
            panic!("not an HTTP listener");
        };
        let more = |host: &VirtualHostConfig| host.routes.clone();
        let others: Vec<_> = routes.virtual_hosts.iter().rev().map(more).collect();
        for (host, more) in routes.virtual_hosts.iter_mut().zip(others) {
            host.routes.extend(more);
        }
        let said = judges.ask(&[case.clone(), longer]).unwrap();
        for ((question, before), after) in case.questions.iter().zip(&said[0]).zip(&said[1]) {
            if before["reference"] == Decision::NoRoute {
                continue;
            }
            assert_eq!(before, after, "{}", question.request);
            routed += 1;
        }
    });
    assert!(routed > CASES, "only {routed} requests found a route");
}

/// P12: a head with a byte that does not belong there, or one too long, is never routed by the kernel.
#[test]
fn what_cannot_be_decided_is_left_to_user_space() {
    cases(|case, compiled| {
        for (number, question) in case.questions.iter().enumerate() {
            let mut bytes = question.request.to_bytes();
            let end = bytes.len() - 4;
            bytes[number * 97 % end] = [0, 1, 0x0b, 0x7f][number % 4];
            let words = by_native(compiled, &bytes);
            assert!(words[0].starts_with("user:"), "{words:?} for {bytes:?}");
            let long = question.request.clone().with("x", &"a".repeat(HEAD_MAX));
            let words = by_native(compiled, &long.to_bytes());
            assert!(words[0].starts_with("user:"), "{words:?}");
        }
    });
}
