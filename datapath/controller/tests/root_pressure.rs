//! Many at once, and things that leave under load: nobody who is not concerned may notice, and nothing may hang.
//!
//! Stated bounds: connections at once, pods that leave: no failed request. Requests at once: those beyond the cluster's
//! circuit breaker get 503, no other.
//! A server that restarts: what is sent to it meanwhile gets 503 or the end of its connection, as with Envoy without
//! retries; nothing after it is back. Configurations that change every 50 ms, endpoints that come and go: no failed
//! request, see `kmesh-streams`.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use lab::agent::agent;
use lab::http::{Client, get};
use lab::{LOCAL, Mesh, WEB, eventually, root};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Connections at once.
const CONNECTIONS: usize = 10_000;
/// Requests at once: more than `POOL_MAX` (1024), the free upstreams that one pool holds, and more than Envoy's circuit
/// breaker lets through unless it is told otherwise (`max_requests`: 1024).
const REQUESTS: usize = 1_200;
/// How many of them may get the circuit breaker's 503.
const REFUSED: usize = REQUESTS - 1_024;

/// Pods that the connections come from: together they get three quarters of what is shared, one alone a half.
const CROWD: [&str; 3] = ["client", "other", "s3"];

/// Lets this process, and the agents it starts, have a descriptor per connection; of the daemon's, three quarters are for anchored ones.
fn allow_descriptors() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    assert!(
        most as usize * 9 / 16 > CONNECTIONS + 1_000,
        "{most} descriptors"
    );
}

#[test]
fn ten_thousand_connections_at_once_are_all_served() {
    if !root("ten_thousand_connections_at_once_are_all_served") {
        return;
    }
    allow_descriptors();
    let mesh = Mesh::local("crowd");
    let agents = CROWD.map(|pod| agent(&mesh.lab, pod));
    let connect = |number: usize| agents[number % CROWD.len()].connect(mesh.vip(WEB));
    let mut clients: Vec<Client> = (0..CONNECTIONS)
        .map(|number| Client::new(connect(number).unwrap()))
        .collect();
    for turn in 0..2 {
        for (number, client) in clients.iter_mut().enumerate() {
            let seq = format!("{turn}-{number}");
            let response = client.get("/one", &format!("x-request-seq: {seq}\r\n"));
            assert_eq!(response.status, 200, "{seq}: {:?}", response.headers);
            assert_eq!(response.header("x-request-seq"), seq);
        }
    }
    let anchors = mesh.status().anchors;
    assert_eq!(anchors, CONNECTIONS as u64);
    drop(clients);
    eventually("all connections are gone", || {
        let anchors = mesh.status().anchors;
        (anchors == 0)
            .then_some(())
            .ok_or(format!("{anchors} anchors"))
    });
}

#[test]
fn more_requests_at_once_than_a_pool_holds_are_served_or_refused() {
    if !root("more_requests_at_once_than_a_pool_holds_are_served_or_refused") {
        return;
    }
    allow_descriptors();
    let mesh = Mesh::local("burst");
    let mut clients: Vec<Client> = (0..REQUESTS).map(|_| mesh.connect()).collect();
    for turn in 0..2 {
        for (number, client) in clients.iter_mut().enumerate() {
            let seq = format!("x-request-seq: {turn}-{number}\r\n");
            client.send(get("/one?delay=1s", &seq));
        }
        let mut refused = 0;
        for (number, client) in clients.iter_mut().enumerate() {
            let response = client.receive(false);
            if response.status == 503 {
                refused += 1;
            } else {
                assert_eq!(response.status, 200, "{turn}-{number}");
                assert_eq!(response.header("x-request-seq"), format!("{turn}-{number}"));
            }
        }
        assert!(refused <= REFUSED, "{refused} requests were refused");
    }
    drop(clients);
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
}

#[test]
fn pods_that_leave_under_load_disturb_nobody_else() {
    if !root("pods_that_leave_under_load_disturb_nobody_else") {
        return;
    }
    let mesh = Mesh::local("leaving");
    let other = agent(&mesh.lab, "other");
    let stop = AtomicBool::new(false);
    let count = AtomicU64::new(0);
    let clients: Vec<Client> = (0..4).map(|_| mesh.connect()).collect();
    thread::scope(|scope| {
        for mut client in clients {
            let (stop, count) = (&stop, &count);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seq = count.fetch_add(1, Ordering::Relaxed).to_string();
                    let response = client.get("/", &format!("x-request-seq: {seq}\r\n"));
                    assert_eq!(response.status, 200, "{seq}: {:?}", response.headers);
                    assert_eq!(response.header("x-request-seq"), seq);
                }
            });
        }
        for _ in 0..5 {
            let mut leaving = Client::new(other.connect(mesh.vip(WEB)).unwrap());
            assert_eq!(leaving.get("/one", "").status, 200);
            leaving.send(get("/one?delay=10s", ""));
            for pods in [&["client", "s1", "s2", "s3"][..], &LOCAL[..]] {
                mesh.enrol(pods);
                eventually("the pods are followed", || {
                    let found = mesh.status().pods;
                    (found == pods).then_some(()).ok_or(format!("{found:?}"))
                });
            }
            assert!(leaving.ended(), "the connection of a released pod ends");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(count.into_inner() > 100);
}

#[test]
fn a_server_that_restarts_under_load_fails_only_what_it_could_not_answer() {
    if !root("a_server_that_restarts_under_load_fails_only_what_it_could_not_answer") {
        return;
    }
    for mut mesh in [Mesh::local("restart"), Mesh::remote("restart-remote")] {
        let stop = AtomicBool::new(false);
        // 0 before the server is killed, 1 while it is away, 2 when it is back.
        let phase = AtomicU64::new(0);
        let served = [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)];
        let clients: Vec<Client> = (0..4).map(|_| mesh.connect()).collect();
        let vip = mesh.vip(WEB);
        let pod = agent(&mesh.lab, "client");
        thread::scope(|scope| {
            for mut client in clients {
                let (stop, phase, served, pod) = (&stop, &phase, &served, &pod);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let before = phase.load(Ordering::SeqCst);
                        match client.try_get("/one", "") {
                            Ok(response) if response.status == 200 => {
                                served[before as usize].fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(response) => {
                                assert_eq!(response.status, 503);
                                assert!(before == 1 || phase.load(Ordering::SeqCst) == 1, "503");
                            }
                            Err(error) => {
                                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "hangs");
                                assert!(
                                    before == 1 || phase.load(Ordering::SeqCst) == 1,
                                    "{error}"
                                );
                                client = Client::new(pod.connect(vip).unwrap());
                            }
                        }
                    }
                });
            }
            let grows = |index: usize| {
                let begun = served[index].load(Ordering::Relaxed);
                eventually("requests are served", || {
                    let now = served[index].load(Ordering::Relaxed);
                    (now > begun + 200).then_some(()).ok_or(format!("{now}"))
                });
            };
            grows(0);
            phase.store(1, Ordering::SeqCst);
            mesh.kill("s1");
            mesh.serve("s1");
            // A request that was sent to the closing socket may still be on its way to its 503.
            grows(1);
            phase.store(2, Ordering::SeqCst);
            grows(2);
            stop.store(true, Ordering::Relaxed);
        });
    }
}
