//! The generator against the origin, and against servers that misbehave, over loopback.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use kmesh_load::engine::{Block, Engine};
use kmesh_load::plan::{Arrivals, BodyCheck, Pace, Plan, Protocol, RequestClass, Reuse, SeqCheck};
use kmesh_load::result::{BlockResult, ErrorKind};
use kmesh_origin::server::{Config, Server};

/// An origin in a thread; stops when dropped.
struct Origin {
    address: SocketAddr,
    echo: SocketAddr,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    fn start(name: &str) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(&Config {
            http: vec![any],
            tcp_echo: vec![any],
            tcp_echo_banner: true,
            name: name.to_owned(),
            ..Config::default()
        })
        .unwrap();
        let bound: Vec<SocketAddr> = server.addresses().map(|(_, address)| address).collect();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || server.run(&stopped).unwrap());
        Self {
            address: bound[0],
            echo: bound[1],
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn class(path: &str) -> RequestClass {
    RequestClass::get("a", "h", path)
}

fn plan(target: SocketAddr, connections: u32, mix: Vec<RequestClass>) -> Plan {
    Plan {
        seed: 1,
        ..Plan::closed(vec![target], connections, mix)
    }
}

fn run(plan: Plan, block: Block) -> BlockResult {
    let result = Engine::new(plan).unwrap().run(block, &mut |_| {}).unwrap();
    assert_eq!(
        result.sent,
        result.ok + result.wrong() + result.errors(),
        "every request is booked once: {result:?}"
    );
    result
}

fn count(requests: u64) -> Block {
    Block {
        requests: Some(requests),
        ..Block::default()
    }
}

fn millis(duration: u64) -> Block {
    Block {
        duration: Some(Duration::from_millis(duration)),
        ..Block::default()
    }
}

#[test]
fn a_mix_is_exact_and_every_answer_is_checked() {
    let (v1, v2) = (Origin::start("v1"), Origin::start("v2"));
    let small = RequestClass {
        name: "small".to_owned(),
        weight: 9,
        expect: vec!["v1".to_owned(), "v2".to_owned()],
        body: BodyCheck::Pattern { bytes: 100 },
        ..class("/?size=100")
    };
    let posted = RequestClass {
        name: "posted".to_owned(),
        method: "POST".to_owned(),
        body_bytes: 70_000,
        body: BodyCheck::Echo,
        ..class("/")
    };
    let head = RequestClass {
        name: "head".to_owned(),
        method: "HEAD".to_owned(),
        ..class("/?size=5000")
    };
    let absent = RequestClass {
        name: "absent".to_owned(),
        status: 404,
        ..class("/?status=404")
    };
    let mut plan = Plan {
        seq: SeqCheck::Required,
        ..plan(v1.address, 6, vec![small, posted, head, absent])
    };
    plan.targets.push(v2.address);
    let result = run(plan, count(1200));
    assert_eq!(
        (result.sent, result.ok, result.stray_bytes),
        (1200, 1200, 0),
        "{:?}",
        result.examples
    );
    let answers = |class: &str| result.served_by[class].values().sum::<u64>();
    assert_eq!(
        [
            answers("small"),
            answers("posted"),
            answers("head"),
            answers("absent")
        ],
        [900, 100, 100, 100]
    );
    assert_eq!(
        result.statuses.iter().collect::<Vec<_>>(),
        [(&200, &1100), (&404, &100)]
    );
    assert!(result.served_by["small"]["v1"] > 0 && result.served_by["small"]["v2"] > 0);
    assert_eq!(result.connects, 6);
    assert_eq!(result.latency.service.count, 1200);
}

#[test]
fn a_wrong_backend_is_a_wrong_decision() {
    let origin = Origin::start("v2");
    let picky = RequestClass {
        expect: vec!["v1".to_owned()],
        ..class("/")
    };
    let result = run(plan(origin.address, 2, vec![picky]), count(20));
    assert_eq!((result.wrong_decisions, result.ok), (20, 0));
    assert_eq!(result.examples[0], "a: answered by \"v2\", expected v1");
}

#[test]
fn blocks_share_their_connections() {
    let origin = Origin::start("o");
    let mut engine = Engine::new(plan(origin.address, 8, vec![class("/")])).unwrap();
    assert_eq!(engine.open().unwrap().connects, 8);
    assert_eq!(engine.open_connections(), 8);
    for rate in [None, Some(2000.0), Some(0.0)] {
        let block = Block {
            warmup: Duration::from_millis(20),
            rate,
            ..millis(100)
        };
        let result = engine.run(block, &mut |_| {}).unwrap();
        assert_eq!((result.connects, result.ok), (0, result.sent));
        assert_eq!(result.offered_rps, rate.filter(|rate| *rate > 0.0));
        if rate == Some(2000.0) {
            assert_eq!(result.sent + result.dropped, 200);
        }
    }
}

#[test]
fn short_connections_connect_for_every_request_in_every_variant() {
    let origin = Origin::start("o");
    for (close_header, reset) in [(false, false), (true, false), (false, true)] {
        let reuse = Reuse::Short {
            close_header,
            reset,
        };
        let result = run(
            Plan {
                reuse,
                ..plan(origin.address, 4, vec![class("/")])
            },
            count(50),
        );
        assert_eq!(
            (result.ok, result.connects),
            (50, 50),
            "{reuse:?}: {:?}",
            result.examples
        );
        let latency = result.latency;
        assert!(latency.service.p50_us >= latency.connect.p50_us && latency.first_byte.count == 50);
    }
}

#[test]
fn a_reuse_range_bounds_the_requests_per_connection() {
    let origin = Origin::start("o");
    let reuse = Reuse::Range { min: 5, max: 10 };
    let result = run(
        Plan {
            reuse,
            ..plan(origin.address, 4, vec![class("/")])
        },
        count(1000),
    );
    assert_eq!(result.ok, 1000);
    assert!(
        (100..=204).contains(&result.connects),
        "{} connects",
        result.connects
    );
}

#[test]
fn a_server_that_closes_after_its_answer_is_no_error() {
    let origin = Origin::start("o");
    let result = run(
        plan(origin.address, 3, vec![class("/?close=50")]),
        count(300),
    );
    assert_eq!(result.ok, 300);
    assert!(
        (75..250).contains(&result.connects),
        "{} connects",
        result.connects
    );
}

#[test]
fn requests_that_find_no_connection_are_dropped_and_counted() {
    let origin = Origin::start("o");
    let pace = Pace::Open {
        rate: 1000.0,
        arrivals: Arrivals::Uniform,
    };
    let result = run(
        Plan {
            pace,
            ..plan(origin.address, 1, vec![class("/?delay=10ms")])
        },
        millis(300),
    );
    assert_eq!(result.sent + result.dropped, 300);
    assert!(
        result.dropped > 200 && result.errors() == 0,
        "{} dropped",
        result.dropped
    );
    assert!(
        result.latency.lag.p50_us < 1000.0,
        "waiting for the server is not the generator's lag"
    );
}

/// The half second that one answer takes is one sample of service time, but everybody's intended time.
#[test]
fn a_stall_of_the_server_shows_in_intended_time() {
    let origin = Origin::start("o");
    let stall = RequestClass {
        name: "stall".to_owned(),
        ..class("/?delay=500ms")
    };
    let fast = RequestClass {
        weight: 1499,
        ..class("/")
    };
    let pace = Pace::Open {
        rate: 1000.0,
        arrivals: Arrivals::Uniform,
    };
    let result = run(
        Plan {
            pace,
            ..plan(origin.address, 1, vec![fast, stall])
        },
        millis(1500),
    );
    assert_eq!(
        result.served_by["stall"]["o"], 1,
        "exactly one in a cycle of 1500"
    );
    let (service, intended) = (&result.latency.service, &result.latency.intended);
    assert!(
        service.p90_us < 50_000.0 && service.max_us > 499_000.0,
        "{service:?}"
    );
    assert!(intended.p90_us > 100_000.0, "{intended:?}");
}

#[test]
fn slow_answers_time_out_and_free_their_connection() {
    let origin = Origin::start("o");
    let slow = plan(origin.address, 2, vec![class("/?delay=1s:50")]);
    let result = run(
        Plan {
            timeout_ms: 100,
            ..slow
        },
        count(20),
    );
    assert_eq!(result.errors[&ErrorKind::Timeout], result.errors());
    assert!(result.ok > 0 && result.errors() > 0, "{result:?}");
}

#[test]
fn nobody_listening_is_refused_and_does_not_spin() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let result = run(plan(free, 1, vec![class("/")]), millis(100));
    assert_eq!(result.errors[&ErrorKind::ConnectRefused], result.sent);
    assert!(
        (1..=11).contains(&result.sent),
        "one attempt each 10 ms, not {}",
        result.sent
    );
}

#[test]
fn tcp_echo_checks_the_bytes_and_who_answers() {
    let origin = Origin::start("o");
    let echo = |message_bytes, expect: &str| Plan {
        protocol: Protocol::TcpEcho {
            message_bytes,
            banner: true,
            expect: vec![expect.to_owned()],
        },
        ..plan(origin.echo, 3, vec![])
    };
    for size in [1, 16, 100, 200_000] {
        let result = run(echo(size, "o"), count(50));
        assert_eq!(
            (result.ok, result.bytes_in),
            (50, 50 * u64::from(size)),
            "{:?}",
            result.examples
        );
        assert_eq!(result.served_by["tcp-echo"]["o"], 50);
    }
    assert_eq!(run(echo(10, "other"), count(5)).wrong_decisions, 5);
}

/// A server that answers each connection's first request with fixed bytes and closes.
fn liar(answer: &'static [u8]) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let read = stream.read(&mut request).unwrap();
        assert!(read > 0);
        stream.write_all(answer).unwrap();
    });
    (address, thread)
}

#[test]
fn every_lie_of_a_server_is_found() {
    let seen = |answer| {
        let (address, thread) = liar(answer);
        let result = run(plan(address, 1, vec![class("/")]), count(1));
        thread.join().unwrap();
        result
    };
    let wrong_seq =
        seen(b"HTTP/1.1 200 OK\r\nx-request-seq: 0000000000000001\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(wrong_seq.wrong_seq, 1);
    assert_eq!(
        seen(b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n").wrong_status,
        1
    );
    assert_eq!(seen(b"SSH-2.0-OpenSSH\r\n").errors[&ErrorKind::Parse], 1);
    assert_eq!(
        seen(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell").errors[&ErrorKind::Closed],
        1
    );
    let twice = seen(
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!((twice.ok, twice.stray_bytes), (1, 38));
    assert_eq!(seen(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").ok, 1);
}
