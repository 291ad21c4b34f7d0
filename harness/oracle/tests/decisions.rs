//! The datapath's decisions equal the reference's: 20,000 requests on random configurations, split at every byte too.

use std::cell::Cell;
use std::collections::BTreeMap;

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

/// How often each answer was given: by cluster for requests that are routed.
type Answers<'c> = BTreeMap<Answer<'c>, u64>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer<'c> {
    NoRoute,
    NoEndpoint,
    Cluster(&'c str),
}

/// The answers over one full round of weights, by the reference.
fn expected<'c>(prediction: &Prediction<'c>) -> Answers<'c> {
    let Prediction::Routed(routed) = prediction else {
        return Answers::from([(Answer::NoRoute, 1)]);
    };
    let mut answers = Answers::new();
    for candidate in &routed.candidates {
        let answer = if candidate.endpoints.is_empty() {
            Answer::NoEndpoint
        } else {
            Answer::Cluster(candidate.cluster)
        };
        *answers.entry(answer).or_default() += u64::from(candidate.weight);
    }
    answers
}

/// The same by the decision code, every value drawn once. `None` if the kernel leaves the request to user space.
fn decided<'c>(
    config: &'c Config,
    compiled: &Compiled,
    route_config: u32,
    request: &Request,
    prediction: &Prediction<'_>,
) -> Option<Answers<'c>> {
    let rounds = match prediction {
        Prediction::Routed(routed) => routed.candidates.iter().map(|c| c.weight).sum(),
        Prediction::NoRoute => 1,
    };
    let bytes = request.to_bytes();
    let mut native = Native::new(&compiled.image);
    let mut answers = Answers::new();
    for drawn in 0..rounds {
        let mut dice = ScriptedDice::new([drawn]);
        let answer = match native.judge(route_config, &bytes, &mut dice) {
            Verdict::NoRoute => Answer::NoRoute,
            Verdict::NoEndpoint => Answer::NoEndpoint,
            Verdict::Chosen(choice) => {
                let endpoint = &compiled.names.endpoints[choice.endpoint as usize];
                assert_eq!(
                    endpoint.cluster, choice.cluster,
                    "an endpoint of another cluster"
                );
                let route = &compiled.names.routes[choice.route as usize];
                if let Prediction::Routed(routed) = prediction {
                    let here = (route.virtual_host.as_str(), route.position as usize);
                    assert_eq!(here, (routed.virtual_host, routed.route), "{request}");
                }
                Answer::Cluster(&config.clusters[choice.cluster as usize].name)
            }
            Verdict::Refused(_) => return None,
            Verdict::Partial => panic!("{request}: is complete, but the scanner wants more"),
        };
        *answers.entry(answer).or_default() += 1;
    }
    Some(answers)
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
            let prediction = predict(&config, &config.listeners[index], request);
            if listener.class == CLASS_OPAQUE {
                count(&opaque);
                let cluster = compiled.image.weights[listener.target as usize].cluster;
                let cluster = &config.clusters[cluster as usize];
                prop_assert_eq!(cluster.endpoints.len(), 1);
                let only = Answers::from([(Answer::Cluster(&cluster.name), 1)]);
                prop_assert_eq!(expected(&prediction), only, "{}", request);
                continue;
            }
            prop_assert_eq!(listener.class, CLASS_ANCHORED);
            match decided(&config, &compiled, listener.target, request, &prediction) {
                Some(answers) => {
                    prop_assert_eq!(answers, expected(&prediction), "{}", request);
                    count(&compared);
                }
                None => count(&refused),
            }
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
