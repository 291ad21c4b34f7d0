//! Listeners on all addresses of a port, whose connections are told apart by their first bytes, and what a mesh's routes lead to
//! besides endpoints: the address that was asked for, and clusters that are not there.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab::config::{cluster, http, resources, route};
use crate::lab::http::Client;
use crate::lab::{HTTP_PORT, LOCAL, Mesh, SERVERS, TCP, WEB, root};
use serde_json::{Value, json};

const V3: &str = "type.googleapis.com/envoy.extensions.filters.network";

/// A listener on every address of the port: HTTP by the chain of `of`, everything else to the cluster.
fn everywhere(of: &Value, port: u16, other: &str) -> Value {
    let mut listener = of.clone();
    listener["name"] = json!(format!("0.0.0.0_{port}"));
    listener["address"] = json!({ "socket_address": { "address": "0.0.0.0", "port_value": port } });
    listener["filter_chains"][0]["filter_chain_match"] =
        json!({ "transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"] });
    listener["default_filter_chain"] = json!({ "filters": [{
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": { "@type": format!("{V3}.tcp_proxy.v3.TcpProxy"), "stat_prefix": "o", "cluster": other },
    }] });
    listener
}

fn mesh(test: &str) -> Mesh {
    let mut mesh = Mesh::bare(test);
    let prefix = |prefix: &str| json!({ "prefix": prefix });
    let hosts = json!([{ "name": "all", "domains": ["*"], "routes": [
        route(&prefix("/pass"), &[("pass", 1)]),
        route(&prefix("/missing"), &[("nowhere", 1)]),
        route(&prefix("/"), &[("one", 1)]),
    ] }]);
    let mut web = http(mesh.vip(WEB), &hosts);
    {
        let manager = &mut web["filter_chains"][0]["filters"][0]["typed_config"];
        manager["normalize_path"] = json!(true);
        manager["route_config"]["validate_clusters"] = json!(false);
        manager["route_config"]["ignore_port_in_host_matching"] = json!(true);
    }
    let mut pass = cluster("pass", &[]);
    pass["type"] = json!("ORIGINAL_DST");
    pass["lb_policy"] = json!("CLUSTER_PROVIDED");
    pass.as_object_mut().unwrap().remove("load_assignment");
    let listeners = [
        web.clone(),
        everywhere(&web, HTTP_PORT, "pass"),
        everywhere(&web, TCP, "pass"),
    ];
    let one = cluster("one", &[mesh.endpoint("s1", HTTP_PORT)]);
    mesh.configure(&resources(&listeners, &[one, pass]));
    mesh.enrol(&LOCAL);
    mesh.start();
    for server in SERVERS {
        mesh.serve(server);
    }
    mesh
}

#[test]
fn routes_lead_to_the_address_that_was_asked_for_or_nowhere() {
    if !root("routes_lead_to_the_address_that_was_asked_for_or_nowhere") {
        return;
    }
    let mesh = mesh("chains");
    // An address that no listener has: the one on all addresses of its port takes it.
    let connect = |pod: &str| {
        let stream = mesh.client.connect(mesh.endpoint(pod, HTTP_PORT));
        Client::new(stream.unwrap())
    };
    let mut client = connect("s2");
    assert_eq!(client.get("/", "").server(), "s1", "by its route");
    assert_eq!(client.get("/pass", "").server(), "s2", "where it wanted");
    assert_eq!(
        client.get("/x/../pass", "").server(),
        "s2",
        "normalised first"
    );
    assert_eq!(client.get("/missing", "").status, 503);
    let mut other = connect("s3");
    assert_eq!(other.get("/pass", "").server(), "s3", "another one's own");
    assert_eq!(client.get("/pass", "").server(), "s2");
    // The exact listener is the service's.
    assert_eq!(mesh.connect().get("/", "").server(), "s1");
    // The kernel serves what needs no user space.
    let (kernel, _) = mesh.counted(|| {
        for _ in 0..20 {
            assert_eq!(client.get("/", "").server(), "s1");
        }
    });
    assert!(kernel > 0, "{kernel} by the kernel");
}

#[test]
fn what_is_not_http_goes_by_the_default_chain() {
    if !root("what_is_not_http_goes_by_the_default_chain") {
        return;
    }
    let mesh = mesh("other");
    let mut client = Client::new(mesh.client.connect(mesh.endpoint("s3", TCP)).unwrap());
    client.send(b"\0first");
    assert_eq!(
        client.bytes(9),
        b"s3\n\0first",
        "the server says its name first"
    );
    for text in [&b"\0not HTTP"[..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03"] {
        client.send(text);
        assert_eq!(client.bytes(text.len()), text, "echoed as it is");
    }
}
