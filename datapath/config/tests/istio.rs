//! What becomes of what a real istiod serves to a sidecar of a plain bookinfo mesh.
//!
//! `istio/pod.config_dump.json` is the state of such a stream, in the form of Envoy's `/config_dump`.

use std::collections::BTreeSet;
use std::path::Path;

use kmesh_config::{Kind, Report};

/// Fields that are refused, of all resources, and why that is right or what is still to come.
const REFUSED: &[&str] = &[
    // Endpoints are not ejected, weighted or put in order, and balancers are not chosen by hashes yet.
    "common_lb_config",
    "endpoints[].lb_endpoints[].load_balancing_weight",
    "endpoints[].priority",
    "lb_policy",
    "maglev_lb_config",
    "outlier_detection",
    "ring_hash_lb_config",
    "round_robin_lb_config",
    "virtual_hosts[].routes[].route.hash_policy",
    // Names are not looked up yet.
    "dns_lookup_family",
    "load_assignment.endpoints[].lb_endpoints[].endpoint.address.socket_address.address",
    "type",
    // TLS to the outside: nothing is sent in plain text instead.
    "transport_socket.typed_config.@type",
];

fn report() -> Report {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/istio/pod.config_dump.json");
    Report::of_files(&[path]).unwrap()
}

/// A field's path with `[]` for every index.
fn general(field: &str) -> String {
    let mut inside = false;
    field
        .chars()
        .filter(|c| {
            inside = *c == '[' || inside && *c != ']';
            !inside || *c == '['
        })
        .collect()
}

#[test]
fn every_listener_is_taken_and_only_known_fields_are_refused() {
    let report = report();
    let of = |kind: Kind| {
        report
            .resources
            .iter()
            .filter(move |line| line.kind == kind)
    };
    assert_eq!(of(Kind::Listener).count(), 10);
    assert_eq!(of(Kind::RouteConfiguration).count(), 4);
    assert_eq!(of(Kind::Cluster).count(), 26);
    assert_eq!(of(Kind::ClusterLoadAssignment).count(), 18);
    assert!(of(Kind::Listener).all(|line| line.refused.is_empty()));
    let refusals = report.resources.iter().flat_map(|line| &line.refused);
    let fields: BTreeSet<String> = refusals.map(|refusal| general(&refusal.field)).collect();
    let unknown: Vec<&String> = fields
        .iter()
        .filter(|field| !REFUSED.contains(&field.as_str()))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(
        report
            .resources
            .iter()
            .all(|line| line.waits_for.is_empty())
    );
}
