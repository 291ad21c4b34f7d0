//! `envoy-both-sockmap` end to end: bytes are right and in order, most messages skip TCP, a reader that does not read is bounded, and
//! nothing stays.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use kmesh_dataplanes::{EnvoyProfile, MessageCounters, RunningArm, arm};
use support::{ECHO, WEB, address, is_root, plan, served_by, topology};

const ARM: &str = "envoy-both-sockmap";
/// How long the kernel may take to free what nobody holds.
const PATIENCE: Duration = Duration::from_secs(10);

/// 300 small requests on one connection.
const REQUESTS: &str = r"
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=20)
for number in range(300):
    connection.request('GET', '/?size=1024', headers={'host': 'web.test', 'end-user': 'jason'})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200 and len(body) == 1024, (number, answer.status, len(body))
    assert answer.getheader('x-served-by') == 'v2', number
";

/// Messages of all sizes there and back, first one at a time, then as a stream, then to the end of a half-closed connection.
const BYTES: &str = r"
import random, socket, sys, threading
stream = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
chance = random.Random(1)
def read(count):
    parts = []
    while count:
        part = stream.recv(count)
        assert part, f'the connection ended {count} bytes early'
        parts.append(part)
        count -= len(part)
    return b''.join(parts)
assert read(5) == b'echo\n'
for number in range(200):
    message = chance.randbytes(chance.choice([1, 100, 4096, 30000, 65536, 65537, 150000]))
    stream.sendall(message)
    assert read(len(message)) == message, f'message {number}'
messages = [chance.randbytes(chance.randrange(1, 90000)) for _ in range(200)]
def write():
    for message in messages:
        stream.sendall(message)
    stream.shutdown(socket.SHUT_WR)
writer = threading.Thread(target=write)
writer.start()
for number, message in enumerate(messages):
    assert read(len(message)) == message, f'message {number} of the stream'
writer.join()
assert stream.recv(1) == b'', 'more than was sent'
";

/// Sends without reading until nothing moves for half a second, says how much that was, then reads and compares all.
const SLOW_READER: &str = r"
import select, socket, sys
stream = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
stream.setblocking(False)
block = bytes(range(256)) * 64
sent = 0
while sent < 1 << 30 and select.select([], [stream], [], 0.5)[1]:
    sent += stream.send(block[sent % 256:])
print(sent)
stream.setblocking(True)
stream.settimeout(20)
stream.shutdown(socket.SHUT_WR)
banner = stream.recv(5, socket.MSG_WAITALL)
assert banner == b'echo\n', banner
read = 0
while part := stream.recv(len(block) - 256):
    expected = (block + block)[read % 256:][:len(part)]
    assert part == expected, f'a wrong byte after {read}'
    read += len(part)
assert read == sent, (read, sent)
";

fn up() -> Box<dyn RunningArm> {
    let topology = topology();
    arm(ARM)
        .expect("a known arm")
        .up(&plan(&topology, EnvoyProfile::Min))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a script in the client's pod, in its cgroup, against a service; returns what it printed.
fn python(arm: &dyn RunningArm, script: &str, service: &str) -> String {
    let target = address(service);
    let output = arm
        .client()
        .command("python3")
        .args(["-c", script])
        .args([target.ip().to_string(), target.port().to_string()])
        .output()
        .expect("python3 runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn messages(arm: &dyn RunningArm) -> MessageCounters {
    arm.counters().unwrap().messages.expect("the arm counts")
}

#[test]
fn requests_are_routed_and_skip_tcp() {
    if !is_root("requests_are_routed_and_skip_tcp") {
        return;
    }
    let arm = up();
    assert_eq!(served_by(arm.as_ref(), address(WEB), "x: y"), "v1");
    assert_eq!(
        served_by(arm.as_ref(), address(WEB), "end-user: jason"),
        "v2"
    );
    let before = messages(arm.as_ref());
    python(arm.as_ref(), REQUESTS, WEB);
    let after = messages(arm.as_ref());
    let (new, all) = (
        after.shortcut - before.shortcut,
        after.total() - before.total(),
    );
    // A request passes three connections, and so does its answer.
    assert!(all >= 6 * 300, "{new} of {all}: {after:?}");
    assert!(new as f64 / all as f64 > 0.95, "{new} of {all}: {after:?}");
    let artefacts = arm.artefacts().unwrap();
    let (_, counters) = artefacts
        .iter()
        .find(|(name, _)| name == "sockmap-messages.json")
        .unwrap();
    let counters: serde_json::Value = serde_json::from_slice(counters).unwrap();
    assert!(counters["shortcut_share"].as_f64().unwrap() > 0.5);
}

#[test]
fn bytes_of_messages_and_streams_arrive_in_order() {
    if !is_root("bytes_of_messages_and_streams_arrive_in_order") {
        return;
    }
    let mut arm = up();
    python(arm.as_ref(), BYTES, ECHO);
    let counters = messages(arm.as_ref());
    assert!(counters.shortcut > 100, "{counters:?}");
    assert!(
        counters.by_tcp["large"] > 0 && counters.by_tcp["unread"] > 0,
        "long messages and a stream go by TCP: {counters:?}"
    );
    arm.check_alive().unwrap();
}

#[test]
fn a_reader_that_does_not_read_is_bounded_by_tcp() {
    if !is_root("a_reader_that_does_not_read_is_bounded_by_tcp") {
        return;
    }
    let arm = up();
    let sent: u64 = python(arm.as_ref(), SLOW_READER, ECHO)
        .trim()
        .parse()
        .unwrap();
    // The buffers of twelve sockets and two Envoys; without a bound the whole GiB would have gone.
    assert!(sent < 256 << 20, "{sent} bytes went to nobody");
    let counters = messages(arm.as_ref());
    assert!(counters.by_tcp["unread"] > 0, "{counters:?}");
}

/// Ids of the eBPF programs that a process holds.
fn programs_of(pid: u32) -> BTreeSet<u32> {
    let folder = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    folder
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter_map(|text| {
            let id = text
                .lines()
                .find_map(|line| line.strip_prefix("prog_id:"))?;
            id.trim().parse().ok()
        })
        .collect()
}

/// Those of `ids` that the kernel still has.
fn loaded(ids: &BTreeSet<u32>) -> BTreeSet<u32> {
    aya::programs::loaded_programs()
        // Another test's program may go between being listed and being asked about.
        .filter_map(|program| Some(program.ok()?.id()))
        .filter(|id| ids.contains(id))
        .collect()
}

/// The harness that is killed is this test, run once more.
#[test]
fn sigkill_leaves_no_program() {
    const CHILD: &str = "KMESH_SOCKMAP_TEST_HARNESS";
    if !is_root("sigkill_leaves_no_program") {
        return;
    }
    if std::env::var_os(CHILD).is_some() {
        let running = up();
        println!("\nup: {}", running.lab().cgroup().display());
        loop {
            std::thread::park();
        }
    }
    let mut harness = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sigkill_leaves_no_program", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(harness.stdout.take().unwrap()).lines();
    let cgroup = lines
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("up: ").map(ToOwned::to_owned))
        .expect("the harness's cgroup");
    let programs = programs_of(harness.id());
    assert_eq!(loaded(&programs), programs);
    assert!(programs.len() >= 2, "{programs:?}");
    harness.kill().unwrap();
    harness.wait().unwrap();
    let started = Instant::now();
    while !loaded(&programs).is_empty() || std::path::Path::new(&cgroup).exists() {
        assert!(
            started.elapsed() < PATIENCE,
            "left: {:?} or {cgroup}",
            loaded(&programs)
        );
        std::thread::yield_now();
    }
}
