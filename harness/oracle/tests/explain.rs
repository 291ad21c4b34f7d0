//! Explanations agree with the decisions they explain, and a planted error is found, made small and replayed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use kmesh_explain::{Outcome, explain};
use kmesh_oracle::Reproducer;
use kmesh_oracle::differential::{Case, Decision, Judges, Said, draw, portless};
use proptest::test_runner::TestRunner;

/// Checks the explanation of each question against what the native code says.
fn check(case: &Case, said: &[Said]) {
    for (question, said) in case.questions.iter().zip(said) {
        let head = question.request.to_bytes();
        let why = explain(
            &case.config,
            question.listener,
            &head,
            Some(&[question.drawn]),
        )
        .unwrap();
        let hosts = case.config.listeners[question.listener].virtual_hosts();
        let host = why.virtual_host.as_ref().map(|host| {
            let position = hosts.iter().position(|other| other.name == host.name);
            position.unwrap()
        });
        for passed in &why.passed {
            assert!(!passed.because.is_empty(), "{}\n{why}", question.request);
        }
        match &said["native"] {
            Decision::Routed(at, route, cluster) => {
                assert_eq!(why.outcome, Outcome::Routed, "{why}");
                assert_eq!(host, Some(*at), "{why}");
                assert_eq!(why.route.as_ref().unwrap().position, *route, "{why}");
                let step = why.cluster.as_ref().unwrap();
                assert_eq!(step.chosen.as_ref(), Some(cluster), "{why}");
                let share = step.shares.iter().find(|share| share.cluster == *cluster);
                let endpoint = step.endpoint.unwrap();
                assert!(share.unwrap().endpoints.contains(&endpoint), "{why}");
                assert_eq!(why.passed.len(), *route, "{why}");
            }
            Decision::NoEndpoint => {
                assert_eq!(why.outcome, Outcome::NoEndpoint, "{why}");
                let Decision::Routed(at, route, _) = said["reference"] else {
                    panic!("503 and no route: {why}");
                };
                assert_eq!(host, Some(at), "{why}");
                assert_eq!(why.route.as_ref().unwrap().position, route, "{why}");
            }
            Decision::NoRoute => {
                assert_eq!(why.outcome, Outcome::NoRoute, "{why}");
                assert!(why.route.is_none(), "{why}");
                if let Some(host) = host {
                    assert_eq!(why.passed.len(), hosts[host].routes.len(), "{why}");
                }
            }
            Decision::NoCluster(at, route) => {
                assert_eq!(why.outcome, Outcome::NoCluster, "{why}");
                assert_eq!(host, Some(*at), "{why}");
                assert_eq!(why.route.as_ref().unwrap().position, *route, "{why}");
            }
            Decision::Answered(at, route, status, _) => {
                assert_eq!(why.outcome, Outcome::Answered { status: *status }, "{why}");
                assert_eq!(host, Some(*at), "{why}");
                assert_eq!(why.route.as_ref().unwrap().position, *route, "{why}");
            }
            other => panic!("{other} is no decision on {}", question.request),
        }
    }
}

#[test]
fn explanations_agree_with_decisions() {
    let mut runner = TestRunner::deterministic();
    let mut judges = Judges::default();
    for _ in 0..60 {
        let case = draw(&mut runner, 10).unwrap();
        let said = judges.ask(std::slice::from_ref(&case)).unwrap();
        check(&case, &said[0]);
    }
}

#[test]
fn a_planted_error_shrinks_to_a_line_that_is_explained() {
    let mut runner = TestRunner::deterministic();
    let mut judges = Judges {
        mutant: Some(portless),
        ..Judges::default()
    };
    let found = std::iter::from_fn(|| {
        let case = draw(&mut runner, 20).unwrap();
        Some(judges.compare(&[case]).unwrap())
    });
    let first = found.take(200).flatten().next();
    let small = judges
        .shrink(first.expect("the mutant errs often"))
        .unwrap();
    let line = small.to_string();
    let (_, replay) = line.split_once("kmesh-bench explain '").unwrap();
    let case = Reproducer::parse(replay.strip_suffix('\'').unwrap())
        .unwrap()
        .case;
    let said = judges.ask(std::slice::from_ref(&case)).unwrap();
    assert_eq!(said[0][0], small.said, "replayed: {line}");
    assert_ne!(small.said["mutant"], small.said["native"], "{line}");
    check(&case, &said[0]);
    let hosts = case.config.listeners[0].virtual_hosts();
    let routes: usize = hosts.iter().map(|host| host.routes.len()).sum();
    assert!(hosts.len() <= 2 && routes <= 2, "not small: {line}");
    assert!(case.questions[0].request.headers.is_empty(), "{line}");
}
