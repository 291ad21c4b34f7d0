//! Bodies beyond what the kernel's path takes: whole, in order and at speed, through TCP and back to the kernel.

use crate::lab;

use std::time::{Duration, Instant};

use lab::http::{hash, post};
use lab::raw::{self, Connection};
use lab::{Mesh, root};

/// An anchor's send buffer holds little, so that a reader that stops costs little. Each fill of it must not wait for an
/// acknowledgement that the client delays for 40 ms: that made 120 waits of this answer.
#[test]
fn a_large_answer_does_not_wait_for_delayed_acknowledgements() {
    if !root("a_large_answer_does_not_wait_for_delayed_acknowledgements") {
        return;
    }
    let size = 8_000_000;
    let mesh = Mesh::local("large");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
    let begun = Instant::now();
    let answer = client.get(&format!("/one?size={size}"), "");
    assert_eq!(answer.body.len(), size);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn request_bodies_arrive_whole() {
    if !root("request_bodies_arrive_whole") {
        return;
    }
    for mesh in [Mesh::local("bodies"), Mesh::remote("bodies-remote")] {
        let mut client = mesh.connect();
        mesh.warm(&mut client, &[("/one", "")]);
        for size in [
            0, 1, 1_000, 4_096, 20_000, 60_000, 65_536, 200_000, 1_000_000,
        ] {
            let bytes: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
            for pieces in [1, 2, 5] {
                // kmesh-origin echoes the body; `size` keeps the answer small.
                let (head, body) = post("/one?size=3", &bytes);
                client.send(head);
                for piece in body.chunks((size / pieces).max(1)) {
                    client.send(piece);
                }
                let response = client.receive(false);
                assert_eq!(response.status, 200, "{size} bytes in {pieces} pieces");
                // The origin reports no hash of no body.
                let expected = if size == 0 {
                    String::new()
                } else {
                    hash(&body)
                };
                assert_eq!(
                    response.header("x-body-hash"),
                    expected,
                    "{size} bytes in {pieces} pieces"
                );
            }
        }
        assert!(mesh.requests().kernel >= 10, "{:?}", mesh.requests());
    }
}

#[test]
fn large_and_small_responses_share_a_connection() {
    if !root("large_and_small_responses_share_a_connection") {
        return;
    }
    for (mesh, occupied) in meshes("large") {
        let _readers = occupied.then(|| mesh.occupy(LARGE));
        let mut client = mesh.connect();
        mesh.warm(&mut client, &[("/one", "")]);
        let expected =
            |size: usize| -> Vec<u8> { (0..size).map(|i| (i * 31 % 253) as u8).collect() };
        for size in [3, 70_000, 200_000, 1_000, 65_000, 5_000_000, 10, 66_000] {
            // The origin echoes what it is sent, so the test knows every byte.
            let (head, body) = post("/one", &expected(size));
            client.send(head);
            client.send(body);
            let response = client.receive(false);
            assert_eq!(response.status, 200, "{size}");
            assert_eq!(hash(&response.body), hash(&expected(size)), "{size} bytes");
            assert_eq!(client.get("/one?size=9", "").body.len(), 9, "after {size}");
            let response = client.get(&format!("/one?size={size}"), "");
            assert!(
                response.body == pattern(size),
                "{size} bytes of the origin's pattern"
            );
        }
        mesh.warm(&mut client, &[("/one", "")]);
        let requests = mesh.requests();
        let relayed = requests.by_reason["relayed"] > 0;
        assert_eq!(relayed, occupied || requests.remote > 0, "{requests:?}");
    }
}

/// Servers here with places for large messages, servers here whose readers have taken them all (if asked for), and servers elsewhere.
fn meshes(name: &str) -> [(Mesh, bool); 3] {
    [
        (Mesh::local(name), false),
        (Mesh::local(&format!("{name}-full")), true),
        (Mesh::remote(&format!("{name}-remote")), false),
    ]
}

/// What `kmesh-origin` sends for `size=`: every line of 16 bytes is its own offset.
fn pattern(size: usize) -> Vec<u8> {
    let lines = (0..size)
        .step_by(16)
        .flat_map(|at| format!("{at:015x}\n").into_bytes());
    lines.take(size).collect()
}

/// Bytes of a body that needs a place, or is user space's.
const LARGE: usize = 300_000;

/// Answers with large bodies, `/raw/more` with something behind one and `/raw/less` with not all of it.
fn large_ways(mut connection: Connection) {
    while let Some(request) = connection.request() {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n").into_bytes();
        let (count, behind) = match request.path() {
            "/raw/more" => (LARGE, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong"),
            "/raw/less" => (LARGE / 2, ""),
            _ => (LARGE, ""),
        };
        let whole = [head, pattern(count), behind.into()].concat();
        if connection.answer(&[whole]).is_none() || count < LARGE {
            return;
        }
    }
}

#[test]
fn a_large_answer_is_as_long_as_it_says() {
    if !root("a_large_answer_is_as_long_as_it_says") {
        return;
    }
    for (mesh, occupied) in meshes("length") {
        let _readers = occupied.then(|| mesh.occupy(LARGE));
        let _server = raw::serve(&mesh, large_ways);
        let mut client = mesh.connect();
        for turn in 0..20 {
            for path in ["/raw/large", "/raw/more", "/raw/large"] {
                let response = client.get(path, "");
                assert_eq!(response.status, 200, "{path}, turn {turn}");
                assert!(response.body == pattern(LARGE), "{path}, turn {turn}");
            }
        }
        let requests = mesh.requests();
        let relayed = requests.by_reason["relayed"];
        assert_eq!(
            relayed > 20,
            occupied || requests.remote > 0,
            "{requests:?}"
        );
        client.send("GET /raw/less HTTP/1.1\r\nHost: svc.test\r\n\r\n");
        let cut = client.try_receive(false);
        assert!(cut.is_err(), "half of an answer was taken for all of it");
    }
}
