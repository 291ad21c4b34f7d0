//! Configuration and pods as files: bad ones are refused by name and change nothing, good ones take effect under load.

use crate::lab;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lab::{LOCAL, Mesh, WEB, eventually, root};
use serde_json::{Value, json};

/// A listener field that nobody knows.
fn bad(mesh: &Mesh) -> Value {
    let mut resources = mesh.standard();
    resources["static_resources"]["listeners"][0]["zzz"] = json!(1);
    resources
}

#[test]
fn what_is_no_configuration_at_the_start_is_refused_by_name() {
    if !root("what_is_no_configuration_at_the_start_is_refused_by_name") {
        return;
    }
    let mesh = Mesh::bare("refused");
    mesh.enrol(&LOCAL);
    fs::write(mesh.config_path(), "static_resources: [").unwrap();
    let status = mesh
        .lab
        .spawn(mesh.command("refused"))
        .unwrap()
        .wait()
        .unwrap();
    assert!(!status.success(), "{status}");
    let said = fs::read_to_string(mesh.log_path()).unwrap();
    assert!(said.contains("resources.yaml"), "{said}");
}

/// A listener that is refused is closed: its requests are not sent past it. When it is good it opens.
#[test]
fn a_refused_listener_is_closed_until_it_is_good() {
    if !root("a_refused_listener_is_closed_until_it_is_good") {
        return;
    }
    let mut mesh = Mesh::bare("closed");
    mesh.configure(&bad(&mesh));
    mesh.enrol(&LOCAL);
    mesh.start();
    for server in lab::SERVERS {
        mesh.serve(server);
    }
    mesh.refused("zzz");
    assert!(mesh.client.connect(mesh.vip(WEB)).is_err(), "closed");
    mesh.configure(&mesh.standard());
    mesh.generation(2);
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
}

#[test]
fn a_bad_reload_changes_nothing_and_a_good_one_everything() {
    if !root("a_bad_reload_changes_nothing_and_a_good_one_everything") {
        return;
    }
    let mesh = Mesh::local("reload");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
    mesh.configure(&bad(&mesh));
    mesh.refused("zzz");
    assert_eq!(mesh.status().generation, 1);
    assert_eq!(client.get("/one", "").server(), "s1");
    mesh.configure(&mesh.resources_with("canary"));
    mesh.generation(2);
    assert_eq!(
        client.get("/", "").server(),
        "s3",
        "the same connection, the new route"
    );
    // Upstreams to what is not configured any more are closed.
    mesh.configure(&mesh.standard());
    mesh.generation(3);
    assert_ne!(client.get("/", "").server(), "s3");
}

#[test]
fn reloads_under_load_fail_no_request() {
    if !root("reloads_under_load_fail_no_request") {
        return;
    }
    let mesh = Mesh::local("reloads");
    let stop = AtomicBool::new(false);
    let clients: Vec<_> = (0..4).map(|_| mesh.connect()).collect();
    thread::scope(|scope| {
        for mut client in clients {
            let (stop, mesh) = (&stop, &mesh);
            scope.spawn(move || {
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if turn % 50 == 49 {
                        client = mesh.connect();
                    }
                    let response = client.get("/", &format!("x-request-seq: {turn}\r\n"));
                    assert_eq!(response.status, 200, "{:?}", response.headers);
                    assert_eq!(response.header("x-request-seq"), turn.to_string());
                }
            });
        }
        for number in 2..10 {
            let default = if number % 2 == 0 { "canary" } else { "stable" };
            mesh.configure(&mesh.resources_with(default));
            mesh.generation(number);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn pods_come_and_go() {
    if !root("pods_come_and_go") {
        return;
    }
    let mesh = Mesh::local("pods");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
    // The index of `client` goes to a pod that is new, and its upstreams must not go with it.
    mesh.enrol(&["s1", "s2", "s3"]);
    mesh.enrolled(&["s1", "s2", "s3"]);
    assert!(client.ended(), "the connection of a released pod ends");
    assert!(
        mesh.client.connect(mesh.vip(WEB)).is_err(),
        "a released pod has no mesh"
    );
    let mut plain = lab::http::Client::new(
        mesh.client
            .connect(mesh.endpoint("s1", lab::HTTP_PORT))
            .unwrap(),
    );
    assert_eq!(plain.get("/", "").server(), "s1", "but it has a network");
    eventually("its upstreams are closed", || {
        let upstreams = mesh.status().upstreams;
        (upstreams == 0)
            .then_some(())
            .ok_or(format!("{upstreams} are left"))
    });
    mesh.enrol(&LOCAL);
    mesh.enrolled(&LOCAL);
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
    fs::write(mesh.pods_path(), "[{\"name\": 1}]").unwrap();
    mesh.refused("pods.json");
    assert_eq!(client.get("/one", "").server(), "s1");
}
