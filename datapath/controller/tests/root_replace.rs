//! Restart and upgrade under load: a successor takes over and no request notices.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use lab::{Daemon, Mesh, eventually, root};
use serde_json::json;

fn gone(daemon: &mut Daemon) {
    eventually("the predecessor left", || {
        match daemon.child.try_wait().unwrap() {
            Some(status) if status.success() => Ok(()),
            Some(status) => panic!("the predecessor failed: {status}"),
            None => Err("it runs".to_owned()),
        }
    });
}

#[test]
fn a_successor_takes_over_and_no_request_fails() {
    if !root("a_successor_takes_over_and_no_request_fails") {
        return;
    }
    let mut mesh = Mesh::local("replace");
    let mut daemons = vec![mesh.daemon.take().unwrap()];
    let mut held = mesh.connect();
    mesh.warm(&mut held, &[("/one", "")]);
    let stop = AtomicBool::new(false);
    let served = AtomicU64::new(0);
    thread::scope(|scope| {
        // However this ends, the clients stop.
        let stopping = Stopping(&stop);
        for _ in 0..3 {
            let (mesh, stop, served) = (&mesh, &stop, &served);
            scope.spawn(move || {
                let mut client = mesh.connect();
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if turn % 20 == 19 {
                        client = mesh.connect();
                    }
                    let response = client.get("/", &format!("x-request-seq: {turn}\r\n"));
                    assert_eq!(response.status, 200, "{:?}", response.headers);
                    assert_eq!(response.header("x-request-seq"), turn.to_string());
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..2 {
            daemons.push(mesh.successor());
            let before = served.load(Ordering::Relaxed);
            eventually("the successor carries requests in the kernel", || {
                let requests = mesh.requests();
                let served = served.load(Ordering::Relaxed) - before;
                let carried = requests.kernel > 100 && served > 200;
                carried.then_some(()).ok_or(format!("{requests:?}"))
            });
        }
        drop(stopping);
    });
    // The first daemon stays for the one connection that it still has.
    let mut last = daemons.pop().unwrap();
    assert_eq!(daemons[0].child.try_wait().unwrap(), None);
    assert_eq!(held.get("/one", "").server(), "s1");
    drop(held);
    daemons.iter_mut().for_each(gone);
    assert_eq!(mesh.connect().get("/one", "").server(), "s1");
    assert_eq!(last.child.try_wait().unwrap(), None);
    let leases = mesh.status().leases;
    assert!(leases.violations.is_empty(), "{leases:?}");
}

/// Tells the clients to stop.
struct Stopping<'s>(&'s AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    if !root("a_successor_that_cannot_start_changes_nothing") {
        return;
    }
    let mesh = Mesh::local("stay");
    let name = mesh.status().name;
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
    let good = mesh.standard();
    let mut bad = mesh.command(&name);
    bad.arg("--replace");
    // No resource that is refused alone, but no configuration at all.
    mesh.configure(&json!("nothing"));
    let mut bad = mesh.lab.spawn(bad).unwrap();
    assert!(!bad.wait().unwrap().success());
    mesh.configure(&good);
    let (kernel, user) = mesh.counted(|| {
        assert_eq!(client.get("/one", "").server(), "s1");
    });
    assert_eq!((kernel, user), (1, 0));
    assert_eq!(mesh.connect().get("/one", "").server(), "s1");
}
