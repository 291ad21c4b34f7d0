//! The splice path where a packet and a message do not end together: pipelining clients, two requests in one packet, halves of connections.

use crate::lab;

use std::io::Read as _;
use std::net::Shutdown;

use lab::http::{Client, get, hash, post};
use lab::{LOCAL, Mesh, SERVERS, eventually, root};

/// A mesh with packets rewritten, and a client whose pools are filled.
fn spliced(test: &str) -> (Mesh, Client) {
    let mut mesh = Mesh::bare(test);
    mesh.configure(&mesh.standard());
    mesh.enrol(&LOCAL);
    mesh.start_with(&["--path", "splice"]);
    for server in SERVERS {
        mesh.serve(server);
    }
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", ""), ("/", "end-user: jason\r\n")]);
    (mesh, client)
}

#[test]
fn requests_to_two_servers_by_turns_stay_in_the_kernel() {
    if !root("requests_to_two_servers_by_turns_stay_in_the_kernel") {
        return;
    }
    let (mesh, mut client) = spliced("splice-turns");
    let (kernel, user) = mesh.counted(|| {
        for _ in 0..100 {
            assert_eq!(client.get("/one?size=70000", "").body.len(), 70000);
            assert_eq!(client.get("/", "end-user: jason\r\n").server(), "s3");
        }
    });
    assert_eq!((kernel, user), (200, 0), "{:?}", mesh.requests());
}

/// A packet cannot change its family: user space serves such a request.
#[test]
fn a_client_of_one_family_reaches_a_server_of_the_other() {
    if !root("a_client_of_one_family_reaches_a_server_of_the_other") {
        return;
    }
    let (mesh, mut client) = spliced("splice-family");
    for _ in 0..20 {
        assert_eq!(client.get("/six", "").server(), "s1");
        assert_eq!(client.get("/one", "").server(), "s1");
    }
    let (kernel, user) = mesh.counted(|| {
        for _ in 0..20 {
            assert_eq!(client.get("/six", "").server(), "s1");
        }
    });
    assert_eq!((kernel, user), (0, 20), "{:?}", mesh.requests());
}

#[test]
fn the_connection_of_a_released_pod_ends() {
    if !root("the_connection_of_a_released_pod_ends") {
        return;
    }
    let (mesh, mut idle) = spliced("splice-released");
    let mut waiting = mesh.connect();
    waiting.get("/one", "");
    waiting.send(get("/one?delay=20s", ""));
    mesh.enrol(&SERVERS);
    eventually("the pod is released", || {
        let pods = mesh.status().pods;
        (pods == SERVERS).then_some(()).ok_or(format!("{pods:?}"))
    });
    assert!(idle.ended(), "a client without a request");
    assert!(waiting.ended(), "a client with one under way");
}

/// The kernel serves a client from its handshake on, so it may be gone before its anchor was accepted.
#[test]
fn short_connections_leave_no_anchor() {
    if !root("short_connections_leave_no_anchor") {
        return;
    }
    let (mesh, client) = spliced("splice-short");
    drop(client);
    for turn in 0..3_000 {
        let mut client = mesh.connect();
        client.send(get("/one", ""));
        // Every third leaves without its answer.
        if turn % 3 != 0 {
            client.receive(false);
        }
    }
    eventually("all anchors are gone", || {
        let anchors = mesh.status().anchors;
        (anchors == 0)
            .then_some(())
            .ok_or(format!("{anchors} anchors"))
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_by_their_own_servers() {
    if !root("pipelined_requests_are_answered_in_order_by_their_own_servers") {
        return;
    }
    let (_mesh, mut client) = spliced("splice-pipelined");
    let (one, three) = (get("/one", ""), get("/", "end-user: jason\r\n"));
    for round in [&one, &three, &one, &three] {
        client.send(round);
    }
    client.send(format!("{one}{three}"));
    for wanted in ["s1", "s3", "s1", "s3", "s1", "s3"] {
        assert_eq!(client.receive(false).server(), wanted);
    }
}

/// The second request must not follow the first one's body to its server; what is longer than a segment comes again in segments.
#[test]
fn the_end_of_one_request_and_the_next_in_one_packet_come_apart() {
    if !root("the_end_of_one_request_and_the_next_in_one_packet_come_apart") {
        return;
    }
    for size in [1000, 100_000] {
        let (_mesh, mut client) = spliced("splice-tail");
        let (head, body) = post("/one", &vec![b'b'; size]);
        let (first, rest) = body.split_at(500);
        client.send([head.as_bytes(), first].concat());
        client.send([rest, get("/", "end-user: jason\r\n").as_bytes()].concat());
        let answer = client.receive(false);
        assert_eq!(
            (answer.server(), answer.header("x-body-hash")),
            ("s1", &*hash(&body))
        );
        assert_eq!(client.receive(false).server(), "s3");
    }
}

#[test]
fn a_client_that_sends_no_more_gets_its_answer_and_the_end() {
    if !root("a_client_that_sends_no_more_gets_its_answer_and_the_end") {
        return;
    }
    let (_mesh, mut client) = spliced("splice-half");
    client.send(get("/one", ""));
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.receive(false).server(), "s1");
    assert_eq!(client.stream.read(&mut [0; 1]).unwrap(), 0, "the end");
}

/// The server has the beginning of a body that never becomes whole: the exchange ends, and nobody waits for it.
#[test]
fn a_chunked_body_that_goes_wrong_in_its_middle_ends_its_exchange() {
    if !root("a_chunked_body_that_goes_wrong_in_its_middle_ends_its_exchange") {
        return;
    }
    let (mesh, mut client) = spliced("splice-garbled");
    client.send(
        "POST /one HTTP/1.1\r\nHost: svc.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    );
    eventually("the first packet is the kernel's", || {
        let leased = mesh.status().leases.leased;
        (leased == 1)
            .then_some(())
            .ok_or(format!("{leased} leased"))
    });
    client.send("zzz\r\n");
    match client.try_receive(false) {
        Ok(answer) => assert_eq!(answer.status, 503),
        Err(error) => assert!(
            !matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ),
            "it waits: {error}"
        ),
    }
}
