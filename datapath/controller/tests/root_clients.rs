//! Real clients through the datapath, and what ten thousand connections leave behind.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::fs;

use lab::http::{Client, get};
use lab::{Mesh, WEB, eventually, root};

/// Runs a program in the client pod; what it printed, both streams.
fn run(mesh: &Mesh, program: &str, args: &[&str]) -> String {
    let mut command = mesh.lab.pod("client").unwrap().command(program);
    let output = command.args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{program}: {text}");
    text
}

#[test]
fn curl_reuses_its_connection() {
    if !root("curl_reuses_its_connection") {
        return;
    }
    let mesh = Mesh::local("curl");
    let url = |path: &str| format!("http://{}{path}", mesh.vip(WEB));
    let (a, b, c) = (url("/one"), url("/one?size=100000"), url("/one?size=5"));
    let said = run(
        &mesh,
        "curl",
        &[
            "-sv",
            "--http1.1",
            "-H",
            "Host: svc.test",
            "-d",
            "hello",
            &a,
            &a,
            &b,
            &c,
        ],
    );
    assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 4, "{said}");
    assert_eq!(
        said.matches("Re-using existing connection").count(),
        3,
        "{said}"
    );
}

#[test]
fn load_generators_find_no_fault() {
    if !root("load_generators_find_no_fault") {
        return;
    }
    let mesh = Mesh::local("load");
    let url = format!("http://{}/one?size=100", mesh.vip(WEB));
    let wrk = run(
        &mesh,
        "wrk",
        &["-t1", "-c20", "-d1s", "-H", "Host: svc.test", &url],
    );
    assert!(
        !wrk.contains("Non-2xx") && !wrk.contains("Socket errors"),
        "{wrk}"
    );
    let hey = run(
        &mesh,
        "hey",
        &["-n", "2000", "-c", "20", "-host", "svc.test", &url],
    );
    assert!(hey.contains("[200]\t2000 responses"), "{hey}");
    // ab speaks HTTP/1.0, which Envoy answers with 426 unless told otherwise.
    let ab = run(
        &mesh,
        "ab",
        &["-n", "100", "-c", "5", "-H", "Host: svc.test", &url],
    );
    assert!(ab.contains("Non-2xx responses:      100"), "{ab}");
    let requests = mesh.requests();
    assert!(
        requests.kernel > 1000 && requests.by_reason["version"] == 100,
        "{requests:?}"
    );
}

#[test]
fn python_works() {
    if !root("python_works") {
        return;
    }
    let mesh = Mesh::local("python");
    let program = format!(
        "import http.client\n\
         c = http.client.HTTPConnection('{}', {})\n\
         for size in (0, 10, 5000, 50000, 200000):\n\
         \x20   for body in (b'x' * size, iter([b'x' * size])):\n\
         \x20       c.request('POST', '/one', body, {{'Host': 'svc.test'}})\n\
         \x20       r = c.getresponse()\n\
         \x20       assert r.status == 200 and r.read() == b'x' * size, size\n\
         \x20   c.request('HEAD', '/one?size=77', headers={{'Host': 'svc.test'}})\n\
         \x20   r = c.getresponse()\n\
         \x20   assert r.status == 200 and r.read() == b''\n\
         print('fine')\n",
        mesh.vip(WEB).ip(),
        WEB
    );
    assert_eq!(run(&mesh, "python3", &["-c", &program]), "fine\n");
}

/// Open descriptors and resident memory (KiB) of a process.
fn footprint(pid: u32) -> (usize, usize) {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    (
        files,
        line.split_whitespace().nth(1).unwrap().parse().unwrap(),
    )
}

#[test]
fn ten_thousand_connections_leave_nothing() {
    if !root("ten_thousand_connections_leave_nothing") {
        return;
    }
    let mesh = Mesh::local("many");
    let pid = mesh.daemon.as_ref().unwrap().child.id();
    let round = |count: usize| {
        for turn in 0..count {
            let mut client = mesh.connect();
            let path = if turn % 10 == 0 { "/empty" } else { "/one" };
            client.send(get(path, ""));
            // Every third leaves without its answer.
            if turn % 3 != 0 {
                client.receive(false);
            }
        }
        eventually("all connections are gone", || {
            let anchors = mesh.status().anchors;
            (anchors == 0)
                .then_some(())
                .ok_or(format!("{anchors} anchors"))
        });
    };
    round(1_000);
    let (files, memory) = footprint(pid);
    round(9_000);
    let (files_after, memory_after) = footprint(pid);
    assert!(
        files_after <= files + 20,
        "descriptors: {files} then {files_after}"
    );
    assert!(
        memory_after <= memory + 4_096,
        "memory: {memory} then {memory_after} KiB"
    );
    let upstreams = mesh.status().upstreams;
    assert!(upstreams <= 20, "{upstreams} upstreams");
    let mut client = Client::new(mesh.client.connect(mesh.vip(WEB)).unwrap());
    mesh.warm(&mut client, &[("/one", "")]);
}
