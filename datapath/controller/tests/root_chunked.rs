//! Chunked bodies: one that comes whole stays in the kernel, one that comes in pieces is user space's, and either way the kernel
//! knows where the next message begins.

use crate::lab;

use lab::http::hash;
use lab::raw::{self, Connection};
use lab::{Mesh, root};

const HEAD: &str =
    "POST /one?size=3 HTTP/1.1\r\nHost: svc.test\r\nTransfer-Encoding: chunked\r\n\r\n";
const NEXT: &str = "GET / HTTP/1.1\r\nHost: svc.test\r\nend-user: jason\r\n\r\n";

#[test]
fn a_chunked_request_in_one_piece_stays_in_the_kernel() {
    if !root("a_chunked_request_in_one_piece_stays_in_the_kernel") {
        return;
    }
    for mesh in [Mesh::local("chunked"), Mesh::remote("chunked-remote")] {
        let mut client = mesh.connect();
        mesh.warm(&mut client, &[("/one", ""), ("/", "end-user: jason\r\n")]);
        let bodies = [
            ("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", "hello!"),
            ("6;to=be\r\nhello!\r\n0;or=not\r\n\r\n", "hello!"),
            ("0\r\n\r\n", ""),
        ]
        .map(|(body, content)| (body.to_owned(), content.to_owned()));
        // A request in a body is part of the body.
        let inner = "GET /two HTTP/1.1\r\nHost: svc.test\r\n\r\n0\r\n\r\n";
        let outer = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
        let (kernel, user) = mesh.counted(|| {
            for (body, content) in bodies.iter().chain([&(outer, inner.to_owned())]) {
                client.send(format!("{HEAD}{body}"));
                let response = client.receive(false);
                assert_eq!(
                    (response.status, response.header("x-body-hash")),
                    (200, &*hash(content.as_bytes())),
                    "{body:?}"
                );
                assert_eq!(client.get("/", "end-user: jason\r\n").server(), "s3");
            }
        });
        assert_eq!((kernel, user), (8, 0), "{:?}", mesh.requests());
    }
}

#[test]
fn a_chunked_request_in_pieces_is_followed_to_its_end() {
    if !root("a_chunked_request_in_pieces_is_followed_to_its_end") {
        return;
    }
    let mesh = Mesh::local("chunked-pieces");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", ""), ("/", "end-user: jason\r\n")]);
    let request = format!("{HEAD}5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n");
    let (kernel, user) = mesh.counted(|| {
        for at in 1..request.len() {
            let (first, second) = request.split_at(at);
            client.send(first);
            client.send(second);
            let response = client.receive(false);
            assert_eq!(
                response.header("x-body-hash"),
                hash(b"hello!"),
                "cut at {at}"
            );
        }
    });
    assert_eq!(
        (kernel, user),
        (0, request.len() as u64 - 1),
        "{:?}",
        mesh.requests()
    );
    // Two pieces, the second with the next request behind it, and a body with trailers.
    for request in [
        format!("{HEAD}5\r\nhel|lo\r\n0\r\n\r\n{NEXT}"),
        format!("{HEAD}5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n|{NEXT}"),
    ] {
        let (first, second) = request.split_once('|').unwrap();
        client.send(first);
        client.send(second);
        assert_eq!(client.receive(false).header("x-body-hash"), hash(b"hello"));
        assert_eq!(client.receive(false).server(), "s3");
    }
    // The kernel kept track of where the requests end and takes the next whole one.
    mesh.warm(&mut client, &[("/", "end-user: jason\r\n")]);
}

#[test]
fn a_large_chunked_upload_leaves_the_connection_to_the_kernel() {
    if !root("a_large_chunked_upload_leaves_the_connection_to_the_kernel") {
        return;
    }
    let mesh = Mesh::local("chunked-large");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
    for chunk in [5_000, 64 << 10, 1 << 20] {
        let data: Vec<u8> = (0..chunk).map(|i| (i * 31 % 253) as u8).collect();
        let mut bytes = HEAD.as_bytes().to_vec();
        let mut content = Vec::new();
        for _ in 0..4 {
            bytes.extend_from_slice(format!("{chunk:x}\r\n").as_bytes());
            bytes.extend_from_slice(&data);
            bytes.extend_from_slice(b"\r\n");
            content.extend_from_slice(&data);
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        client.send(bytes);
        assert_eq!(
            client.receive(false).header("x-body-hash"),
            hash(&content),
            "chunks of {chunk} bytes"
        );
        mesh.warm(&mut client, &[("/one", "")]);
    }
}

#[test]
fn what_is_no_chunked_body_ends_the_connection_for_nobody_else() {
    if !root("what_is_no_chunked_body_ends_the_connection_for_nobody_else") {
        return;
    }
    let mesh = Mesh::local("chunked-bad");
    let mut neighbour = mesh.connect();
    mesh.warm(&mut neighbour, &[("/one", "")]);
    for body in [
        "5\nhello\n0\n\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut client = mesh.connect();
        mesh.warm(&mut client, &[("/one", "")]);
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: svc.test\r\n\r\n";
        let (kernel, _) = mesh.counted(|| {
            client.send(format!("{HEAD}{body}{smuggled}"));
            let response = client.receive(false);
            assert!(
                response.status == 400 || response.status >= 500,
                "{body:?}: {}",
                response.status
            );
        });
        assert_eq!(kernel, 0, "{body:?}");
        mesh.warm(&mut neighbour, &[("/one", "")]);
    }
}

/// Answers in chunks: `/whole` in one piece, `/trailers` too, `/pieces` in three, `/large` in one piece of 100,000 bytes.
fn in_chunks(mut connection: Connection) {
    while let Some(request) = connection.request() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let parts = match request.path() {
            "/raw/pieces" => vec![
                format!("{head}5\r\nhe"),
                "llo\r\n0\r".to_owned(),
                "\n\r\n".to_owned(),
            ],
            "/raw/trailers" => vec![format!("{head}5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n")],
            "/raw/large" => vec![format!(
                "{head}186a0\r\n{}\r\n0\r\n\r\n",
                "x".repeat(100_000)
            )],
            _ => vec![format!("{head}5\r\nhello\r\n0\r\n\r\n")],
        };
        if connection.answer(&parts).is_none() {
            return;
        }
    }
}

#[test]
fn a_chunked_response_in_one_piece_stays_in_the_kernel() {
    if !root("a_chunked_response_in_one_piece_stays_in_the_kernel") {
        return;
    }
    for mesh in [
        Mesh::local("chunked-answer"),
        Mesh::remote("chunked-answer-remote"),
    ] {
        let _server = raw::serve(&mesh, in_chunks);
        let mut client = mesh.connect();
        mesh.warm(&mut client, &[("/raw/whole", "")]);
        let relayed = || {
            mesh.requests()
                .by_reason
                .get("relayed")
                .copied()
                .unwrap_or(0)
        };
        for turn in 0..3 {
            let before = relayed();
            let (kernel, _) = mesh.counted(|| {
                for _ in 0..10 {
                    assert_eq!(client.get("/raw/whole", "").body, b"hello");
                }
            });
            assert_eq!((kernel, relayed() - before), (10, 0), "turn {turn}");
            for path in ["/raw/pieces", "/raw/trailers"] {
                assert_eq!(client.get(path, "").body, b"hello", "{path}, turn {turn}");
            }
            assert_eq!(
                client.get("/raw/large", "").body.len(),
                100_000,
                "turn {turn}"
            );
            assert!(relayed() > before, "turn {turn}: {:?}", mesh.requests());
            mesh.warm(&mut client, &[("/raw/whole", "")]);
        }
    }
}
