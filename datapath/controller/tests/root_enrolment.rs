//! Enrolment is per pod: one that fails, vanished, is slow or is held by somebody keeps no other from being enrolled, replaced or
//! released.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lab::agent::agent;
use lab::http::Client;
use lab::load::Stopping;
use lab::{LOCAL, Mesh, SERVERS, WEB, eventually, root};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::{Value, json};

/// A mesh whose daemon has these entries besides the pods that work.
fn mesh(test: &str, bad: &dyn Fn(&Mesh) -> Vec<Value>) -> Mesh {
    let mut mesh = Mesh::bare(test);
    mesh.configure(&mesh.standard());
    let mut entries = bad(&mesh);
    entries.extend(LOCAL.map(|name| mesh.entry(name)));
    mesh.enrol_entries(&entries);
    mesh.start();
    for server in SERVERS {
        mesh.serve(server);
    }
    mesh
}

fn entry(name: &str, netns: &Path, cgroup: &Path) -> Value {
    json!({ "name": name, "netns": netns, "cgroup": cgroup })
}

#[test]
fn pods_that_fail_keep_no_other_from_being_enrolled_and_released() {
    if !root("pods_that_fail_keep_no_other_from_being_enrolled_and_released") {
        return;
    }
    let bad = |mesh: &Mesh| {
        let pod = mesh.lab.pod("client").unwrap();
        let (netns, cgroup) = (pod.netns_path(), pod.cgroup().to_owned());
        let pipe = mesh.dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let nowhere = Path::new("/nonexistent/path");
        vec![
            entry("no-netns", nowhere, &cgroup),
            entry("no-cgroup", &netns, nowhere),
            entry("pipe-netns", &pipe, &cgroup),
            entry("pipe-cgroup", &netns, &pipe),
            entry("plain-folder", &netns, mesh.dir.path()),
            json!({ "name": "no-fields" }),
            entry("twice", &netns, &cgroup),
            entry("twice", &netns, &cgroup),
        ]
    };
    let mesh = mesh("enrol-fail", &bad);
    mesh.enrolled(&LOCAL);
    for name in [
        "no-netns",
        "no-cgroup",
        "pipe-netns",
        "pipe-cgroup",
        "plain-folder",
        "no-fields",
        "twice",
    ] {
        mesh.refused(name);
    }
    assert_eq!(mesh.connect().get("/one", "").server(), "s1");
    // And while they are tried again, others leave and come back.
    let mut entries = bad_without_pipe(&mesh);
    entries.extend(SERVERS.map(|name| mesh.entry(name)));
    mesh.enrol_entries(&entries);
    mesh.enrolled(&SERVERS);
    mesh.enrol(&LOCAL);
    mesh.enrolled(&LOCAL);
    mesh.generation(1);
    assert_eq!(mesh.connect().get("/one", "").server(), "s1");
}

fn bad_without_pipe(mesh: &Mesh) -> Vec<Value> {
    let pod = mesh.lab.pod("s1").unwrap();
    vec![entry("gone", Path::new("/nonexistent/path"), pod.cgroup())]
}

#[test]
fn a_pod_that_comes_late_is_enrolled_without_being_asked_for_again() {
    if !root("a_pod_that_comes_late_is_enrolled_without_being_asked_for_again") {
        return;
    }
    let mut mesh = Mesh::bare("enrol-late");
    mesh.configure(&mesh.standard());
    let late = mesh.dir.path().join("late");
    let other = mesh.lab.pod("other").unwrap();
    let mut entries = vec![entry("other", &late, other.cgroup())];
    entries.extend(["client", "s1", "s2", "s3"].map(|name| mesh.entry(name)));
    mesh.enrol_entries(&entries);
    mesh.start();
    for server in SERVERS {
        mesh.serve(server);
    }
    mesh.enrolled(&["client", "s1", "s2", "s3"]);
    mesh.refused("other");
    symlink(mesh.lab.pod("other").unwrap().netns_path(), &late).unwrap();
    mesh.enrolled(&LOCAL);
    mesh.generation(1);
    let late = agent(&mesh.lab, "other");
    let mut client = Client::new(late.connect(mesh.vip(WEB)).unwrap());
    assert_eq!(client.get("/one", "").server(), "s1");
}

#[test]
fn a_bad_entry_changes_nothing_for_the_pod_that_has_it() {
    if !root("a_bad_entry_changes_nothing_for_the_pod_that_has_it") {
        return;
    }
    let mesh = Mesh::local("enrol-bad");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
    let pod = mesh.lab.pod("client").unwrap();
    let others: Vec<Value> = LOCAL[1..].iter().map(|name| mesh.entry(name)).collect();
    let nowhere = Path::new("/nonexistent/path");
    for bad in [
        entry("client", nowhere, pod.cgroup()),
        entry("client", &pod.netns_path(), nowhere),
        json!({ "name": "client", "netns": 7 }),
        json!({ "nmae": "client" }),
    ] {
        let mut entries = vec![bad];
        entries.extend(others.clone());
        mesh.enrol_entries(&entries);
        mesh.refused("pods.json: ");
        mesh.enrolled(&LOCAL);
        let (kernel, user) = mesh.counted(|| {
            assert_eq!(client.get("/one", "").server(), "s1");
        });
        assert_eq!((kernel, user), (1, 0), "the same connection, as before");
        mesh.enrol(&LOCAL);
        mesh.generation(1);
    }
}

/// The pod is never without a mesh meanwhile: its service has no other address than the mesh's. Its connections stay in the kernel.
#[test]
fn a_pod_that_gets_another_name_is_never_without_a_mesh() {
    if !root("a_pod_that_gets_another_name_is_never_without_a_mesh") {
        return;
    }
    let mesh = Mesh::local("enrol-rename");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopping = Stopping(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                mesh.client.connect(mesh.vip(WEB)).unwrap();
            }
        });
        for turn in 0..10 {
            let name = format!("renamed-{turn}");
            let mut pod = mesh.entry("client");
            pod["name"] = name.as_str().into();
            let mut entries = vec![pod];
            entries.extend(SERVERS.map(|name| mesh.entry(name)));
            mesh.enrol_entries(&entries);
            mesh.enrolled(&[name.as_str(), "s1", "s2", "s3"]);
            let counted = mesh.counted(|| {
                assert_eq!(client.get("/one", "").server(), "s1");
            });
            assert_eq!(counted, (1, 0), "turn {turn}");
        }
        drop(stopping);
    });
    assert_eq!(mesh.connect().get("/one", "").server(), "s1");
}

#[test]
fn nothing_that_a_pod_can_lock_keeps_it_from_being_enrolled() {
    if !root("nothing_that_a_pod_can_lock_keeps_it_from_being_enrolled") {
        return;
    }
    let mut mesh = Mesh::bare("enrol-lock");
    mesh.configure(&mesh.standard());
    mesh.enrol(&LOCAL);
    let cgroup = fs::File::open(mesh.lab.pod("client").unwrap().cgroup()).unwrap();
    let held = Flock::lock(cgroup, FlockArg::LockExclusive).unwrap();
    mesh.start();
    mesh.enrolled(&LOCAL);
    drop(held);
}

#[test]
fn a_pod_that_the_successor_cannot_enrol_stays_with_the_predecessor() {
    if !root("a_pod_that_the_successor_cannot_enrol_stays_with_the_predecessor") {
        return;
    }
    let mut mesh = Mesh::bare("enrol-replace");
    mesh.configure(&mesh.standard());
    let path = mesh.dir.path().join("client-netns");
    let pod = mesh.lab.pod("client").unwrap();
    symlink(pod.netns_path(), &path).unwrap();
    let mut entries = vec![entry("client", &path, pod.cgroup())];
    entries.extend(SERVERS.map(|name| mesh.entry(name)));
    mesh.enrol_entries(&entries);
    mesh.start();
    for server in SERVERS {
        mesh.serve(server);
    }
    let mut client = mesh.connect();
    assert_eq!(client.get("/one", "").server(), "s1");
    drop(client);
    fs::remove_file(&path).unwrap();
    let mut predecessor = mesh.daemon.take().unwrap();
    mesh.daemon = Some(mesh.successor());
    mesh.enrolled(&SERVERS);
    mesh.refused("client");
    // Nobody but the predecessor has this pod.
    for _ in 0..5 {
        assert_eq!(mesh.connect().get("/one", "").server(), "s1");
    }
    assert_eq!(predecessor.child.try_wait().unwrap(), None);
    symlink(mesh.lab.pod("client").unwrap().netns_path(), &path).unwrap();
    mesh.enrolled(&["client", "s1", "s2", "s3"]);
    eventually("the predecessor left", || {
        let ended = predecessor.child.try_wait().unwrap();
        let ended = ended.map(|status| assert!(status.success(), "{status}"));
        ended.ok_or("it runs".to_owned())
    });
    assert_eq!(mesh.connect().get("/one", "").server(), "s1");
    mesh.stop(Signal::SIGTERM);
}
