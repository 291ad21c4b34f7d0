//! Trees against an independent judge (Go's protobuf library on what a real istiod served), and what must not be dropped.

use std::collections::BTreeMap;

use kmesh_xds::tree::{self, TreeError};
use kmesh_xds::{Kind, wire};
use prost::Message as _;
use serde_json::{Value, json};

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

fn responses(form: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/tests/istiod/{form}", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("a fixture can be read"))
        .collect()
}

/// The last state, by applying the changes.
fn last_state() -> BTreeMap<(Kind, String), Vec<u8>> {
    let mut state = BTreeMap::new();
    for bytes in responses("changes-delta") {
        let response = wire::DeltaDiscoveryResponse::decode(bytes.as_slice()).expect("a response");
        let kind = Kind::of(&response.type_url).expect("a type that we ask for");
        for resource in response.resources {
            let any = resource.resource.expect("istiod sends the resource");
            state.insert((kind, resource.name), any.value);
        }
        for name in response.removed_resources {
            state.remove(&(kind, name));
        }
    }
    state
}

/// Numbers that Go writes as text are numbers here, `1` and `1.0` are one number.
fn normal(tree: &Value) -> Value {
    match tree {
        Value::String(text) => text
            .parse::<u64>()
            .map_or_else(|_| tree.clone(), |number| json!(number)),
        Value::Number(number) => number
            .as_f64()
            .filter(|float| float.fract() == 0.0)
            .map_or_else(|| tree.clone(), |float| json!(float as i64)),
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), normal(value)))
            .collect(),
        other => other.clone(),
    }
}

#[test]
fn trees_are_what_gos_protobuf_library_writes() {
    let path = format!("{}/tests/istiod/changes.json", env!("CARGO_MANIFEST_DIR"));
    let golden: Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("the fixture")).expect("JSON");
    let state = last_state();
    let mut compared = 0;
    for (list, kind, name_field) in [
        ("clusters", Kind::Cluster, "name"),
        ("listeners", Kind::Listener, "name"),
        ("routes", Kind::Routes, "name"),
        ("endpoints", Kind::Endpoints, "cluster_name"),
    ] {
        for want in golden[list].as_array().expect("a list") {
            let name = want[name_field].as_str().expect("a name").to_owned();
            let bytes = state
                .get(&(kind, name.clone()))
                .unwrap_or_else(|| panic!("{name} is gone"));
            let (tree, _) = tree::read(kind.type_url(), bytes).expect("it decodes");
            assert_eq!(normal(&tree), normal(want), "{} {name}", kind.noun());
            compared += 1;
        }
    }
    assert_eq!(compared, 24 + 9 + 4 + 18);
}

#[test]
fn of_what_istiod_serves_nothing_is_unread() {
    for ((kind, name), bytes) in last_state() {
        let (_, unread) = tree::read(kind.type_url(), &bytes).expect("it decodes");
        assert!(unread.is_empty(), "{name}: {unread:?}");
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Newer {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    connect_timeout: Option<prost_types::Duration>,
    #[prost(enumeration = "Discovery", tag = "2")]
    discovery: i32,
    #[prost(uint32, repeated, tag = "7777")]
    number: Vec<u32>,
    #[prost(string, tag = "7778")]
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum Discovery {
    Static = 0,
    Newest = 99,
}

#[test]
fn a_field_that_nobody_knows_stands_in_the_tree_by_its_number() {
    let newer = Newer {
        name: "c".to_owned(),
        connect_timeout: Some(prost_types::Duration {
            seconds: 1,
            nanos: 500_000_000,
        }),
        discovery: Discovery::Newest as i32,
        number: vec![1],
        text: "x".to_owned(),
    };
    let (tree, unread) = tree::read(CLUSTER, &newer.encode_to_vec()).expect("it decodes");
    assert_eq!(tree["name"], "c");
    assert_eq!(tree["connect_timeout"], "1.5s");
    assert_eq!(tree["type"], 99);
    assert!(
        tree["#7777"].is_array() && tree["#7778"].is_array(),
        "{tree}"
    );
    let said: Vec<String> = unread.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "type: envoy.config.cluster.v3.Cluster.DiscoveryType has no value 99",
            "envoy.config.cluster.v3.Cluster has no field number 7777",
            "envoy.config.cluster.v3.Cluster has no field number 7778",
        ]
    );
}

fn cluster_with(any: &prost_types::Any) -> Vec<u8> {
    // transport_socket { name: "t", typed_config: ANY }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Socket {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, optional, tag = "3")]
        typed_config: Option<prost_types::Any>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Cluster {
        #[prost(message, optional, tag = "24")]
        transport_socket: Option<Socket>,
    }
    let socket = Socket {
        name: "t".to_owned(),
        typed_config: Some(any.clone()),
    };
    Cluster {
        transport_socket: Some(socket),
    }
    .encode_to_vec()
}

#[test]
fn an_extension_of_an_unknown_type_is_named_with_its_bytes() {
    let any = prost_types::Any {
        type_url: "type.googleapis.com/acme.Own".to_owned(),
        value: vec![8, 1],
    };
    let (tree, unread) = tree::read(CLUSTER, &cluster_with(&any)).expect("it decodes");
    assert_eq!(
        tree["transport_socket"]["typed_config"],
        json!({ "@type": "type.googleapis.com/acme.Own", "value": "CAE=" })
    );
    assert_eq!(
        unread[0].to_string(),
        "transport_socket.typed_config: type type.googleapis.com/acme.Own is unknown"
    );
}

#[test]
fn an_extension_that_is_not_what_it_says_is_an_error_with_its_path() {
    let url = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    let any = prost_types::Any {
        type_url: url.to_owned(),
        value: vec![0x0a, 0xff],
    };
    let error = tree::read(CLUSTER, &cluster_with(&any)).expect_err("it is garbage");
    assert!(
        matches!(&error, TreeError::Decode { path, .. } if path == "transport_socket.typed_config"),
        "{error}"
    );
}

#[test]
fn extensions_within_extensions_end_at_the_limit() {
    let mut any = prost_types::Any {
        type_url: "type.googleapis.com/acme.Own".to_owned(),
        value: Vec::new(),
    };
    for _ in 0..2 * tree::DEPTH_MAX {
        any = prost_types::Any {
            type_url: "type.googleapis.com/google.protobuf.Any".to_owned(),
            value: any.encode_to_vec(),
        };
    }
    let error = tree::read(CLUSTER, &cluster_with(&any)).expect_err("it is too deep");
    assert!(matches!(error, TreeError::Depth { .. }), "{error}");
}

/// The messages of the discovery service are written by hand; each field must be the descriptors' of that name.
#[test]
fn the_wire_messages_are_the_descriptors() {
    fn full<M: prost::Message + Default>(name: &str, message: &M) {
        let url = format!("type.googleapis.com/{name}");
        let (_, unread) =
            tree::read(&url, &message.encode_to_vec()).expect("it decodes as Envoy's");
        assert!(unread.is_empty(), "{unread:?}");
    }
    let status = wire::Status {
        code: 3,
        message: "m".to_owned(),
    };
    let node = wire::Node {
        id: "id".to_owned(),
        cluster: "c".to_owned(),
        metadata: Some(prost_types::Struct::default()),
        locality: Some(wire::Locality {
            region: "r".to_owned(),
            zone: "z".to_owned(),
            sub_zone: "s".to_owned(),
        }),
        user_agent_name: "n".to_owned(),
        user_agent_version: "v".to_owned(),
    };
    let request = wire::DiscoveryRequest {
        version_info: "1".to_owned(),
        node: Some(node.clone()),
        resource_names: vec!["a".to_owned()],
        type_url: CLUSTER.to_owned(),
        response_nonce: "n".to_owned(),
        error_detail: Some(status.clone()),
    };
    full("envoy.service.discovery.v3.DiscoveryRequest", &request);
    let (tree, _) = tree::read(
        "x/envoy.service.discovery.v3.DiscoveryRequest",
        &request.encode_to_vec(),
    )
    .expect("it decodes");
    assert_eq!(tree["node"]["locality"]["sub_zone"], "s");
    assert_eq!(tree["response_nonce"], "n");
    assert_eq!(tree["error_detail"]["message"], "m");
    let request = wire::DeltaDiscoveryRequest {
        node: Some(node),
        type_url: CLUSTER.to_owned(),
        resource_names_subscribe: vec!["a".to_owned()],
        resource_names_unsubscribe: vec!["b".to_owned()],
        initial_resource_versions: [("a".to_owned(), "1".to_owned())].into(),
        response_nonce: "n".to_owned(),
        error_detail: Some(status.clone()),
    };
    full("envoy.service.discovery.v3.DeltaDiscoveryRequest", &request);
    let (tree, _) = tree::read(
        "x/envoy.service.discovery.v3.DeltaDiscoveryRequest",
        &request.encode_to_vec(),
    )
    .expect("it decodes");
    assert_eq!(tree["resource_names_unsubscribe"], json!(["b"]));
    assert_eq!(tree["initial_resource_versions"], json!({ "a": "1" }));
    let named = wire::ResourceName {
        name: "a".to_owned(),
    };
    let response = wire::DeltaDiscoveryResponse {
        system_version_info: "1".to_owned(),
        resources: vec![wire::Resource {
            version: "1".to_owned(),
            resource: Some(prost_types::Any {
                type_url: CLUSTER.to_owned(),
                value: Vec::new(),
            }),
            name: "a".to_owned(),
            aliases: vec!["b".to_owned()],
            ttl: Some(prost_types::Duration {
                seconds: 1,
                nanos: 0,
            }),
            resource_name: Some(named.clone()),
        }],
        type_url: CLUSTER.to_owned(),
        nonce: "n".to_owned(),
        removed_resources: vec!["c".to_owned()],
        control_plane: Some(wire::ControlPlane {
            identifier: "i".to_owned(),
        }),
        removed_resource_names: vec![named.clone()],
        resource_errors: vec![wire::ResourceError {
            resource_name: Some(named),
            error_detail: Some(status),
        }],
    };
    full(
        "envoy.service.discovery.v3.DeltaDiscoveryResponse",
        &response,
    );
    let (tree, _) = tree::read(
        "x/envoy.service.discovery.v3.DeltaDiscoveryResponse",
        &response.encode_to_vec(),
    )
    .expect("it decodes");
    assert_eq!(tree["resources"][0]["name"], "a");
    assert_eq!(tree["resources"][0]["ttl"], "1s");
    assert_eq!(tree["removed_resources"], json!(["c"]));
    assert_eq!(tree["resource_errors"][0]["error_detail"]["code"], 3);
}
