//! A server that freezes, and pods that vanish with their namespace, all under load.
//!
//! Stated bounds. A frozen server: no failed request; those that are with it wait, nobody else does. A client's pod that
//! vanishes: no failed request of others. A server's pod that vanishes: what is sent to it until the configuration leaves
//! it out gets 503 or the end of the connection; nothing after that.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use lab::agent::agent;
use lab::http::{Client, get};
use lab::load::{Kind, load};
use lab::{Mesh, WEB, eventually, root};
use nix::sys::signal::Signal;

/// Clients of the servers that something happens to.
const CONCERNED: Kind = Kind {
    count: 4,
    headers: "",
    servers: &["s1", "s2"],
    connects: false,
};
/// How long a server stays frozen.
const FROZEN: Duration = Duration::from_secs(2);

/// Clients of another server.
const OTHERS: Kind = Kind {
    count: 2,
    headers: "end-user: jason\r\n",
    servers: &["s3"],
    connects: false,
};

#[test]
fn a_server_frozen_under_load_fails_no_request() {
    if !root("a_server_frozen_under_load_fails_no_request") {
        return;
    }

    for mesh in [Mesh::local("frozen"), Mesh::remote("frozen-remote")] {
        let newcomers = Kind {
            count: 2,
            connects: true,
            ..CONCERNED
        };
        let tallies = load(&mesh, &[CONCERNED, newcomers, OTHERS], |load| {
            mesh.signal("s1", Signal::SIGSTOP);
            let begun = Instant::now();
            eventually("the server is frozen for a while", || {
                load.serves(2, 10);
                let frozen = begun.elapsed();
                (frozen > FROZEN)
                    .then_some(())
                    .ok_or(format!("{frozen:?} of {FROZEN:?}"))
            });
            mesh.signal("s1", Signal::SIGCONT);
            load.goes_on();
        });
        assert!(tallies.iter().all(|tally| tally.failed() == 0));
        let leases = mesh.status().leases;
        assert!(leases.violations.is_empty(), "{leases:?}");
    }
}

/// Takes a pod's link away, as a network plugin does when it deletes a namespace.
fn unplug(mesh: &Mesh, pod: &str) {
    let mut ip = mesh.lab.pod(pod).unwrap().command("ip");
    assert!(
        ip.args(["link", "delete", "eth0"])
            .status()
            .unwrap()
            .success()
    );
}

/// Whether the daemon keeps the pod's network namespace alive.
fn is_held(mesh: &Mesh, pod: &str) -> bool {
    let namespace = fs::metadata(mesh.lab.pod(pod).unwrap().netns_path()).unwrap();
    let pid = mesh.daemon.as_ref().unwrap().child.id();
    let mut open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    open.any(|entry| {
        // A descriptor may be closed meanwhile.
        let found = entry.and_then(|entry| fs::metadata(entry.path()));
        found.is_ok_and(|found| (found.dev(), found.ino()) == (namespace.dev(), namespace.ino()))
    })
}

#[test]
fn a_client_pod_that_vanishes_mid_request_is_forgotten() {
    if !root("a_client_pod_that_vanishes_mid_request_is_forgotten") {
        return;
    }
    let mesh = Mesh::local("vanish");
    let other = agent(&mesh.lab, "other");
    let connect = || Client::new(other.connect(mesh.vip(WEB)).unwrap());
    let mut warm = connect();
    mesh.warm(&mut warm, &[("/one", "")]);
    // In the kernel, in user space (a chunked body with trailers), and a body that never ends.
    let mut clients = [connect(), connect(), connect()];
    clients[0].send(get("/one?delay=60s", ""));
    clients[1].send(
        "POST /one?delay=60s HTTP/1.1\r\nHost: svc.test\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\r\nx\r\n0\r\na: b\r\n\r\n",
    );
    clients[2].send("POST /one HTTP/1.1\r\nHost: svc.test\r\nContent-Length: 9\r\n\r\nx");
    eventually("the requests are with the server", || {
        let leases = mesh.status().leases;
        (leases.leased >= 1 && leases.user >= 1)
            .then_some(())
            .ok_or(format!("{leases:?}"))
    });
    let tallies = load(&mesh, &[CONCERNED, OTHERS], |load| {
        unplug(&mesh, "other");
        drop((warm, clients));
        drop(other);
        mesh.enrol(&["client", "s1", "s2", "s3"]);
        eventually("the pod is forgotten", || {
            let status = mesh.status();
            let sockets = mesh.sockets("other");
            let gone = !status.pods.contains(&"other".to_owned())
                && sockets.is_empty()
                && !is_held(&mesh, "other");
            gone.then_some(()).ok_or(format!("{status}{sockets:?}"))
        });
        load.goes_on();
    });
    assert!(tallies.iter().all(|tally| tally.failed() == 0));
    eventually("its leases have ended", || {
        let leases = mesh.status().leases;
        (leases.leased == 0 && leases.abandoned == 0 && leases.violations.is_empty())
            .then_some(())
            .ok_or(format!("{leases:?}"))
    });
}

#[test]
fn a_server_pod_that_vanishes_under_load_hurts_until_it_is_left_out() {
    if !root("a_server_pod_that_vanishes_under_load_hurts_until_it_is_left_out") {
        return;
    }
    for mut mesh in [Mesh::local("deleted"), Mesh::remote("deleted-remote")] {
        let without = mesh.resources_with("canary");
        let at = mesh.servers.iter().position(|(name, _)| name == "s1");
        let (_, mut server) = mesh.servers.remove(at.unwrap());
        let concerned = Kind {
            servers: &["s1", "s2", "s3"],
            ..CONCERNED
        };
        let tallies = load(&mesh, &[concerned, OTHERS], |load| {
            let generation = mesh.status().generation;
            load.fault();
            server.kill().unwrap();
            server.wait().unwrap();
            unplug(&mesh, "s1");
            load.serves(1, 50);
            mesh.configure(&without);
            eventually("the configuration is in force", || {
                let now = mesh.status().generation;
                (now > generation).then_some(()).ok_or(now.to_string())
            });
            load.mended();
            load.goes_on();
            load.goes_on();
        });
        assert_eq!(tallies[1].failed(), 0, "others: {:?}", tallies[1]);
        let leases = mesh.status().leases;
        assert!(leases.violations.is_empty(), "{leases:?}");
    }
}
