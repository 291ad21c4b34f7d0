//! What a message is: however it is cut, counted or coded, its bytes arrive once, in order, with the right exchange.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::io::Write as _;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use lab::http::{get, hash, post};
use lab::raw::{self, Connection};
use lab::{Mesh, eventually, root};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};

#[test]
fn a_head_split_at_every_byte_is_one_request() {
    if !root("a_head_split_at_every_byte_is_one_request") {
        return;
    }
    let mesh = Mesh::local("split");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/", "end-user: jason\r\n")]);
    let request = get("/split", "end-user: jason\r\nx-request-seq: 7\r\n");
    let (kernel, user) = mesh.counted(|| {
        for at in 1..request.len() {
            let (first, second) = request.split_at(at);
            client.send(first);
            client.send(second);
            let response = client.receive(false);
            assert_eq!(
                (response.status, response.server()),
                (200, "s3"),
                "split at {at}"
            );
            assert_eq!(response.header("x-request-seq"), "7", "split at {at}");
        }
        for byte in request.bytes() {
            client.send([byte]);
        }
        assert_eq!(client.receive(false).server(), "s3", "byte by byte");
        let (head, body) = post("/one?size=3", b"0123456789");
        client.send(&head[..20]);
        client.send([&head.as_bytes()[20..], &body[..4]].concat());
        client.send(&body[4..]);
        let response = client.receive(false);
        assert_eq!(
            response.header("x-body-hash"),
            hash(&body),
            "body in pieces"
        );
    });
    assert_eq!(
        (kernel, user),
        (0, request.len() as u64 + 1),
        "{:?}",
        mesh.requests()
    );
    // The kernel kept track of where the requests end and takes the next whole one.
    mesh.warm(&mut client, &[("/", "end-user: jason\r\n")]);
}

/// Pipelined requests in one send are answered in order, whatever path each takes.
#[test]
fn pipelined_requests_are_answered_in_order() {
    if !root("pipelined_requests_are_answered_in_order") {
        return;
    }
    for mesh in [Mesh::local("pipeline"), Mesh::remote("pipeline-remote")] {
        let mut client = mesh.connect();
        mesh.warm(&mut client, &[("/one", ""), ("/", "end-user: jason\r\n")]);
        for round in 0..20 {
            let mut bytes = String::new();
            for turn in 0..8 {
                let (path, header) = match turn % 4 {
                    0 => ("/one?delay=2ms", ""),
                    1 => ("/", "end-user: jason\r\n"),
                    2 => ("/empty", ""),
                    _ => ("/one?size=5000", ""),
                };
                bytes += &get(path, &format!("{header}x-request-seq: {round}-{turn}\r\n"));
            }
            // Cut somewhere else in each round.
            let (first, second) = bytes.split_at(bytes.len() * (round + 1) / 21);
            client.send(first);
            client.send(second);
            for turn in 0..8 {
                let response = client.receive(false);
                let what = format!("round {round}, turn {turn}: {:?}", response.headers);
                if turn % 4 == 2 {
                    assert_eq!(response.status, 503, "{what}");
                } else {
                    assert_eq!(
                        response.header("x-request-seq"),
                        format!("{round}-{turn}"),
                        "{what}"
                    );
                    assert_eq!(
                        response.server(),
                        if turn % 4 == 1 { "s3" } else { "s1" },
                        "{what}"
                    );
                }
            }
        }
        // A client that has stopped pipelining is back in the kernel.
        mesh.warm(&mut client, &[("/one", "")]);
    }
}

/// The client sends its next request before it has read the whole answer to the one before.
#[test]
fn a_request_sent_before_the_last_answer_was_read_waits_its_turn() {
    if !root("a_request_sent_before_the_last_answer_was_read_waits_its_turn") {
        return;
    }
    let mesh = Mesh::local("eager");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", ""), ("/", "end-user: jason\r\n")]);
    for size in [10, 5_000, 70_000, 300_000] {
        client.send(get(
            &format!("/one?size={size}"),
            "x-request-seq: first\r\n",
        ));
        // The answer's head has come when its first byte has.
        client.stream.peek(&mut [0]).unwrap();
        client.send(get("/", "end-user: jason\r\nx-request-seq: second\r\n"));
        let first = client.receive(false);
        assert_eq!(
            (first.header("x-request-seq"), first.body.len()),
            ("first", size)
        );
        let second = client.receive(false);
        assert_eq!(
            (second.header("x-request-seq"), second.server()),
            ("second", "s3"),
            "{size}"
        );
    }
}

/// Keeps a thread, by number, on one CPU; 0 is the calling one.
fn pin(thread: i32, cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(thread), &only).unwrap();
}

/// Keeps a whole program on one CPU.
fn pin_program(pid: u32, cpu: usize) {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let number = thread.unwrap().file_name().into_string().unwrap();
        pin(number.parse().unwrap(), cpu);
    }
}

/// Puts the calling thread before (`-f 1`) or among (`-o 0`) the others of its CPU.
fn schedule(class: &str, priority: &str) {
    let mut chrt = std::process::Command::new("chrt");
    chrt.args([class, "-p", priority, &gettid().to_string()]);
    assert!(chrt.status().unwrap().success());
}

/// The kernel redirects an answer from another node at once and queues it in a worker, which may have to wait for a CPU. What
/// user space sends must not overtake it, be it an answer of its own or the kernel's next one that it relays.
#[test]
fn an_answer_that_the_kernel_has_yet_to_queue_is_not_overtaken() {
    if !root("an_answer_that_the_kernel_has_yet_to_queue_is_not_overtaken") {
        return;
    }
    let mesh = Mesh::remote("overtaken");
    let _server = raw::serve(&mesh, move |mut connection| {
        while let Some(request) = connection.request() {
            let hogs = request.path() == "/raw?hog";
            if hogs {
                pin(0, 0);
                schedule("-f", "1");
            }
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst";
            if connection.answer(&[answer]).is_none() {
                break;
            }
            if hogs {
                // The worker is to run on this CPU, which nobody else gets for a while.
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(100) {
                    std::hint::spin_loop();
                }
                schedule("-o", "0");
            }
        }
    });
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/raw", ""), ("/", "end-user: jason\r\n")]);
    pin(0, 1);
    pin_program(mesh.daemon.as_ref().unwrap().child.id(), 1);
    for (_, server) in &mesh.servers {
        pin_program(server.id(), 1);
    }
    let unknown = "GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n";
    let large = get("/?size=100000", "end-user: jason\r\n");
    for (second, expected) in [(unknown, (404, 0)), (&large, (200, 100_000))].repeat(3) {
        let (kernel, _) = mesh.counted(|| {
            client.send(get("/raw?hog", ""));
            eventually("the program has seen the answer", || {
                let leases = mesh.status().leases;
                (leases.leased == 0)
                    .then_some(())
                    .ok_or(format!("{leases:?}"))
            });
        });
        assert_eq!(kernel, 1);

        client.send(second);
        let first = client.receive(false);
        assert_eq!((first.status, first.body), (200, b"first".to_vec()));
        let second = client.receive(false);
        assert_eq!((second.status, second.body.len()), expected);
    }
}

/// Answers `/raw/...` in many ways.
fn many_ways(mut connection: Connection) {
    while let Some(request) = connection.request() {
        let mut parts: Vec<&str> = Vec::new();
        let path = request.path();
        match path {
            "/raw/chunked" => parts.extend([
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                "5\r\nhel",
                "lo\r\n3\r\nyou\r\n0\r\n",
                "\r\n",
            ]),
            "/raw/chunked-at-once" => parts.push(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n",
            ),
            "/raw/empty" => parts.push("HTTP/1.1 204 No Content\r\n\r\n"),
            "/raw/same" => parts.push("HTTP/1.1 304 Not Modified\r\ncontent-length: 8\r\n\r\n"),
            "/raw/split" => parts.extend(["HTTP/1.1 200 OK\r\nconte", "nt-length: 8\r\n", "\r\nhello", "you"]),
            "/raw/hint" => parts.push(
                "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhelloyou",
            ),
            "/raw/until-close" => parts.push("HTTP/1.1 200 OK\r\n\r\nhelloyou"),
            "/raw/last" => parts.push("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 8\r\n\r\nhelloyou"),
            _ => parts.push("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhelloyou"),
        }
        // The answer to HEAD does not announce a close, so there is none.
        let to_head = request.line.starts_with("HEAD");
        if to_head {
            parts = vec!["HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n"];
        }
        if connection.answer(&parts).is_none() {
            return;
        }
        if !to_head && (path == "/raw/until-close" || path == "/raw/last") {
            return;
        }
    }
}

#[test]
fn responses_end_where_they_end() {
    if !root("responses_end_where_they_end") {
        return;
    }
    for mesh in [Mesh::local("ways"), Mesh::remote("ways-remote")] {
        let _server = raw::serve(&mesh, many_ways);
        let mut client = mesh.connect();
        mesh.warm(&mut client, &[("/raw/plain", "")]);
        for turn in 0..4 {
            for (path, status) in [
                ("/raw/chunked", 200),
                ("/raw/empty", 204),
                ("/raw/chunked-at-once", 200),
                ("/raw/same", 304),
                ("/raw/split", 200),
                ("/raw/hint", 200),
                ("/raw/last", 200),
                ("/raw/plain", 200),
                ("/raw/until-close", 200),
            ] {
                let response = client.get(path, "");
                let body: &[u8] = if status == 200 { b"helloyou" } else { b"" };
                assert_eq!(
                    (response.status, &*response.body),
                    (status, body),
                    "{path}, turn {turn}"
                );
                client.send(format!("HEAD {path} HTTP/1.1\r\nHost: svc.test\r\n\r\n"));
                let head = client.receive(true);
                assert_eq!(
                    head.header("content-length"),
                    "8",
                    "HEAD {path}, turn {turn}"
                );
                assert_eq!(
                    client.get("/raw/plain", "").body,
                    b"helloyou",
                    "after {path}, turn {turn}"
                );
            }
        }
    }
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    if !root("a_client_that_expects_100_continue_gets_it") {
        return;
    }
    let mesh = Mesh::local("expect");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
    for turn in 0..3 {
        client.send(
            "POST /one HTTP/1.1\r\nHost: svc.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
        );
        assert_eq!(client.one(false).unwrap().status, 100, "turn {turn}");
        client.send("body");
        let response = client.receive(false);
        assert_eq!(
            (response.status, &*response.body),
            (200, &b"body"[..]),
            "turn {turn}"
        );
    }
    mesh.warm(&mut client, &[("/one", "")]);
}

#[test]
fn connection_close_is_between_client_and_mesh() {
    if !root("connection_close_is_between_client_and_mesh") {
        return;
    }
    let mesh = Mesh::local("close");
    let mut first = mesh.connect();
    mesh.warm(&mut first, &[("/one", "")]);
    for _ in 0..10 {
        let mut client = mesh.connect();
        let response = client.get("/one", "Connection: close\r\n");
        assert_eq!((response.status, response.server()), (200, "s1"));
        assert!(client.ended(), "the mesh closes");
    }
    let (kernel, _) = mesh.counted(|| assert_eq!(first.get("/one", "").server(), "s1"));
    assert_eq!(kernel, 1, "the upstream survived: {:?}", mesh.requests());
}

#[test]
fn what_is_not_http_1_1_is_refused_as_envoy_does() {
    if !root("what_is_not_http_1_1_is_refused_as_envoy_does") {
        return;
    }
    let mesh = Mesh::local("refuse");
    let lines = |count: usize| -> String {
        let line = format!("x-filler: {}\r\n", "x".repeat(988));
        line.repeat(count)
    };
    let old = "GET /one HTTP/1.0\r\nHost: svc.test\r\n\r\n".to_owned();
    for (what, bytes, status) in [
        ("HTTP/1.0", old, 426),
        ("bytes", "\0\u{1}\u{2}nonsense\r\n\r\n".to_owned(), 400),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            "two lengths",
            get("/one", "Content-Length: 1\r\nContent-Length: 2\r\n"),
            400,
        ),
        ("a head of 70 KiB", get("/one", &lines(70)), 431),
    ] {
        let mut client = mesh.connect();
        client.send(&bytes);
        assert_eq!(client.receive(false).status, status, "{what}");
        // Another client is not concerned.
        assert_eq!(
            mesh.connect().get("/one", "").server(),
            "s1",
            "after {what}"
        );
    }
    let mut client = mesh.connect();
    for kilobytes in [3, 5, 50] {
        let response = client.get("/one", &lines(kilobytes));
        assert_eq!(
            (response.status, response.server()),
            (200, "s1"),
            "a head of {kilobytes} KiB"
        );
    }
}

/// A server that answers before it has the whole request must not make the next one on that upstream begin in the middle.
#[test]
fn an_early_answer_does_not_confuse_the_next_request() {
    if !root("an_early_answer_does_not_confuse_the_next_request") {
        return;
    }
    for mesh in [Mesh::local("early"), Mesh::remote("early-remote")] {
        let (sender, seen) = mpsc::channel();
        let _server = raw::serve(&mesh, move |mut connection| {
            while let Some(mut request) = connection.head() {
                let _ = sender.send(request.line.clone());
                let early = request.line.starts_with("POST");
                if early {
                    connection
                        .stream
                        .write_all(b"HTTP/1.1 413 Large\r\ncontent-length: 0\r\n\r\n")
                        .unwrap();
                }
                if connection.body(&mut request).is_none() {
                    return;
                }
                if !early {
                    connection
                        .stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                        .unwrap();
                }
            }
        });
        let mut other = mesh.connect();
        mesh.warm(&mut other, &[("/raw", "")]);
        let mut client = mesh.connect();
        let (head, body) = post("/raw", b"GET /stolen HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(head);
        assert_eq!(client.receive(false).status, 413);
        for _ in 0..3 {
            assert_eq!(
                other.get("/raw", "").status,
                200,
                "another client's request"
            );
        }
        // The mesh may have ended the connection: then this fails.
        let _ = client.stream.write_all(&body);
        for _ in 0..3 {
            assert_eq!(
                other.get("/raw", "").status,
                200,
                "another client's request"
            );
        }
        while let Ok(line) = seen.try_recv() {
            assert!(
                line.ends_with("/raw"),
                "a body was taken for a request: {line}"
            );
        }
    }
}
