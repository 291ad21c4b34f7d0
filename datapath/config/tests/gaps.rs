//! Public configurations: one file for each field that stops them, and what becomes of it.
//!
//! Each file of `gaps/` is a small configuration that real Envoy 1.40 takes, or refuses where that is said here.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use std::path::Path;

use kmesh_config::resource::{Document, tree};
use kmesh_config::{Classes, Identities, Report, Store};

/// What becomes of a case.
enum Wanted {
    /// The kernel serves its route.
    Kernel,
    /// User space does, for this reason.
    User(&'static str),
    /// It is refused, with these fields.
    Refused(&'static [&'static str]),
}
use Wanted::{Kernel, Refused, User};

/// The cases, with a field that must be counted as inert, if there is one.
const CASES: [(&str, Wanted, Option<&str>); 29] = [
    ("01-listener-without-name", Kernel, None),
    ("02-address-0.0.0.0", Kernel, None),
    ("03-locality-weight-1", Kernel, None),
    ("04-validate-clusters-false", Kernel, None),
    ("05-normalize-path", Kernel, None),
    ("06-ignore-port-in-host", Kernel, None),
    // It retries what was answered 503, for which the request must be kept.
    ("07-istio-default-retry", User("retry"), None),
    ("08-istio-decorator", Kernel, Some("decorator")),
    ("09-max-stream-duration-0", Kernel, None),
    ("10-max-grpc-timeout-0", Kernel, None),
    ("11-common-lb-config", Kernel, None),
    ("12-access-log", Kernel, Some("access_log")),
    ("13-strict-dns", Refused(&["type"]), None),
    ("14-least-request", Refused(&["lb_policy"]), None),
    ("15-max-concurrent-streams", Kernel, None),
    // Envoy refuses it, too: it is for IPv6 addresses.
    (
        "16-ipv4-compat",
        Refused(&["address.socket_address.address"]),
        None,
    ),
    ("17-camel-case", Kernel, None),
    ("18-port-as-text", Kernel, None),
    ("19-admin-block", Kernel, Some("admin")),
    ("20-cors-filter-unused", Kernel, None),
    // Ejected endpoints get no traffic: that is not done, and it is not inert.
    (
        "21-outlier-detection",
        Refused(&["outlier_detection"]),
        None,
    ),
    ("22-auto-host-rewrite", User("rewrite"), None),
    ("23-idle-timeout", User("timeout"), None),
    (
        "24-attempt-count",
        Kernel,
        Some("include_request_attempt_count"),
    ),
    (
        "25-load-balancing-policy-least-request",
        Refused(&["load_balancing_policy"]),
        None,
    ),
    ("26-two-mistakes", Refused(&["type"]), None),
    ("27-reset-before-request", Kernel, None),
    ("28-use-remote-address", User("header_mutation"), None),
    ("29-generate-request-id", User("header_mutation"), None),
];

fn report(name: &str) -> Report {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/gaps")
        .join(name);
    Report::of_files(&[path.with_added_extension("yaml")]).unwrap()
}

#[test]
fn every_case_has_the_answer_that_is_written_here() {
    let mut wrong = Vec::new();
    for (name, wanted, inert) in CASES {
        let report = report(name);
        let refused: Vec<&str> = report
            .resources
            .iter()
            .flat_map(|line| &line.refused)
            .map(|refusal| refusal.field.as_str())
            .collect();
        let routes = &report.routes;
        let right = match wanted {
            Kernel => refused.is_empty() && (routes.kernel, routes.total()) == (1, 1),
            User(reason) => refused.is_empty() && routes.user_space.get(reason) == Some(&1),
            Refused(fields) => refused == fields,
        };
        let mut fields = report.resources.iter().flat_map(|line| &line.inert);
        let counted = inert.is_none_or(|field| fields.any(|inert| inert.field.ends_with(field)));
        if !right || !counted {
            wrong.push(format!(
                "{name}: refused {refused:?}, {routes:?}, counted {counted}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The rest of a configuration applies, the last good version of what is refused stays, and without one its address is closed.
#[test]
fn a_resource_is_refused_alone() {
    let text = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/gaps")
            .join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let resources = |text: &str| Document::of("f", &tree(text, "f").unwrap()).resources;
    let good = text("18-port-as-text.yaml");
    let bad = good.replace("stat_prefix:", "zzz: 1\n          stat_prefix:");
    assert_ne!(good, bad);
    let mut identities = Identities::default();
    let mut store = Store::default();
    // Never good: closed, and nobody else is touched.
    store.replace("f", resources(&bad));
    let applied = store.apply(&mut identities, Classes::default()).unwrap();
    let closed = &applied.compiled.image.listeners[0];
    assert_eq!(
        (closed.class, closed.count),
        (kmesh_api::listener::CLASS_OPAQUE, 0)
    );
    assert!(!applied.answers[0].refused.is_empty() && !applied.answers[0].kept);
    assert_eq!(applied.config.clusters.len(), 1);
    // Good, then bad: the good one stays, and the refusal is reported.
    store.replace("f", resources(&good));
    let first = store.apply(&mut identities, Classes::default()).unwrap();
    assert!(first.answers[0].refused.is_empty());
    store.replace("f", resources(&bad));
    let second = store.apply(&mut identities, Classes::default()).unwrap();
    assert!(!second.answers[0].refused.is_empty() && second.answers[0].kept);
    assert_eq!(second.config, first.config);
    // It goes: so does what was kept of it.
    store.replace("f", Vec::new());
    let last = store.apply(&mut identities, Classes::default()).unwrap();
    assert!(last.config.listeners.is_empty());
}
