//! Real Envoy, the reference and the decision code agree, request by request, weighted choices included.

use std::path::{Path, PathBuf};

use kmesh_config::parse;
use kmesh_oracle::differential::{Judges, draw};
use kmesh_oracle::envoy::{self, Answer, Envoy};
use kmesh_oracle::{Request, many};
use proptest::test_runner::TestRunner;

/// The program, if it is installed; under `CI=true` it must be.
fn program(test: &str) -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = envoy::program(&workspace);
    if program.is_file() {
        return Some(program);
    }
    assert!(std::env::var("CI").is_err(), "{test}: needs envoy");
    eprintln!("SKIP {test}: needs envoy, which ci/setup.sh installs");
    None
}

#[test]
fn envoy_reference_and_native_code_agree() {
    const CASES: usize = 120;
    const QUESTIONS: usize = 40;
    let Some(program) = program("envoy_reference_and_native_code_agree") else {
        return;
    };
    let mut runner = TestRunner::deterministic();
    let cases: Vec<_> = (0..CASES)
        .map(|_| draw(&mut runner, QUESTIONS).unwrap())
        .collect();
    let mut judges = Judges {
        envoy: Some(program),
        ..Judges::default()
    };
    let mismatches = judges.compare(&cases).unwrap();
    if let Some(first) = mismatches.into_iter().next() {
        panic!("{}", judges.shrink(first).unwrap());
    }
}

/// What the comparison rests on: Envoy names route and cluster, draws what it is told, and refuses on its own.
#[test]
fn envoy_says_what_it_chose() {
    let Some(program) = program("envoy_says_what_it_chose") else {
        return;
    };
    let text = include_str!("../../../scenarios/resources/weighted-90-10.yaml");
    let config = parse(text, "weighted-90-10.yaml").unwrap();
    let envoy = Envoy::start(&program, &[config]).unwrap();
    let routed = |cluster: &str| Answer::Routed {
        virtual_host: 0,
        route: 0,
        cluster: cluster.to_owned(),
    };
    let get = Request::get("svc.test", "/");
    let other = Request::get("other", "/");
    let mut head = get.clone();
    head.method = "HEAD".to_owned();
    let mut bad = get.clone();
    bad.method = "FOO".to_owned();
    let asked = [
        (&get, 0),
        (&get, 89),
        (&get, 90),
        (&get, 100),
        (&head, 99),
        (&other, 0),
        (&bad, 0),
        (&get, 199),
    ];
    let expected = [
        routed("v1"),
        routed("v1"),
        routed("v2"),
        routed("v1"),
        routed("v2"),
        Answer::NoRoute,
        Answer::Refused(400),
        routed("v2"),
    ];
    assert_eq!(envoy.ask(0, 0, &asked).unwrap(), expected);
}

/// Not a comparison, a figure to stand beside ours: what a decision and a local answer cost Envoy.
#[test]
fn what_routes_cost_envoy() {
    const REQUESTS: usize = 2_000;
    let Some(program) = program("what_routes_cost_envoy") else {
        return;
    };
    for routes in [10, 10_000] {
        let envoy = Envoy::start(&program, &[many::config(1, routes)]).unwrap();
        let request = many::request(1, routes, 250);
        let asked = vec![(&request, 0); REQUESTS];
        // The first round opens connections and warms up.
        envoy.ask(0, 0, &asked[..100]).unwrap();
        let before = envoy.cpu_time().unwrap();
        let answers = envoy.ask(0, 0, &asked).unwrap();
        let taken = envoy.cpu_time().unwrap().saturating_sub(before);
        let expected = Answer::Routed {
            virtual_host: 0,
            route: routes - 1,
            cluster: "c".to_owned(),
        };
        assert!(answers.iter().all(|answer| *answer == expected));
        println!(
            "envoy with {routes} routes: {:?} of CPU per request, parsing and answering included",
            taken / REQUESTS as u32
        );
    }
}
