//! O3: a table in router_check_tool's format (`golden/check.yaml`), put to the reference, the native code and real Envoy.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::Path;

use kmesh_config::{Config, parse};
use kmesh_oracle::Request;
use kmesh_oracle::differential::{Case, Decision, Judges, Question};
use kmesh_oracle::envoy;
use serde_json::{Value, json};

const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).unwrap()
}

/// The route configuration in a listener, with the clusters that it names.
fn config(routes: &Value) -> Config {
    let mut names = BTreeSet::new();
    clusters(routes, &mut names);
    let endpoint = |port: usize| json!({ "endpoint": { "address": { "socket_address": { "address": "10.0.1.1", "port_value": port } } } });
    let clusters = names.iter().enumerate().map(|(i, name)| {
        let endpoints = json!([{ "lb_endpoints": [endpoint(i + 1), endpoint(i + 1001)] }]);
        json!({ "name": name, "type": "STATIC", "load_assignment": { "cluster_name": name, "endpoints": endpoints } })
    });
    let manager = json!({
        "@type": MANAGER,
        "stat_prefix": "golden",
        "route_config": routes,
        "http_filters": [{ "name": "router", "typed_config": { "@type": ROUTER } }],
    });
    let resources = json!({
        "listeners": [{
            "name": "golden",
            "address": { "socket_address": { "address": "10.0.0.1", "port_value": 80 } },
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": manager,
            }] }],
        }],
        "clusters": clusters.collect::<Vec<_>>(),
    });
    parse(&resources.to_string(), "golden/routes.yaml").unwrap()
}

/// The names under `route.cluster` and `weighted_clusters.clusters[].name`.
fn clusters(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| clusters(item, names)),
        Value::Object(fields) => {
            names.extend(
                fields
                    .get("cluster")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            let weighted = fields.get("clusters").and_then(Value::as_array);
            for choice in weighted.into_iter().flatten() {
                names.insert(choice["name"].as_str().unwrap().to_owned());
            }
            fields.values().for_each(|item| clusters(item, names));
        }
        _ => {}
    }
}

fn question(test: &Value) -> Question {
    let input = &test["input"];
    let text = |name: &str| input[name].as_str().unwrap().to_owned();
    let headers = input["additional_request_headers"].as_array();
    let headers = headers.into_iter().flatten().map(|header| {
        let part = |name: &str| header[name].as_str().unwrap().to_owned();
        (part("key"), part("value"))
    });
    Question {
        listener: 0,
        request: Request {
            method: text("method"),
            host: text("authority"),
            target: text("path"),
            headers: headers.collect(),
        },
        drawn: input["random_value"].as_u64().unwrap_or_default() as u32,
    }
}

#[test]
fn every_judge_gives_the_golden_answers() {
    let config = config(&yaml(include_str!("../golden/routes.yaml")));
    let table = yaml(include_str!("../golden/check.yaml"));
    let tests = table["tests"].as_array().unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = envoy::program(&workspace);
    let mut judges = Judges {
        envoy: program.is_file().then_some(program),
        ..Judges::default()
    };
    if judges.envoy.is_none() {
        assert!(std::env::var("CI").is_err(), "needs envoy");
        eprintln!(
            "every_judge_gives_the_golden_answers: without envoy, which ci/setup.sh installs"
        );
    }
    let questions = tests.iter().map(question).collect();
    let case = Case { config, questions };
    let all = judges.ask(std::slice::from_ref(&case)).unwrap();
    let hosts = case.config.listeners[0].virtual_hosts();
    let mut reached = BTreeSet::new();
    for (test, said) in tests.iter().zip(&all[0]) {
        let name = test["test_name"].as_str().unwrap();
        let wanted = &test["validate"];
        assert_eq!(
            said.len(),
            judges.names().len(),
            "{name}: somebody is silent"
        );
        for (judge, decision) in said {
            match decision {
                Decision::Routed(host, route, cluster) => {
                    assert_eq!(wanted["cluster_name"], **cluster, "{judge}: {name}");
                    assert_eq!(
                        wanted["virtual_host_name"], *hosts[*host].name,
                        "{judge}: {name}"
                    );
                    reached.insert((*host, *route));
                }
                // Redirects and direct responses are one thing to the tool, which looks at no body.
                Decision::Answered(host, route, status, text) => {
                    assert_eq!(wanted["code_redirect"], *status, "{judge}: {name}");
                    assert_eq!(
                        wanted["virtual_host_name"], *hosts[*host].name,
                        "{judge}: {name}"
                    );
                    if (300..400).contains(status) {
                        assert_eq!(wanted["path_redirect"], **text, "{judge}: {name}");
                    }
                    reached.insert((*host, *route));
                }
                other => {
                    assert_eq!(*other, Decision::NoRoute, "{judge}: {name}");
                    assert_eq!(wanted["cluster_name"], "", "{judge}: {name}");
                }
            }
        }
    }
    // The tool's route coverage: all routes but the one behind a shorter prefix.
    let routes: usize = hosts.iter().map(|host| host.routes.len()).sum();
    assert_eq!(
        reached.len(),
        routes - 1,
        "routes without a test: {reached:?}"
    );
    assert!(tests.len() >= 50, "only {} tests", tests.len());
}
