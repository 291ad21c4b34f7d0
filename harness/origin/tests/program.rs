//! The program over real sockets: what a pure session cannot show.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The program with its addresses; killed when dropped.
struct Origin {
    child: Child,
    addresses: Vec<SocketAddr>,
}

impl Origin {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kmesh-origin"))
            .args(["--name", "pod", "--die-with-parent"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let lines: Vec<String> = lines.take_while(|line| line != "ready").collect();
        let address = |line: &String| line.rsplit(' ').next().unwrap().parse().unwrap();
        Self {
            addresses: lines.iter().map(address).collect(),
            child,
        }
    }

    fn http() -> Self {
        Self::start(&["--listen", "127.0.0.1:0"])
    }

    fn connect(&self, index: usize) -> TcpStream {
        let stream = TcpStream::connect(self.addresses[index]).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream
    }

    /// Sends bytes, ends the sending side, and returns all that comes back.
    fn talk(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect(0);
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn both_families_are_served_and_sigterm_ends_it_cleanly() {
    let mut origin = Origin::start(&[
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "[::1]:0",
        "--body-size",
        "5",
    ]);
    assert_eq!(origin.addresses.len(), 2);
    for index in 0..2 {
        let mut stream = origin.connect(index);
        stream
            .write_all(b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.contains("x-served-by: pod\r\n") && answer.ends_with("\r\n\r\n00000"),
            "{answer}"
        );
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        kill(Pid::from_raw(origin.child.id() as i32), signal).unwrap();
        assert_eq!(origin.child.wait().unwrap().code(), Some(0));
        origin = Origin::http();
    }
}

#[test]
fn curl_gets_what_it_asks_for() {
    let origin = Origin::http();
    let url = |path: &str| format!("http://{}{path}", origin.addresses[0]);
    let curl = |arguments: &[&str]| {
        let out = Command::new("curl")
            .args(["-sS", "--max-time", "5"])
            .args(arguments)
            .output();
        let out = out.expect("curl is installed by ci/setup.sh");
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(curl(&[&url("/ready")]), "ready\n");
    assert_eq!(curl(&["-d", "hello", &url("/")]), "hello");
    assert_eq!(
        curl(&["-H", "Transfer-Encoding: chunked", "-d", "hello", &url("/")]),
        "hello"
    );
    assert_eq!(
        curl(&["-H", "Expect: 100-continue", "-d", "hello", &url("/")]),
        "hello"
    );
    assert_eq!(
        curl(&[
            "-0",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &url("/?status=503")
        ]),
        "503"
    );
    assert!(curl(&["-I", &url("/?size=77")]).contains("content-length: 77\r\n"));
    let seconds: f64 = curl(&[
        "-o",
        "/dev/null",
        "-w",
        "%{time_total}",
        &url("/?delay=30ms"),
    ])
    .parse()
    .unwrap();
    assert!(seconds >= 0.03);
    let both = curl(&[
        "-w",
        "%{num_connects}\n",
        &url("/?size=1"),
        &url("/?size=1"),
    ]);
    assert_eq!(
        both, "01\n00\n",
        "the second request uses the first one's connection"
    );
}

#[test]
fn a_client_that_stops_sending_still_gets_its_answers() {
    let origin = Origin::http();
    let answer = origin.talk(&b"GET /?delay=20ms HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3));
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3);
}

#[test]
fn a_refused_client_reads_the_reason_although_it_goes_on_sending() {
    let origin = Origin::http();
    let mut bytes = b"BAD REQUEST\r\n\r\n".to_vec();
    bytes.resize(3 << 20, b'x');
    let mut stream = origin.connect(0);
    // The server may close while we still send; only what it said matters.
    let _ = stream.write_all(&bytes);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
}

#[test]
fn delays_do_not_hold_up_other_connections() {
    let origin = Origin::http();
    let mut slow = origin.connect(0);
    slow.write_all(b"GET /?delay=1s HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let start = Instant::now();
    assert!(
        origin
            .talk(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .starts_with("HTTP/1.1 200")
    );
    assert!(start.elapsed() < Duration::from_millis(900));
}

#[test]
fn a_slow_reader_gets_every_byte_and_does_not_fill_the_server() {
    let origin = Origin::http();
    let mut stream = origin.connect(0);
    let requests = 64;
    stream
        .write_all(&b"GET /?size=1000000 HTTP/1.1\r\nHost: h\r\n\r\n".repeat(requests))
        .unwrap();
    let status = || std::fs::read_to_string(format!("/proc/{}/status", origin.child.id())).unwrap();
    let (mut total, mut buffer) = (0, vec![0; 1 << 20]);
    while total < requests * 1_000_000 {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "closed after {total} bytes");
        total += read;
    }
    let peak = status()
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:").map(str::to_owned))
        .unwrap();
    let peak_kb: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(
        peak_kb < 40_000,
        "64 MB of answers, but never all at once: {peak_kb} kB"
    );
}

#[test]
fn tcp_echo_says_its_name_and_returns_every_byte() {
    let origin = Origin::start(&["--tcp-echo", "127.0.0.1:0", "--tcp-echo-banner"]);
    let mut stream = origin.connect(0);
    let sent: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
    let mut received = Vec::new();
    std::thread::scope(|scope| {
        let mut writer = stream.try_clone().unwrap();
        let sent = &sent;
        scope.spawn(move || {
            writer.write_all(sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut received).unwrap();
    });
    assert!(
        received
            .strip_prefix(b"pod\n")
            .is_some_and(|echo| echo == sent),
        "{} bytes",
        received.len()
    );
}

#[test]
fn a_taken_port_is_named() {
    let origin = Origin::http();
    let address = origin.addresses[0].to_string();
    let second = Command::new(env!("CARGO_BIN_EXE_kmesh-origin"))
        .args(["--listen", &address])
        .output()
        .unwrap();
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(
        !second.status.success() && message.contains(&address),
        "{message}"
    );
}

#[test]
fn a_chain_signs_with_every_name_and_hands_bodies_through() {
    let last = Origin::start(&["--listen", "127.0.0.1:0", "--body-size", "5"]);
    let forwarding = |host: &str, to: SocketAddr| {
        Origin::start(&["--listen", "127.0.0.1:0", "--next", &format!("{host}={to}")])
    };
    let middle = forwarding("c.test", last.addresses[0]);
    let first = forwarding("b.test", middle.addresses[0]);
    let answer = first.talk(
        b"GET / HTTP/1.1\r\nHost: a\r\nx-request-seq: 7\r\n\r\n\
          POST /?size=3 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\
          GET /?status=404 HTTP/1.1\r\nHost: a\r\n\r\n\
          GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(
        answer.matches("x-served-by: pod/pod/pod\r\n").count(),
        3,
        "{answer}"
    );
    assert!(answer.contains("x-request-seq: 7\r\n"), "{answer}");
    assert!(answer.contains("\r\n\r\n00000HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("x-body-hash: "), "{answer}");
    assert!(answer.contains("HTTP/1.1 404 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nready\n"), "{answer}");
}

#[test]
fn a_next_service_that_is_gone_is_a_502_that_nobody_signs() {
    let last = Origin::http();
    let address = last.addresses[0];
    let first = Origin::start(&["--listen", "127.0.0.1:0", "--next", &format!("b={address}")]);
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(first.talk(get).contains("x-served-by: pod/pod\r\n"));
    drop(last);
    // The kept connection has ended, and there is nobody to connect to.
    let answer = first.talk(get);
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("x-served-by: \r\n"), "{answer}");
}
