//! The answer to one resource, for a source that has to answer before it has the others.

use serde_json::{Value, json};

use crate::envoy::load;
use crate::resource::{Answer, Kind, Resource};

/// What becomes of the resource if those that it names are there; `origin` names its source in messages.
pub fn alone(origin: &str, resource: &Resource) -> Answer {
    let mut all = vec![resource.clone()];
    // Nobody reads what no other resource asks for.
    match resource.kind {
        Kind::RouteConfiguration => all.push(Resource::new(Kind::Listener, asking(&resource.name))),
        Kind::ClusterLoadAssignment => all.push(Resource::new(Kind::Cluster, eds(&resource.name))),
        _ => {}
    }
    load(origin, &all).answers.swap_remove(0)
}

/// A listener with these routes.
fn asking(routes: &str) -> Value {
    let http = "type.googleapis.com/envoy.extensions.filters";
    json!({
        "name": "any",
        "address": { "socket_address": { "address": "192.0.2.1", "port_value": 80 } },
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": format!("{http}.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": "any",
                "rds": { "route_config_name": routes, "config_source": { "ads": {}, "resource_api_version": "V3" } },
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": { "@type": format!("{http}.http.router.v3.Router") },
                }],
            },
        }] }],
    })
}

/// A cluster with these endpoints.
fn eds(endpoints: &str) -> Value {
    json!({
        "name": endpoints,
        "type": "EDS",
        "eds_cluster_config": { "eds_config": { "ads": {}, "resource_api_version": "V3" } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: Kind, value: Value) -> Vec<String> {
        let answer = alone("test", &Resource::new(kind, value));
        answer.refused.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_kind_is_read_without_the_others() {
        let good = [
            (Kind::Listener, asking("r")),
            (Kind::Cluster, eds("c")),
            (
                Kind::RouteConfiguration,
                json!({ "name": "r", "virtual_hosts": [{ "name": "v", "domains": ["*"], "routes": [
                    { "match": { "prefix": "/" }, "route": { "cluster": "not here yet" } },
                ] }] }),
            ),
            (Kind::ClusterLoadAssignment, json!({ "cluster_name": "c" })),
        ];
        for (kind, mut value) in good {
            assert_eq!(answer(kind, value.clone()), [""; 0]);
            value["no_such_field"] = json!(1);
            let refused = answer(kind, value);
            assert_eq!(refused.len(), 1, "{refused:?}");
            assert!(refused[0].contains("no_such_field"), "{refused:?}");
        }
    }
}
