//! The answer to one resource, for a source that has to answer before it has the others.

use crate::envoy::load;
use crate::resource::{Answer, Resource};

/// What becomes of the resource if those that it names are there; `origin` names its source in messages.
pub fn alone(origin: &str, resource: &Resource) -> Answer {
    load(origin, std::slice::from_ref(resource))
        .answers
        .swap_remove(0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resource::Kind;

    fn answer(kind: Kind, value: Value) -> Vec<String> {
        let answer = alone("test", &Resource::new(kind, value));
        answer.refused.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_kind_is_read_without_the_others() {
        let good = [
            (
                Kind::Listener,
                json!({
                    "name": "l",
                    "address": { "socket_address": { "address": "192.0.2.1", "port_value": 80 } },
                    "filter_chains": [{ "filters": [{
                        "name": "envoy.filters.network.tcp_proxy",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                            "stat_prefix": "t",
                            "cluster": "not here yet",
                        },
                    }] }],
                }),
            ),
            (
                Kind::Cluster,
                json!({ "name": "c", "type": "EDS", "eds_cluster_config": { "eds_config": { "ads": {} } } }),
            ),
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
