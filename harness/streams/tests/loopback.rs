//! The checker against itself, and against a proxy that lies: a checker that can't fail proves nothing.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kmesh_streams::client::{self, Job};
use kmesh_streams::finding::Tally;
use kmesh_streams::server::Server;

fn server(name: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(name);
    thread::spawn(move || server.serve(&listener));
    address
}

fn check(seconds: f64, target: SocketAddr, server: SocketAddr) -> Tally {
    let job = Job {
        seed: 1,
        seconds,
        workers: 4,
        targets: vec![target],
        targets6: Vec::new(),
        servers: BTreeMap::from([("a".to_owned(), server)]),
        routed: false,
        generations: None,
        only: None,
    };
    client::run(&job).unwrap()
}

#[test]
fn nothing_is_wrong_on_loopback() {
    let a = server("a");
    let tally = check(1.0, a, a);
    assert_eq!((tally.wrong, tally.broken), (0, 0), "{:?}", tally.findings);
    assert!(
        tally.messages > 100 && tally.pipelined > 0 && tally.chunked > 0,
        "{tally:?}"
    );
    assert!(tally.large > 0 && tally.withdrawn > 0, "{tally:?}");
}

/// What a lying proxy does to the bytes it carries, once per connection.
type Lie = fn(&mut Vec<u8>);

/// A proxy that tells its lie about the answers, from the 20th piece on, if `answers`, else about the requests.
fn liar(to: SocketAddr, answers: bool, lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let pieces = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let server = TcpStream::connect(to).unwrap();
            let (client2, server2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let lies = |on: bool| on.then(|| (lie, Arc::clone(&pieces)));
            let (up, down) = (lies(!answers), lies(answers));
            thread::spawn(move || carry(client, server, up.as_ref()));
            thread::spawn(move || carry(server2, client2, down.as_ref()));
        }
    });
    address
}

fn carry(mut from: TcpStream, mut to: TcpStream, lie: Option<&(Lie, Arc<AtomicUsize>)>) {
    let mut bytes = vec![0; 8192];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let mut piece = bytes[..count].to_vec();
        if let Some((lie, pieces)) = lie
            && piece.len() > 4000
            && pieces.fetch_add(1, Ordering::Relaxed) == 20
        {
            lie(&mut piece);
        }
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[test]
fn every_lie_is_found() {
    let lies: [(&str, Lie); 4] = [
        ("a lost byte", |bytes| {
            bytes.remove(2000);
        }),
        ("a doubled byte", |bytes| bytes.insert(2000, bytes[2000])),
        ("pieces in the wrong order", |bytes| bytes.rotate_left(1999)),
        ("a changed byte", |bytes| bytes[2000] ^= 0x80),
    ];
    thread::scope(|scope| {
        for (what, lie) in lies {
            for answers in [false, true] {
                scope.spawn(move || {
                    let a = server("a");
                    let tally = check(2.0, liar(a, answers, lie), a);
                    assert!(
                        tally.wrong > 0,
                        "{what} (answers: {answers}) was not found: {:?}",
                        tally.findings
                    );
                });
            }
        }
    });
}

/// Two connections whose bytes go to each other's servers.
#[test]
fn a_wrong_server_is_found() {
    let (a, b) = (server("a"), server("b"));
    // A balancer of messages where connections were promised: the second half of a connection goes elsewhere.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (turn, client) in listener.incoming().enumerate() {
            let client = client.unwrap();
            let server = TcpStream::connect(if turn % 2 == 0 { a } else { b }).unwrap();
            let (client2, server2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || carry(client, server, None));
            thread::spawn(move || carry(server2, client2, None));
        }
    });
    // b says that it is b, and a's report has no such messages.
    let tally = check(0.5, address, a);
    assert!(tally.wrong > 0, "{:?}", tally.findings);
}
