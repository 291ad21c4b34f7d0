//! The configuration from a control plane: followed while it is there, kept while it is not.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use std::net::SocketAddr;

use kmesh_ads::{Server, World};
use kmesh_xds::Kind;
use serde_json::{Value, json};

use crate::lab::config::{cluster, http, route};
use crate::lab::{HTTP_PORT, LOCAL, Mesh, SERVERS, WEB, eventually, root};

/// The cluster without its endpoints, which come by EDS.
fn eds(name: &str) -> Value {
    let mut eds = cluster(name, &[]);
    eds["type"] = json!("EDS");
    eds["eds_cluster_config"] = json!({ "eds_config": ads() });
    eds.as_object_mut().unwrap().remove("load_assignment");
    eds
}

fn ads() -> Value {
    json!({ "ads": {}, "resource_api_version": "V3" })
}

fn endpoints(name: &str, at: SocketAddr) -> Value {
    cluster(name, &[at])["load_assignment"].clone()
}

/// The listener `web`, whose routes come by RDS, and everything it needs.
fn world(mesh: &Mesh, server: &str) -> World {
    let mut web = http(mesh.vip(WEB), &json!([]));
    {
        let manager = &mut web["filter_chains"][0]["filters"][0]["typed_config"];
        manager.as_object_mut().unwrap().remove("route_config");
        manager["rds"] = json!({ "route_config_name": "routes", "config_source": ads() });
    }
    let routes = json!({ "name": "routes", "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
        route(&json!({ "prefix": "/" }), &[("one", 1)]),
    ] }] });
    let mut world = World::default();
    let all = [
        (Kind::Listener, web),
        (Kind::Routes, routes),
        (Kind::Cluster, eds("one")),
        (
            Kind::Endpoints,
            endpoints("one", mesh.endpoint(server, HTTP_PORT)),
        ),
    ];
    for (kind, resource) in all {
        world.put_json(kind, &resource).unwrap();
    }
    world
}

/// The pods, with identities.
fn enrol(mesh: &Mesh) {
    let entries = LOCAL.map(|name| {
        let mut entry = mesh.entry(name);
        let address = mesh.endpoint(name, 0).ip().to_string();
        entry["identity"] = json!({ "pod": name, "namespace": "default", "addresses": [address] });
        entry
    });
    mesh.enrol_entries(&entries);
}

/// A mesh that follows the control plane.
fn follow(mesh: &mut Mesh, server: &Server, protocol: &str) {
    let uri = format!("http://{}", server.address());
    let mut command = mesh
        .lab
        .daemon_command(env!("CARGO_BIN_EXE_kmeshd"), &mesh.name, &[])
        .unwrap();
    command
        .args([
            "run",
            "--name",
            &mesh.name,
            "--xds",
            &uri,
            "--xds-protocol",
            protocol,
            "--pods",
        ])
        .arg(mesh.pods_path())
        .stderr(std::fs::File::create(mesh.log_path()).unwrap());
    mesh.daemon = Some(mesh.launch_command(command));
    for server in SERVERS {
        mesh.serve(server);
    }
}

/// Each time by a connection of its own: one route to one endpoint is decided on when a connection is made.
fn reaches(mesh: &Mesh, server: &str) {
    eventually("requests go where the control plane says", || {
        let answer = mesh.connect().get("/", "");
        (answer.status == 200 && answer.server() == server)
            .then_some(())
            .ok_or_else(|| {
                let log = std::fs::read_to_string(mesh.log_path()).unwrap();
                format!("{answer:?}\n{log}")
            })
    });
}

#[test]
fn a_control_plane_is_followed_and_its_absence_costs_nothing() {
    if !root("a_control_plane_is_followed_and_its_absence_costs_nothing") {
        return;
    }
    for protocol in ["delta", "sotw"] {
        let mut mesh = Mesh::bare("xds");
        let server = Server::start(world(&mesh, "s1")).unwrap();
        let address = server.address();
        enrol(&mesh);
        follow(&mut mesh, &server, protocol);
        reaches(&mesh, "s1");
        server.set_world({
            let mut moved = server.world();
            let moves = endpoints("one", mesh.endpoint("s2", HTTP_PORT));
            moved.put_json(Kind::Endpoints, &moves).unwrap();
            moved
        });
        reaches(&mesh, "s2");
        drop(server);
        mesh.refused("not followed");
        let mut client = mesh.connect();
        for _ in 0..100 {
            assert_eq!(client.get("/", "").server(), "s2");
        }
        let server = Server::start_at(address, world(&mesh, "s3"), None).unwrap();
        reaches(&mesh, "s3");
        eventually("nobody complains any more", || {
            mesh.status().refused.map_or(Ok(()), Err)
        });
        drop(server);
    }
}

#[test]
fn a_resource_that_cannot_be_done_is_refused_alone_and_by_name() {
    if !root("a_resource_that_cannot_be_done_is_refused_alone_and_by_name") {
        return;
    }
    let mut mesh = Mesh::bare("xds");
    let server = Server::start(world(&mesh, "s1")).unwrap();
    enrol(&mesh);
    follow(&mut mesh, &server, "delta");
    reaches(&mesh, "s1");
    server.set_world({
        let mut worse = server.world();
        let mut bad = eds("other");
        bad["max_requests_per_connection"] = json!(7);
        bad["transport_socket"] = json!({ "name": "envoy.transport_sockets.tls" });
        worse.put_json(Kind::Cluster, &bad).unwrap();
        let moves = endpoints("one", mesh.endpoint("s2", HTTP_PORT));
        worse.put_json(Kind::Endpoints, &moves).unwrap();
        worse
    });
    reaches(&mesh, "s2");
    let nack = || {
        server.requests().into_iter().any(|request| {
            let text = format!("{request:?}");
            text.contains("transport_socket") && text.contains("other")
        })
    };
    eventually("the control plane is told which and why", || {
        nack().then_some(()).ok_or("no NACK".to_owned())
    });
}
