//! Where requests go: every request on its own, on one connection, in the kernel.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lab::http::{Client, Response};
use lab::{Mesh, WEB, root};

/// The core cases, wherever the servers are.
fn requests_are_routed_one_by_one(mesh: &Mesh) {
    let mut client = mesh.connect();
    mesh.warm(
        &mut client,
        &[
            ("/", ""),
            ("/", ""),
            ("/", "end-user: jason\r\n"),
            ("/one", ""),
        ],
    );
    let (kernel, user) = mesh.counted(|| {
        for turn in 0..20 {
            let jason = client.get(&format!("/{turn}"), "End-User: jason\r\n");
            assert_eq!(
                (jason.status, jason.server()),
                (200, "s3"),
                "canary, turn {turn}"
            );
            let jasper = client.get(&format!("/{turn}"), "End-User: jasper\r\n");
            assert!(
                ["s1", "s2"].contains(&jasper.server()),
                "stable, turn {turn}: {jasper:?}"
            );
            assert_eq!(
                client.get("/one/x?y=z", "").server(),
                "s1",
                "one, turn {turn}"
            );
        }
    });
    assert_eq!((kernel, user), (60, 0), "{:?}", mesh.requests());
}

#[test]
fn each_request_on_a_connection_has_its_own_route() {
    if root("each_request_on_a_connection_has_its_own_route") {
        let mesh = Mesh::local("route");
        requests_are_routed_one_by_one(&mesh);
        assert!(mesh.requests().local > 0, "{:?}", mesh.requests());
    }
}

#[test]
fn each_request_has_its_own_route_to_servers_elsewhere() {
    if root("each_request_has_its_own_route_to_servers_elsewhere") {
        let mesh = Mesh::remote("route-remote");
        requests_are_routed_one_by_one(&mesh);
        assert_eq!(mesh.requests().local, 0, "{:?}", mesh.requests());
    }
}

fn spread(client: &mut Client, path: &str, count: usize) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        *seen
            .entry(client.get(path, "").server().to_owned())
            .or_default() += 1;
    }
    seen
}

#[test]
fn endpoints_take_turns_and_weights_hold() {
    if !root("endpoints_take_turns_and_weights_hold") {
        return;
    }
    let mesh = Mesh::local("spread");
    let mut client = mesh.connect();
    let turns = spread(&mut client, "/", 100);
    // Turns are per CPU and the user-space path has its own, so allow for a few that fall together.
    assert!(
        turns["s1"].abs_diff(turns["s2"]) <= 10 && turns.len() == 2,
        "{turns:?}"
    );
    // 400 fair draws leave 140..=260 with a probability of about 1e-9.
    let weighted = spread(&mut client, "/weighted", 400);
    assert_eq!(weighted.len(), 2, "{weighted:?}");
    assert!((140..=260).contains(&weighted["s1"]), "{weighted:?}");
}

#[test]
fn ipv6_works_on_both_sides() {
    if !root("ipv6_works_on_both_sides") {
        return;
    }
    let mesh = Mesh::local("six");
    let mut four = mesh.connect();
    let mut six = Client::new(mesh.client.connect(mesh.vip6(WEB)).unwrap());
    mesh.warm(&mut six, &[("/six", ""), ("/one", "")]);
    let (kernel, user) = mesh.counted(|| {
        assert_eq!(
            four.get("/six", "").server(),
            "s1",
            "IPv4 service, IPv6 endpoint"
        );
        assert_eq!(
            six.get("/six", "").server(),
            "s1",
            "IPv6 service and endpoint"
        );
        assert_eq!(
            six.get("/one", "").server(),
            "s1",
            "IPv6 service, IPv4 endpoint"
        );
    });
    assert_eq!((kernel, user), (3, 0), "{:?}", mesh.requests());
}

#[test]
fn an_ipv6_socket_reaches_an_ipv4_service() {
    if !root("an_ipv6_socket_reaches_an_ipv4_service") {
        return;
    }
    let mesh = Mesh::local("mapped");
    let IpAddr::V4(v4) = mesh.vip(WEB).ip() else {
        panic!("the VIP is IPv4")
    };
    let mapped = SocketAddr::new(v4.to_ipv6_mapped().into(), WEB);
    let mut client = Client::new(mesh.client.connect(mapped).unwrap());
    assert_eq!(client.stream.peer_addr().unwrap(), mapped);
    mesh.warm(&mut client, &[("/one", "")]);
}

#[test]
fn the_application_sees_the_address_it_asked_for() {
    if !root("the_application_sees_the_address_it_asked_for") {
        return;
    }
    let mesh = Mesh::local("peer");
    for vip in [mesh.vip(WEB), mesh.vip6(WEB), mesh.vip(lab::TCP)] {
        let stream = mesh.client.connect(vip).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), vip);
        let local = stream.local_addr().unwrap().ip();
        let pod = mesh.lab.pod("client").unwrap();
        assert!(
            [IpAddr::from(pod.ipv4()), pod.ipv6().into()].contains(&local),
            "{local}"
        );
    }
}

fn outcome(response: &Response) -> (u16, &str) {
    (response.status, str::from_utf8(&response.body).unwrap())
}

#[test]
fn requests_without_a_destination_get_envoys_answers() {
    if !root("requests_without_a_destination_get_envoys_answers") {
        return;
    }
    let mesh = Mesh::local("nowhere");
    let mut client = mesh.connect();
    let host = |host: &str, path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for turn in 0..3 {
        client.send(host("unknown.test", "/"));
        assert_eq!(
            outcome(&client.receive(false)),
            (404, ""),
            "unknown host, turn {turn}"
        );
        client.send(host("strict.test", "/unknown"));
        assert_eq!(
            outcome(&client.receive(false)),
            (404, ""),
            "unknown path, turn {turn}"
        );
        client.send(host("strict.test", "/known"));
        assert_eq!(
            client.receive(false).server(),
            "s1",
            "known path, turn {turn}"
        );
        let empty = client.get("/empty", "");
        assert_eq!(outcome(&empty), (503, "no healthy upstream"), "turn {turn}");
        let dead = client.get("/dead", "");
        assert_eq!(dead.status, 503, "closed port, turn {turn}");
        assert_eq!(
            client.get("/one", "").server(),
            "s1",
            "afterwards, turn {turn}"
        );
    }
    assert!(mesh.requests().kernel >= 4, "{:?}", mesh.requests());
}
