//! Pods at the limit of their socket memory: no wrong byte, and everything recovers.
//!
//! The limit is that of the version 1 memory controller (`memory.kmem.tcp.limit_in_bytes`), because it is hard: nothing is
//! reclaimed first and nobody is killed. Where the controller is version 2's, `memory.max` kills the pod's programs
//! instead, which is what `root_faults` is about.
//!
//! Stated bounds. A server's pod: no failed request. A client's pod: nothing wrong; but, **known limit**, an answer may break
//! off or not come at all. What is redirected to a queue that has no room is not sent again: on the shortcut, the server's
//! `sendmsg` fails with `ENOMEM` (`bpf_tcp_ingress`, Linux 6.18) after the program's verdict, and no hook tells the client's
//! side. Plain TCP, and with it Envoy, sends such an answer again.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::http::{Client, get};
use lab::{Mesh, eventually, root};

const CONTROLLER: &str = "/sys/fs/cgroup/memory";
/// Socket memory of the limited pod, bytes: less than the answers that are under way at once.
const LIMIT: usize = 128 << 10;
/// Bytes of an answer: small enough for the kernel's path.
const SIZE: usize = 50_000;
/// Clients at once.
const MANY: usize = 6;
/// How long an answer may stand still before it is given up.
const STILL: Duration = Duration::from_secs(1);

/// A limit on what a process and its sockets to come use, gone when dropped.
struct Limit(PathBuf);

impl Limit {
    /// `None` if this machine has no version 1 memory controller.
    fn on(pid: u32) -> Option<Self> {
        let folder = Path::new(CONTROLLER).join(format!("kmesh-test-{pid}"));
        if !Path::new(CONTROLLER)
            .join("memory.kmem.tcp.limit_in_bytes")
            .exists()
        {
            return None;
        }
        fs::create_dir(&folder).unwrap();
        let limit = Self(folder);
        limit.set(&LIMIT.to_string());
        fs::write(limit.0.join("cgroup.procs"), pid.to_string()).unwrap();
        Some(limit)
    }

    fn set(&self, bytes: &str) {
        fs::write(self.0.join("memory.kmem.tcp.limit_in_bytes"), bytes).unwrap();
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let held = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in held.lines() {
            let _ = fs::write(Path::new(CONTROLLER).join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// Whether the whole answer came; panics if it is another one.
fn answered(client: &mut Client, seq: &str) -> bool {
    client.stream.set_read_timeout(Some(STILL)).unwrap();
    let mut heard = Vec::new();
    let mut piece = vec![0; 65_536];
    loop {
        match client.stream.read(&mut piece) {
            Ok(0) | Err(_) => return false,
            Ok(count) => heard.extend_from_slice(&piece[..count]),
        }
        let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&heard[..end + 2]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            assert!(head.starts_with("http/1.1 503"), "{head}");
            return false;
        }
        assert!(
            head.contains(&format!("x-request-seq: {seq}\r\n")),
            "{head}"
        );
        let body = heard.len() - end - 4;
        assert!(body <= SIZE, "{body} bytes of {SIZE}");
        if body == SIZE {
            return true;
        }
    }
}

/// Has all clients send before any answer is read; how many answers did not come whole.
fn exchange(mesh: &Mesh, clients: &mut [Client]) -> usize {
    let mut failed = 0;
    for turn in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            let seq = format!("x-request-seq: {turn}-{number}\r\n");
            client.send(get(&format!("/one?size={SIZE}"), &seq));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            if !answered(client, &format!("{turn}-{number}")) {
                failed += 1;
                *client = mesh.connect();
            }
        }
    }
    failed
}

fn limited(mesh: &Mesh, pid: u32) -> Option<usize> {
    let mut warm = mesh.connect();
    mesh.warm(&mut warm, &[("/one", "")]);
    let limit = Limit::on(pid)?;
    let mut clients: Vec<Client> = (0..MANY).map(|_| mesh.connect()).collect();
    let failed = exchange(mesh, &mut clients);
    limit.set("-1");
    let mut clients: Vec<Client> = (0..MANY).map(|_| mesh.connect()).collect();
    assert_eq!(exchange(mesh, &mut clients), 0, "there is room again");
    drop(clients);
    eventually("every lease has ended", || {
        let leases = mesh.status().leases;
        (leases.leased == 0 && leases.violations.is_empty())
            .then_some(())
            .ok_or(format!("{leases:?}"))
    });
    Some(failed)
}

#[test]
fn a_server_at_its_memory_limit_fails_no_request() {
    if !root("a_server_at_its_memory_limit_fails_no_request") {
        return;
    }
    for mesh in [Mesh::local("memory"), Mesh::remote("memory-remote")] {
        match limited(&mesh, mesh.servers[0].1.id()) {
            Some(failed) => assert_eq!(failed, 0),
            None => println!("SKIP: there is no {CONTROLLER}/memory.kmem.tcp.limit_in_bytes"),
        }
    }
}

#[test]
fn a_client_at_its_memory_limit_gets_nothing_wrong() {
    if !root("a_client_at_its_memory_limit_gets_nothing_wrong") {
        return;
    }
    for mesh in [Mesh::local("memory"), Mesh::remote("memory-remote")] {
        match limited(&mesh, mesh.client.id()) {
            Some(failed) => println!("{failed} answers did not come whole"),
            None => println!("SKIP: there is no {CONTROLLER}/memory.kmem.tcp.limit_in_bytes"),
        }
    }
}

/// What is larger than everybody may let lie asks for room first, and travels by TCP where there is none.
#[test]
fn a_large_answer_to_a_client_at_its_memory_limit_comes_whole() {
    const LARGE: usize = 1_000_000;
    if !root("a_large_answer_to_a_client_at_its_memory_limit_comes_whole") {
        return;
    }
    let mesh = Mesh::local("memory-large");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
    let path = format!("/one?size={LARGE}");
    let large =
        |client: &mut Client| mesh.counted(|| assert_eq!(client.get(&path, "").body.len(), LARGE));
    assert_eq!(large(&mut client), (1, 0));
    let Some(limit) = Limit::on(mesh.client.id()) else {
        println!("SKIP: there is no {CONTROLLER}/memory.kmem.tcp.limit_in_bytes");
        return;
    };
    // Sockets are charged to the group that made them.
    let mut limited = mesh.connect();
    mesh.warm(&mut limited, &[("/one", "")]);
    for _ in 0..5 {
        assert_eq!(
            large(&mut limited),
            (0, 1),
            "there is no room for {LARGE} bytes in {LIMIT}"
        );
    }
    limit.set("-1");
    assert_eq!(large(&mut limited), (1, 0), "there is room again");
}
