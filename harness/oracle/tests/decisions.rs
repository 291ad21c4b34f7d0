//! The datapath's decisions equal the reference's: 20,000 requests on random configurations, split at every byte too.

use std::cell::Cell;

use kmesh_api::listener::{CLASS_ANCHORED, CLASS_OPAQUE};
use kmesh_config::{Classes, Compiled, Config, Identities, compile};
use kmesh_oracle::{Native, Prediction, Request, ScriptedDice, Verdict, generate, predict};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

const CONFIGS: u32 = 400;
const REQUESTS: usize = 50;

/// Failures are reported by the shrunk case itself, not kept in files.
fn settings(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// What is said about a request: the place of the route, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    NoRoute,
    /// The datapath does not say which route it was.
    NoEndpoint,
    Cluster(Place, String),
    NoCluster(Place),
    Local(Place),
}

/// Virtual host and position of the route.
type Place = (String, usize);

/// What the reference says when this number is drawn.
fn expected(prediction: &Prediction<'_>, drawn: u32) -> Answer {
    match prediction {
        Prediction::NoRoute => Answer::NoRoute,
        Prediction::Answered(a) => Answer::Local((a.virtual_host.to_owned(), a.route)),
        Prediction::Routed(routed) => {
            let place = (routed.virtual_host.to_owned(), routed.route);
            match routed.drawn(drawn) {
                None => Answer::NoCluster(place),
                Some(candidate) if candidate.endpoints.is_empty() => Answer::NoEndpoint,
                Some(candidate) => Answer::Cluster(place, candidate.cluster.to_owned()),
            }
        }
    }
}

/// The same by the decision code. `None` if the kernel leaves the request to user space.
fn decided(
    config: &Config,
    compiled: &Compiled,
    route_config: u32,
    request: &Request,
    drawn: u32,
) -> Option<Answer> {
    let bytes = request.to_bytes();
    let mut dice = ScriptedDice::new([drawn]);
    let place = |route: u32| {
        let name = &compiled.names.routes[route as usize];
        (name.virtual_host.clone(), name.position as usize)
    };
    Some(
        match Native::new(&compiled.image).judge(route_config, &bytes, &mut dice) {
            Verdict::NoRoute => Answer::NoRoute,
            Verdict::NoEndpoint => Answer::NoEndpoint,
            Verdict::NoCluster(route) => Answer::NoCluster(place(route)),
            Verdict::Answered(route) => Answer::Local(place(route)),
            Verdict::Chosen(choice) => {
                let endpoint = &compiled.names.endpoints[choice.endpoint as usize];
                assert_eq!(
                    endpoint.cluster, choice.cluster,
                    "an endpoint of another cluster"
                );
                let cluster = config.clusters[choice.cluster as usize].name.clone();
                Answer::Cluster(place(choice.route), cluster)
            }
            Verdict::Refused(_) => return None,
            Verdict::Partial => panic!("{request}: is complete, but the scanner wants more"),
        },
    )
}

/// Numbers to draw for a request: a full round of a route's weights, and some for shares of requests.
fn rounds(prediction: &Prediction<'_>) -> Vec<u32> {
    let weights = match prediction {
        Prediction::Routed(routed) => routed.candidates.iter().map(|c| c.weight).sum(),
        _ => 1,
    };
    (0..weights)
        .chain([30, 50, 99, 2_999, 3_000, 500_000])
        .collect()
}

#[test]
fn native_decisions_equal_the_references() {
    let mut runner = TestRunner::new(settings(CONFIGS));
    let (compared, refused, routed, opaque) = (
        Cell::new(0_u32),
        Cell::new(0_u32),
        Cell::new(0_u32),
        Cell::new(0_u32),
    );
    let count = |counter: &Cell<u32>| counter.set(counter.get() + 1);
    let strategy = (generate::config(), vec(generate::request(), REQUESTS));
    let outcome = runner.run(&strategy, |(config, requests)| {
        let compiled = compile(&config, &mut Identities::default(), Classes::default()).unwrap();
        for (i, request) in requests.iter().enumerate() {
            let index = i % config.listeners.len();
            let listener = &compiled.image.listeners[index];
            let predicted = |drawn| predict(&config, &config.listeners[index], request, drawn);
            let prediction = predicted(0);
            if listener.class == CLASS_OPAQUE {
                count(&opaque);
                let cluster = compiled.image.weights[listener.target as usize].cluster;
                let cluster = &config.clusters[cluster as usize];
                prop_assert_eq!(cluster.endpoints.len(), 1);
                let Answer::Cluster(_, only) = expected(&prediction, 0) else {
                    panic!("{request}: {prediction:?}");
                };
                prop_assert_eq!(&only, &cluster.name, "{}", request);
                continue;
            }
            prop_assert_eq!(listener.class, CLASS_ANCHORED);
            let mut all = true;
            for drawn in rounds(&prediction) {
                let Some(answer) = decided(&config, &compiled, listener.target, request, drawn)
                else {
                    all = false;
                    continue;
                };
                let expected = expected(&predicted(drawn), drawn);
                prop_assert_eq!(answer, expected, "{}, drawn {}", request, drawn);
            }
            count(if all { &compared } else { &refused });
            if prediction != Prediction::NoRoute {
                count(&routed);
            }
        }
        Ok(())
    });
    if let Err(TestError::Fail(reason, (config, _))) = &outcome {
        panic!("{reason}\n{config:#?}");
    }
    outcome.unwrap();
    println!(
        "compared {} (routed {}), refused {}, opaque {}",
        compared.get(),
        routed.get(),
        refused.get(),
        opaque.get()
    );
    assert_eq!(
        refused.get(),
        0,
        "the kernel decides on every canonical request"
    );
    let all = CONFIGS * REQUESTS as u32;
    assert!(compared.get() + opaque.get() == all, "all are compared");
    assert!(
        routed.get() > all / 5,
        "only {} of {all} found a route",
        routed.get()
    );
}

proptest! {
    #![proptest_config(settings(100))]

    /// Lines of different headers may stand in any order, and names and hosts in any case.
    #[test]
    fn order_and_case_of_headers_do_not_matter(
        config in generate::config(),
        request in generate::request(),
        turn in 0_usize..6,
    ) {
        let compiled = compile(&config, &mut Identities::default(), Classes::default()).unwrap();
        let mut other = request.clone();
        // Lines of one header keep their order: a stable sort by name, from another starting point.
        other.headers.sort_by_key(|(name, _)| {
            let name = name.to_ascii_lowercase();
            let at = turn.min(name.len());
            (name[at..].to_owned(), name)
        });
        for (name, _) in &mut other.headers {
            *name = name.to_ascii_uppercase();
        }
        other.host = other.host.to_ascii_uppercase();
        let mut native = Native::new(&compiled.image);
        let one = native.judge(0, &request.to_bytes(), &mut ScriptedDice::new([3, 1]));
        let two = native.judge(0, &other.to_bytes(), &mut ScriptedDice::new([3, 1]));
        prop_assert_eq!(one, two, "{} and {}", request, other);
    }

    /// A head that is cut short is incomplete, wherever it is cut.
    #[test]
    fn no_verdict_before_the_last_byte(config in generate::config(), request in generate::request()) {
        let compiled = compile(&config, &mut Identities::default(), Classes::default()).unwrap();
        let mut native = Native::new(&compiled.image);
        let bytes = request.to_bytes();
        for cut in 0..bytes.len() {
            let verdict = native.judge(0, &bytes[..cut], &mut ScriptedDice::default());
            prop_assert_eq!(verdict, Verdict::Partial, "cut at {}", cut);
        }
    }
}
