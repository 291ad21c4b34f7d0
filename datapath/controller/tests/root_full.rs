//! Maps that are full: what does not fit is served in user space or refused, never wrong, and a counter tells.
//!
//! The maps have a few entries only (`--map-size`), so that a few clients fill them.

use crate::lab;

use std::io::{ErrorKind, Write as _};

use kmesh_probe::Status;
use lab::http::{Client, get};
use lab::{CLIENTS, LOCAL, Mesh, SERVERS, WEB, eventually, root};

/// Entries of the map that is filled.
const ENTRIES: usize = 4;
/// Clients at once.
const MANY: usize = 10;
/// Paths, header lines, and who answers: three pools.
const TARGETS: [(&str, &str, &str); 3] = [
    ("/one", "", "s1"),
    ("/", "end-user: jason\r\n", "s3"),
    ("/six", "", "s1"),
];

fn mesh(test: &str, enrolled: &[&str], size: &str) -> Mesh {
    let mut mesh = Mesh::bare(test);
    mesh.configure(&mesh.standard());
    mesh.enrol(enrolled);
    // One pod does it all here; what a pod gets of a map beside others is `root_isolation`'s to show.
    mesh.start_with(&["--map-size", size, "--without", "shares"]);
    for server in SERVERS {
        mesh.serve(server);
    }
    mesh
}

/// Has all clients send before any answer is read, to every target, several times.
fn exchange(clients: &mut [Client], what: &str) {
    for turn in 0..3 {
        for (path, headers, server) in TARGETS {
            for (number, client) in clients.iter_mut().enumerate() {
                let headers = format!("{headers}x-request-seq: {turn}-{number}\r\n");
                client.send(get(&format!("{path}?delay=5ms"), &headers));
            }
            for (number, client) in clients.iter_mut().enumerate() {
                let response = client.receive(false);
                assert_eq!(response.status, 200, "{what}: {:?}", response.headers);
                let seq = format!("{turn}-{number}");
                assert_eq!(response.header("x-request-seq"), seq, "{what}");
                assert_eq!(response.server(), server, "{what}");
            }
        }
    }
}

/// Fills a map with clients that must all be served, and has them leave. What the daemon says before they leave.
fn fills(test: &str, enrolled: &[&str], map: &str) -> Status {
    let mesh = mesh(test, enrolled, &format!("{map}={ENTRIES}"));
    let mut clients: Vec<Client> = (0..MANY).map(|_| mesh.connect()).collect();
    exchange(&mut clients, map);
    let status = mesh.status();
    drop(clients);
    eventually("all connections are gone", || {
        let now = mesh.status();
        let clean = now.anchors == 0 && now.leases.leased == 0 && now.leases.violations.is_empty();
        clean.then_some(()).ok_or(now.to_string())
    });
    // There is room again.
    exchange(&mut [mesh.connect()], map);
    status
}

#[test]
fn connections_beyond_the_map_of_clients_are_served_in_user_space() {
    if !root("connections_beyond_the_map_of_clients_are_served_in_user_space") {
        return;
    }
    let status = fills("full-clients", &LOCAL, "CLIENTS");
    let beyond = (MANY - ENTRIES) as u64;
    assert_eq!(status.connections["clients_full"], beyond, "{status}");
    assert!(status.requests.kernel > 0, "{status}");
}

#[test]
fn clients_whose_progress_has_no_room_stay_in_user_space() {
    if !root("clients_whose_progress_has_no_room_stay_in_user_space") {
        return;
    }
    let status = fills("full-answered", &LOCAL, "ANSWERED");
    assert!(status.requests.by_reason["user_pending"] > 0, "{status}");
}

#[test]
fn endpoints_beyond_the_map_of_pools_are_served_in_user_space() {
    if !root("endpoints_beyond_the_map_of_pools_are_served_in_user_space") {
        return;
    }
    let mesh = mesh("full-pools", &LOCAL, "POOLS=1");
    let mut clients: Vec<Client> = (0..MANY).map(|_| mesh.connect()).collect();
    exchange(&mut clients, "POOLS");
    let (_, user) = mesh.counted(|| exchange(&mut clients, "POOLS"));
    let others = MANY * 3 * (TARGETS.len() - 1);
    assert!(user >= others as u64, "{}", mesh.status());
    let leases = mesh.status().leases;
    assert!(leases.violations.is_empty(), "{leases:?}");
}

#[test]
fn upstreams_beyond_their_maps_are_slower_and_not_wrong() {
    if !root("upstreams_beyond_their_maps_are_slower_and_not_wrong") {
        return;
    }
    for (test, enrolled, map) in [
        ("full-expected", &LOCAL[..], "EXPECTED"),
        ("full-servers", &LOCAL[..], "SERVERS"),
        ("full-slots", &CLIENTS[..], "SLOTS"),
        ("full-upstreams", &CLIENTS[..], "UPSTREAM_SOCKETS"),
    ] {
        let status = fills(test, enrolled, map);
        let requests = &status.requests;
        // More than the map holds at once, and what it holds is in use.
        assert!(requests.user > 0 && requests.kernel > 0, "{map}: {status}");
    }
}

#[test]
fn connections_that_no_anchor_can_know_are_closed() {
    if !root("connections_that_no_anchor_can_know_are_closed") {
        return;
    }
    let mesh = mesh("full-anchored", &LOCAL, &format!("ANCHORED={ENTRIES}"));
    let mut clients: Vec<Client> = (0..ENTRIES).map(|_| mesh.connect()).collect();
    exchange(&mut clients, "ANCHORED");
    let refused = || mesh.status().connections["anchor_full"];
    let (kernel, user) = mesh.counted(|| {
        for beyond in 1..=3 {
            let stream = mesh.client.connect(mesh.vip(WEB)).unwrap();
            let mut client = Client::new(stream);
            // It may be closed before it can send.
            let _ = client.stream.write_all(get("/one", "").as_bytes());
            assert!(client.ended(), "an answer from nowhere");
            assert_eq!(refused(), beyond);
        }
    });
    assert_eq!((kernel, user), (0, 0), "nobody served a closed connection");
    exchange(&mut clients, "ANCHORED");
    clients.pop();
    eventually("there is room again", || {
        let mut client = mesh.connect();
        let answer = client
            .try_get("/one", "")
            .map_err(|error| error.to_string())?;
        assert_eq!(answer.server(), "s1");
        Ok(())
    });
}

#[test]
fn a_pipelined_request_that_cannot_wait_its_turn_is_refused() {
    if !root("a_pipelined_request_that_cannot_wait_its_turn_is_refused") {
        return;
    }
    let mesh = mesh("full-waiting", &LOCAL, "WAITING=1");
    let mut clients = [mesh.connect(), mesh.connect()];
    for client in &mut clients {
        mesh.warm(client, &[("/one", "")]);
    }
    // Two upstreams must lie free.
    eventually("both are carried by the kernel", || {
        let (kernel, _) = mesh.counted(|| {
            for client in &mut clients {
                client.send(get("/one?delay=10ms", ""));
            }
            for client in &mut clients {
                client.receive(false);
            }
        });
        (kernel == 2).then_some(()).ok_or(mesh.status().to_string())
    });
    let [first, second] = &mut clients;
    for client in [&mut *first, &mut *second] {
        client.send(get("/one?delay=1s", "x-request-seq: slow\r\n"));
    }
    first.send(get("/one", "x-request-seq: next\r\n"));
    let refused = second
        .stream
        .write_all(get("/one", "x-request-seq: next\r\n").as_bytes())
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert_eq!(mesh.requests().broken["waiting_full"], 1);
    assert_eq!(first.receive(false).header("x-request-seq"), "slow");
    assert_eq!(first.receive(false).header("x-request-seq"), "next");
    assert_eq!(second.receive(false).header("x-request-seq"), "slow");
    // A connection that sends in vain has sent its last byte, and everybody else goes on.
    let again = second.try_get("/one", "").unwrap_err();
    assert_eq!(again.kind(), ErrorKind::PermissionDenied);
    assert_eq!(first.get("/one", "").server(), "s1");
    assert_eq!(mesh.connect().get("/one", "").server(), "s1");
}
