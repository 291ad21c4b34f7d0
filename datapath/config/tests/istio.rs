//! What becomes of what a real istiod serves to a sidecar of a plain bookinfo mesh.
//!
//! `istio/pod.config_dump.json` is the state of such a stream, in the form of Envoy's `/config_dump`.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kmesh_config::resource::{Document, tree};
use kmesh_config::{Kind, Report};
use serde_json::Value;

/// Fields that are refused until endpoints can be weighted, ejected and put in order, and be chosen by load and by hashes: how many
/// resources are refused for each.
const BALANCING: [(Kind, &str, usize); 9] = [
    (
        Kind::RouteConfiguration,
        "virtual_hosts[].routes[].route.hash_policy",
        3,
    ),
    (Kind::Cluster, "common_lb_config", 4),
    (Kind::Cluster, "lb_policy", 17),
    (Kind::Cluster, "maglev_lb_config", 2),
    (Kind::Cluster, "outlier_detection", 5),
    (Kind::Cluster, "ring_hash_lb_config", 4),
    (Kind::Cluster, "round_robin_lb_config", 1),
    (
        Kind::ClusterLoadAssignment,
        "endpoints[].lb_endpoints[].load_balancing_weight",
        6,
    ),
    (Kind::ClusterLoadAssignment, "endpoints[].priority", 1),
];

/// Fields that are refused for something else.
const OTHERS: [(Kind, &str, usize); 4] = [
    // Names are not looked up.
    (Kind::Cluster, "dns_lookup_family", 2),
    (
        Kind::Cluster,
        "load_assignment.endpoints[].lb_endpoints[].endpoint.address.socket_address.address",
        2,
    ),
    (Kind::Cluster, "type", 2),
    // TLS to the outside: nothing is sent in plain text instead.
    (Kind::Cluster, "transport_socket.typed_config.@type", 1),
];

fn dump() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/istio/pod.config_dump.json");
    let text = std::fs::read_to_string(path).unwrap();
    tree(&text, "dump").unwrap()
}

fn report(dump: &Value) -> Report {
    Report::of(vec![("dump".to_owned(), Document::of("dump", dump))])
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

/// How many resources are refused for each field.
fn refused(report: &Report) -> BTreeMap<(Kind, String), usize> {
    let mut found = BTreeMap::new();
    for line in &report.resources {
        let fields = line.refused.iter().map(|refusal| general(&refusal.field));
        for field in fields.collect::<BTreeSet<_>>() {
            *found.entry((line.kind, field)).or_default() += 1;
        }
    }
    found
}

fn expected(fields: &[(Kind, &str, usize)]) -> BTreeMap<(Kind, String), usize> {
    let fields = fields.iter();
    fields
        .map(|(kind, field, count)| ((*kind, (*field).to_owned()), *count))
        .collect()
}

/// All messages of this type in the dump.
fn all<'v>(value: &'v Value, of: &str, found: &mut Vec<&'v Value>) {
    let named = value.get("@type").and_then(Value::as_str);
    if named.is_some_and(|name| name.ends_with(of)) {
        found.push(value);
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|value| all(value, of, found)),
        Value::Array(values) => values.iter().for_each(|value| all(value, of, found)),
        _ => {}
    }
}

/// The clusters to which the kernel carries requests: those with endpoints of their own that speak HTTP/1.1, and whose
/// connections take any number of requests.
fn carried(dump: &Value) -> BTreeSet<&str> {
    let mut clusters = Vec::new();
    all(dump, ".Cluster", &mut clusters);
    let carried = clusters.into_iter().filter(|cluster| {
        let options = &cluster["typed_extension_protocol_options"]
            ["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
        let most = &options["common_http_protocol_options"]["max_requests_per_connection"];
        cluster["type"] == "EDS"
            && options["explicit_http_config"]["http2_protocol_options"].is_null()
            && most.is_null()
    });
    carried
        .filter_map(|cluster| cluster["name"].as_str())
        .collect()
}

/// Whether nothing that a route asks for needs user space.
fn is_plain(route: &Value, carried: &BTreeSet<&str>) -> bool {
    const NOTHING: [&str; 5] = ["decorator", "match", "metadata", "name", "route"];
    const HARMLESS: [&str; 6] = [
        "cluster",
        "max_grpc_timeout",
        "max_stream_duration",
        "retry_policy",
        "timeout",
        "weighted_clusters",
    ];
    let only = |value: &Value, known: &[&str]| {
        let fields = value.as_object().unwrap();
        fields.keys().all(|field| known.contains(&field.as_str()))
    };
    let action = &route["route"];
    if !only(route, &NOTHING) || action.is_null() || !only(action, &HARMLESS) {
        return false;
    }
    // Of these, only what fails before a request was sent happens to HTTP/1.1, unless statuses are named.
    let retries = action["retry_policy"]["retry_on"]
        .as_str()
        .unwrap_or_default();
    let statuses = action["retry_policy"].get("retriable_status_codes");
    let weighted = action["weighted_clusters"]["clusters"].as_array();
    let mut clusters = weighted.into_iter().flatten().map(|choice| &choice["name"]);
    let known = |name: &Value| name.as_str().is_some_and(|name| carried.contains(name));
    matches!(action["timeout"].as_str(), None | Some("0s"))
        && !retries.contains("5xx")
        && statuses.is_none()
        && (known(&action["cluster"]) || weighted.is_some() && clusters.all(known))
}

/// How many routes the kernel has to serve.
fn wanted(dump: &Value) -> usize {
    let mut configurations = Vec::new();
    all(dump, ".RouteConfiguration", &mut configurations);
    let carried = carried(dump);
    let hosts = configurations
        .iter()
        .filter_map(|configuration| configuration["virtual_hosts"].as_array());
    let routes = hosts.flatten().filter_map(|host| host["routes"].as_array());
    routes
        .flatten()
        .filter(|route| is_plain(route, &carried))
        .count()
}

/// Takes away what [`BALANCING`] names.
fn take_balancing(value: &mut Value) {
    let named = value
        .get("@type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let is_cluster = named.ends_with(".Cluster");
    match value {
        Value::Object(fields) => {
            if is_cluster && fields["type"] != "ORIGINAL_DST" {
                fields.remove("lb_policy");
            }
            for (_, path, _) in BALANCING {
                let field = path.rsplit('.').next().unwrap();
                // The weight of a cluster among several is no endpoint's.
                if field != "lb_policy"
                    && !(field == "load_balancing_weight" && fields.contains_key("lb_endpoints"))
                {
                    fields.remove(field);
                }
            }
            fields.values_mut().for_each(take_balancing);
        }
        Value::Array(values) => values.iter_mut().for_each(take_balancing),
        _ => {}
    }
}

#[test]
fn every_resource_has_its_answer() {
    let report = report(&dump());
    let of = |kind: Kind| {
        report
            .resources
            .iter()
            .filter(move |line| line.kind == kind)
    };
    let taken = |kind: Kind| {
        let taken = of(kind).filter(|line| line.refused.is_empty());
        (taken.count(), of(kind).count())
    };
    assert_eq!(taken(Kind::Listener), (10, 10));
    assert_eq!(taken(Kind::RouteConfiguration), (1, 4));
    assert_eq!(taken(Kind::Cluster), (6, 26));
    assert_eq!(taken(Kind::ClusterLoadAssignment), (12, 18));
    let waiting = report
        .resources
        .iter()
        .filter(|line| !line.waits_for.is_empty());
    assert_eq!(waiting.count(), 0);
    let mut fields = expected(&BALANCING);
    fields.extend(expected(&OTHERS));
    assert_eq!(refused(&report), fields);
}

/// What [`every_resource_has_its_answer`] lists as balancing is all that keeps routes from the kernel that belong there.
#[test]
fn without_balancing_the_kernel_serves_all_that_it_has_to() {
    let mut dump = dump();
    let wanted_before = wanted(&dump);
    take_balancing(&mut dump);
    let report = report(&dump);
    assert_eq!(refused(&report), expected(&OTHERS));
    let wanted = wanted(&dump);
    assert!(report.routes.kernel >= wanted, "{:?}", report.routes);
    assert_eq!((wanted_before, wanted), (12, 14));
    assert_eq!((report.routes.total(), report.routes.refused), (72, 0));
}

/// A field that nobody knows is not taken for one that changes nothing, wherever it stands.
#[test]
fn a_field_that_nobody_knows_is_refused() {
    let mut dump = dump();
    let mut listeners = Vec::new();
    all(&dump, ".Listener", &mut listeners);
    let name = listeners[1]["name"].as_str().unwrap().to_owned();
    insert(&mut dump, &name);
    let report = report(&dump);
    let listener = report
        .resources
        .iter()
        .find(|line| line.name == name)
        .unwrap();
    let fields: Vec<&str> = listener
        .refused
        .iter()
        .map(|refusal| refusal.field.as_str())
        .collect();
    assert_eq!(fields, ["filter_chains[0].filters[0].typed_config.zzz"]);
}

/// Puts `zzz` into the first filter of the listener of this name.
fn insert(value: &mut Value, listener: &str) {
    if value.get("name").and_then(Value::as_str) == Some(listener)
        && value.get("filter_chains").is_some()
    {
        value["filter_chains"][0]["filters"][0]["typed_config"]["zzz"] = 1.into();
    }
    match value {
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|value| insert(value, listener)),
        Value::Array(values) => values.iter_mut().for_each(|value| insert(value, listener)),
        _ => {}
    }
}
