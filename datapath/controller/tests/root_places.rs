//! Large messages in the kernel: who gets a place, for how long, and what becomes of those who find none.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::io::Write as _;
use std::sync::{Mutex, mpsc};

use kmesh_api::limits::{LARGE_PLACES, LARGE_SENDS_MAX};
use lab::http::{Client, get, hash, post};
use lab::raw::{self, Connection};
use lab::{Mesh, eventually, root};

/// Bytes of a body that needs a place.
const SIZE: usize = 300_000;

/// Whether the exchange stayed in the kernel from its first byte to its last.
fn stayed(mesh: &Mesh, exchange: impl FnOnce()) -> bool {
    match mesh.counted(exchange) {
        (1, 0) => true,
        (0, 1) => false,
        other => panic!("{other:?} requests in the kernel and in user space"),
    }
}

/// Waits until no lease goes on and none is kept by mistake.
fn every_exchange_is_over(mesh: &Mesh) {
    eventually("every exchange is over", || {
        let leases = mesh.status().leases;
        (leases.leased + leases.retired == 0 && leases.violations.is_empty())
            .then_some(())
            .ok_or(format!("{leases:?}"))
    });
}

fn body(seed: usize) -> Vec<u8> {
    (0..SIZE).map(|i| ((i + seed) * 31 % 253) as u8).collect()
}

fn download(mesh: &Mesh, client: &mut Client) -> bool {
    stayed(mesh, || {
        let response = client.get(&format!("/one?size={SIZE}"), "");
        assert_eq!(response.body.len(), SIZE);
    })
}

#[test]
fn a_reader_that_stops_keeps_its_place_until_it_has_read() {
    if !root("a_reader_that_stops_keeps_its_place_until_it_has_read") {
        return;
    }
    let mesh = Mesh::local("places");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
    for _ in 0..2 * LARGE_PLACES {
        assert!(download(&mesh, &mut client), "{:?}", mesh.requests());
    }
    let mut readers = mesh.occupy(SIZE);
    for _ in 0..3 {
        assert!(
            !download(&mesh, &mut client),
            "there are more than {LARGE_PLACES} places"
        );
    }
    let first = readers.remove(0).receive(false);
    assert_eq!(first.body.len(), SIZE);
    assert!(
        download(&mesh, &mut client),
        "the first has read everything"
    );
    // A reader that leaves with everything unread leaves its place as well.
    let unread = mesh.occupy_one(SIZE);
    assert!(!download(&mesh, &mut client));
    drop(unread);
    eventually("a place of a reader that is gone", || {
        download(&mesh, &mut client)
            .then_some(())
            .ok_or_else(String::new)
    });
}

#[test]
fn requests_need_a_place_at_their_server() {
    if !root("requests_need_a_place_at_their_server") {
        return;
    }
    for mesh in meshes("requests") {
        requests_need_places(&mesh);
    }
}

fn requests_need_places(mesh: &Mesh) {
    let (sender, release) = mpsc::channel::<()>();
    let release = Mutex::new(release);
    let _server = raw::serve(mesh, move |connection| hashes(connection, &release));
    let mut clients: Vec<Client> = (0..=LARGE_PLACES).map(|_| mesh.connect()).collect();
    // An upstream for each of them: all of them at once.
    eventually("all are served in the kernel", || {
        let (kernel, user) = mesh.counted(|| {
            for client in &mut clients {
                client.send(get("/raw", ""));
            }
            for client in &mut clients {
                assert_eq!(client.receive(false).status, 200);
            }
        });
        (user == 0)
            .then_some(())
            .ok_or(format!("{kernel} and {user}"))
    });
    let (kernel, user) = mesh.counted(|| {
        for (number, client) in clients.iter_mut().enumerate() {
            let (head, body) = post("/raw/held", &body(number));
            client.send(head);
            client.send(&body[..1]);
            client.send(&body[1..]);
        }
    });
    assert_eq!(
        (kernel, user),
        (LARGE_PLACES.into(), 1),
        "{:?}",
        mesh.requests()
    );
    for _ in &clients {
        sender.send(()).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(
            client.receive(false).header("x-hash"),
            hash(&body(number)),
            "client {number}"
        );
    }
    assert!(stayed(mesh, || {
        let (head, body) = post("/raw", &body(9));
        clients[0].send([head.into_bytes(), body.clone()].concat());
        assert_eq!(clients[0].receive(false).header("x-hash"), hash(&body));
    }));
}

/// Nothing tells a sender that the socket behind its own is full, so that one must take the whole message, whoever reads it when.
#[test]
fn a_sender_is_never_told_to_try_again() {
    if !root("a_sender_is_never_told_to_try_again") {
        return;
    }
    for mesh in meshes("unread") {
        let (sender, release) = mpsc::channel::<()>();
        let release = Mutex::new(release);
        let _server = raw::serve(&mesh, move |connection| hashes(connection, &release));
        let mut client = mesh.connect();
        mesh.warm(&mut client, &[("/raw", "")]);
        let whole: Vec<u8> = body(5).iter().copied().cycle().take(16 << 20).collect();
        for turn in 0..3 {
            assert!(stayed(&mesh, || {
                client.send(post("/raw/held", &whole).0);
                client.stream.set_nonblocking(true).unwrap();
                // Fails with `WouldBlock` if it cannot all be taken at once.
                client.stream.write_all(&whole).unwrap();
                client.stream.set_nonblocking(false).unwrap();
                sender.send(()).unwrap();
                assert_eq!(client.receive(false).header("x-hash"), hash(&whole));
            }));
            assert_eq!(client.get("/raw", "").header("x-hash"), hash(b""), "{turn}");
        }
        every_exchange_is_over(&mesh);
    }
}

/// Servers here and servers elsewhere.
fn meshes(name: &str) -> [Mesh; 2] {
    [Mesh::local(name), Mesh::remote(&format!("{name}-remote"))]
}

/// Answers with the hash of the request's body, which is not read for `/raw/held` before it is released.
fn hashes(mut connection: Connection, release: &Mutex<mpsc::Receiver<()>>) {
    while let Some(mut request) = connection.head() {
        if request.path() == "/raw/held" {
            let _ = release.lock().unwrap().recv();
        }
        if connection.body(&mut request).is_none() {
            return;
        }
        let hash = hash(&request.body);
        let answer = format!("HTTP/1.1 200 OK\r\nx-hash: {hash}\r\ncontent-length: 0\r\n\r\n");
        if connection.answer(&[answer]).is_none() {
            return;
        }
    }
}

/// Pieces that are too many for a place, of ten bytes each.
const PIECES: usize = LARGE_SENDS_MAX as usize + 1000;
const PIECE: &[u8] = b"ten bytes.";

#[test]
fn an_answer_in_too_many_pieces_ends_by_tcp() {
    if !root("an_answer_in_too_many_pieces_ends_by_tcp") {
        return;
    }
    let mesh = Mesh::local("pieces");
    let _server = raw::serve(&mesh, |mut connection: Connection| {
        while let Some(request) = connection.request() {
            let count = if request.path() == "/raw/pieces" {
                PIECES
            } else {
                0
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                count * PIECE.len()
            );
            let mut parts = vec![head.as_bytes()];
            parts.resize(count + 1, PIECE);
            if connection.answer(&parts).is_none() {
                return;
            }
        }
    });
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/raw", "")]);
    let stays = stayed(&mesh, || {
        client.send(get("/raw/pieces", ""));
        eventually("the rest is user space's", || {
            let leases = mesh.status().leases;
            (leases.relayed == 1)
                .then_some(())
                .ok_or(format!("{leases:?}"))
        });
        let response = client.receive(false);
        assert!(
            response.body == PIECE.repeat(PIECES),
            "{} bytes",
            response.body.len()
        );
    });
    assert!(!stays);
    mesh.warm(&mut client, &[("/raw", "")]);
}

#[test]
fn a_request_in_too_many_pieces_ends_by_tcp() {
    if !root("a_request_in_too_many_pieces_ends_by_tcp") {
        return;
    }
    for mesh in meshes("spill") {
        too_many_pieces(&mesh);
    }
}

fn too_many_pieces(mesh: &Mesh) {
    let (sender, release) = mpsc::channel::<()>();
    let release = Mutex::new(release);
    let _server = raw::serve(mesh, move |connection| hashes(connection, &release));
    // What looks like a request, or like the beginning of HTTP/2, is a body all the same.
    for piece in [
        PIECE,
        b"GET /raw/stolen HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        for (path, holds) in [("/raw", false), ("/raw/held", true)] {
            // Its first bytes for user space may be the first of the connection.
            let mut other = mesh.connect();
            mesh.warm(&mut other, &[("/raw", "")]);
            let mut client = mesh.connect();
            let whole = piece.repeat(PIECES);
            for turn in 0..2 {
                let stays = stayed(mesh, || {
                    client.send(post(path, &whole).0);
                    for piece in whole.chunks(piece.len()) {
                        client.send(piece);
                    }
                    if holds {
                        sender.send(()).unwrap();
                    }
                    assert_eq!(
                        client.receive(false).header("x-hash"),
                        hash(&whole),
                        "{path}, turn {turn}"
                    );
                });
                assert!(stays, "the kernel framed and routed it");
                assert_eq!(client.get("/raw", "").header("x-hash"), hash(b""));
            }
        }
    }
    every_exchange_is_over(mesh);
}

#[test]
fn a_client_may_finish_a_request_that_was_answered_early() {
    if !root("a_client_may_finish_a_request_that_was_answered_early") {
        return;
    }
    for mesh in meshes("linger") {
        let (sender, seen) = mpsc::channel();
        let _server = raw::serve(&mesh, move |mut connection: Connection| {
            while let Some(mut request) = connection.head() {
                let early = request.line.starts_with("POST");
                if early
                    && connection
                        .answer(&["HTTP/1.1 413 Large\r\ncontent-length: 0\r\n\r\n"])
                        .is_none()
                {
                    return;
                }
                if connection.body(&mut request).is_none() {
                    return;
                }
                if early {
                    let _ = sender.send(hash(&request.body));
                } else {
                    connection.answer(&["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]);
                }
            }
        });
        for size in [60_000, SIZE] {
            let mut client = mesh.connect();
            mesh.warm(&mut client, &[("/raw", "")]);
            let body = &body(size)[..size];
            let (head, _) = post("/raw", body);
            assert!(stayed(&mesh, || {
                client.send(head);
                client.send(&body[..10_000]);
                assert_eq!(client.receive(false).status, 413);
            }));
            for piece in body[10_000..].chunks(10_000) {
                client.stream.write_all(piece).unwrap();
            }
            assert_eq!(seen.recv().unwrap(), hash(body), "{size} bytes");
            assert_eq!(client.get("/raw", "").status, 200, "after {size} bytes");
            every_exchange_is_over(&mesh);
        }
    }
}
