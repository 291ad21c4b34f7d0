//! Every arm that needs no `kmeshd`, end to end: real servers, real Envoy, real redirection, curl as the client.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
};

use kmesh_dataplanes::{ArmError, EnvoyProfile, RunningArm, arm};
use support::{ECHO, NOBODY, WEB, address, is_root, plan, served_by, topology};

/// The HTTP service's IPv6 address; only v1 is behind it.
const WEB_SIX: &str = "[fd00:10:96::1]:80";

fn up(name: &str, profile: EnvoyProfile) -> Box<dyn RunningArm> {
    let topology = topology();
    arm(name)
        .expect("a known arm")
        .up(&plan(&topology, profile))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Brings an arm up, looks at it, takes it down, and looks whether anything is left.
fn with_arm(name: &str, profile: EnvoyProfile, check: impl FnOnce(&mut dyn RunningArm)) {
    let mut running = up(name, profile);
    check(running.as_mut());
    running.check_alive().unwrap();
    let cgroup = running.lab().cgroup().to_owned();
    drop(running);
    assert!(!cgroup.exists(), "{} is left of {name}", cgroup.display());
}

/// The first line that the echo service sends, and the echo of a byte string.
fn echo(arm: &dyn RunningArm, target: SocketAddr) -> (String, Vec<u8>) {
    let exchange = || -> std::io::Result<(String, Vec<u8>)> {
        let mut stream = TcpStream::connect(target)?;
        stream.write_all(b"\0hello")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("a banner line");
        Ok((
            String::from_utf8_lossy(&bytes[..end]).into_owned(),
            bytes[end + 1..].to_vec(),
        ))
    };
    arm.client().run(exchange).unwrap().unwrap()
}

/// Established TCP connections in a pod, as (local, remote) ports, its own loopback included.
fn established(arm: &dyn RunningArm, pod: &str) -> Vec<(u16, u16)> {
    let read = || {
        ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
            .map(|path| fs::read_to_string(path).unwrap())
    };
    let tables = arm.lab().pod(pod).unwrap().run(read).unwrap();
    let port = |field: &str| u16::from_str_radix(field.rsplit_once(':').unwrap().1, 16).unwrap();
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let fields = lines.map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    fields
        .filter(|field| field[3] == "01")
        .map(|field| (port(field[1]), port(field[2])))
        .collect()
}

#[test]
fn direct_connects_to_the_endpoints() {
    if !is_root("direct_connects_to_the_endpoints") {
        return;
    }
    for name in ["direct", "direct-aa"] {
        with_arm(name, EnvoyProfile::Min, |arm| {
            assert!(!arm.decides());
            let targets = arm.targets(address(WEB));
            let who: BTreeSet<_> = targets
                .iter()
                .map(|target| served_by(arm, *target, "x: y"))
                .collect();
            assert_eq!(who, BTreeSet::from(["v1".to_owned(), "v2".to_owned()]));
            let counters = arm.counters().unwrap();
            assert!(counters.cpu["v1"].user_us + counters.cpu["v1"].system_us > 0);
        });
    }
}

#[test]
fn dnat_reaches_every_endpoint_by_the_virtual_address() {
    if !is_root("dnat_reaches_every_endpoint_by_the_virtual_address") {
        return;
    }
    with_arm("dnat", EnvoyProfile::Min, |arm| {
        assert_eq!(arm.targets(address(WEB)), [address(WEB)]);
        assert_eq!(served_by(arm, address(WEB_SIX), "x: y"), "v1");
        // 40 fair draws all the same: one in 2^39.
        let who: BTreeSet<_> = (0..40)
            .map(|_| served_by(arm, address(WEB), "x: y"))
            .collect();
        assert_eq!(who, BTreeSet::from(["v1".to_owned(), "v2".to_owned()]));
        assert_eq!(
            echo(arm, address(ECHO)),
            ("echo".to_owned(), b"\0hello".to_vec())
        );
        let nobody = arm
            .client()
            .run(|| TcpStream::connect(address(NOBODY)))
            .unwrap();
        let refused = std::io::ErrorKind::ConnectionRefused;
        assert_eq!(nobody.unwrap_err().kind(), refused, "no endpoints: a reset");
    });
}

#[test]
fn envoy_routes_by_header_beside_the_client_and_beside_both() {
    if !is_root("envoy_routes_by_header_beside_the_client_and_beside_both") {
        return;
    }
    for (name, profile, sidecars) in [
        ("envoy-client", EnvoyProfile::Min, 1),
        ("envoy-both", EnvoyProfile::Min, 4),
        ("envoy-both", EnvoyProfile::Istio, 4),
    ] {
        with_arm(name, profile, |arm| {
            assert!(arm.decides());
            assert_eq!(served_by(arm, address(WEB_SIX), "x: y"), "v1");
            for _ in 0..3 {
                assert_eq!(served_by(arm, address(WEB), "end-user: jason"), "v2");
                assert_eq!(served_by(arm, address(WEB), "end-user: somebody"), "v1");
            }
            assert_eq!(
                echo(arm, address(ECHO)),
                ("echo".to_owned(), b"\0hello".to_vec())
            );
            let counters = arm.counters().unwrap();
            assert_eq!(
                counters
                    .cpu
                    .keys()
                    .filter(|key| key.starts_with("sidecar-"))
                    .count(),
                sidecars
            );
            let artefacts = arm.artefacts().unwrap();
            let (_, dump) = artefacts
                .iter()
                .find(|(name, _)| name == "envoy-client-config-dump.json")
                .unwrap();
            let dump: serde_json::Value = serde_json::from_slice(dump).unwrap();
            assert!(
                dump["configs"]
                    .as_array()
                    .is_some_and(|configs| configs.len() > 2),
                "{dump}"
            );
            let (_, access) = artefacts
                .iter()
                .find(|(name, _)| name == "envoy-client-access-log-tail.txt")
                .unwrap();
            let logged = String::from_utf8_lossy(access).contains("\"GET / HTTP/1.1\" 200");
            assert!(
                logged || profile == EnvoyProfile::Min,
                "an access log is part of Istio's profile"
            );
            assert!(
                access.is_empty() || profile == EnvoyProfile::Istio,
                "and of no other"
            );
            for (name, log) in artefacts
                .iter()
                .filter(|(name, _)| name.ends_with("log.txt"))
            {
                let log = String::from_utf8_lossy(log);
                assert!(
                    !log.contains("[error]") && !log.contains("[critical]"),
                    "{name}: {log}"
                );
            }
        });
    }
}

/// The article's 1 against 3: with both sidecars, one client connection means one more between the sidecars and one more
/// from the server's sidecar to the server.
#[test]
fn two_sidecars_make_three_connections_of_one() {
    if !is_root("two_sidecars_make_three_connections_of_one") {
        return;
    }
    with_arm("envoy-both", EnvoyProfile::Min, |arm| {
        let vip = address(WEB);
        let request = b"GET / HTTP/1.1\r\nhost: web.test\r\nend-user: jason\r\n\r\n";
        let held = arm.client().run(|| {
            let mut stream = TcpStream::connect(vip).unwrap();
            stream.write_all(request).unwrap();
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).unwrap();
            assert!(buffer[..count].starts_with(b"HTTP/1.1 200"));
            stream
        });
        let client = established(arm, "client");
        let own = held.unwrap().local_addr().unwrap().port();
        assert!(
            client.contains(&(own, 80)),
            "the application's connection to the virtual address: {client:?}"
        );
        assert!(
            client.contains(&(15001, own)),
            "it ends at the client's sidecar: {client:?}"
        );
        let server = established(arm, "v2");
        let between = |port| client.contains(&(port, 8080)) && server.contains(&(15006, port));
        assert!(
            client.iter().any(|(local, _)| between(*local)),
            "between the sidecars: {client:?}, {server:?}"
        );
        let last = server
            .iter()
            .find(|(_, remote)| *remote == 8080)
            .expect("the server's sidecar's connection");
        assert!(
            server.contains(&(8080, last.0)),
            "which ends at the server: {server:?}"
        );
    });
}

#[test]
fn a_server_that_dies_is_noticed() {
    if !is_root("a_server_that_dies_is_noticed") {
        return;
    }
    let mut running = up("direct", EnvoyProfile::Min);
    let pids = fs::read_to_string(
        running
            .lab()
            .pod("v1")
            .unwrap()
            .cgroup()
            .join("cgroup.procs"),
    )
    .unwrap();
    let pid = pids.trim().parse().expect("one server in the pod");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let message = loop {
        if let Err(error) = running.check_alive() {
            break error.to_string();
        }
    };
    assert!(
        message.contains("kmesh-origin in pod v1") && message.contains("signal: 9"),
        "{message}"
    );
}

#[test]
fn what_can_not_be_brought_up_is_named_and_leaves_nothing() {
    if !is_root("what_can_not_be_brought_up_is_named_and_leaves_nothing") {
        return;
    }
    let topology = topology();
    let refusal = |name: &str, change: &dyn Fn(&mut kmesh_dataplanes::ArmPlan<'_>)| -> ArmError {
        let mut plan = plan(&topology, EnvoyProfile::Min);
        plan.scenario_name = "refused";
        change(&mut plan);
        arm(name)
            .unwrap()
            .up(&plan)
            .map(|_| ())
            .expect_err("it must be refused")
    };
    let cases = [
        (
            refusal("direct", &|plan| plan.servers[0].pod = "v3".to_owned()),
            "pod \"v3\"",
        ),
        (
            refusal("direct", &|plan| plan.vips[0] = address("10.96.0.1:81")),
            "10.96.0.1:81",
        ),
        (
            refusal("kmesh", &|plan| {
                plan.binaries.kmeshd = "/nonexistent".into();
            }),
            "cargo build --release -p kmesh-controller",
        ),
        (
            refusal("envoy-client", &|plan| {
                plan.binaries.envoy = "/nonexistent".into();
            }),
            "ci/setup.sh",
        ),
        // /bin/false stands for an Envoy that does not start.
        (
            refusal("envoy-client", &|plan| {
                plan.binaries.envoy = "/bin/false".into();
            }),
            "exit status: 1",
        ),
        (
            refusal("dnat", &|plan| plan.binaries.nft = "/bin/false".into()),
            "nft in pod client refused",
        ),
    ];
    for (error, expected) in cases {
        let message = error.to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
    let cgroups = fs::read_dir(netns_lab::cgroup2_mount().unwrap())
        .unwrap()
        .flatten();
    let left: Vec<_> = cgroups
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().contains("refused"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A harness that is killed takes its arms with it, Envoys included. The harness is this test, run once more.
#[test]
fn sigkill_of_the_harness_leaves_nothing() {
    const CHILD: &str = "KMESH_DATAPLANES_TEST_HARNESS";
    if !is_root("sigkill_of_the_harness_leaves_nothing") {
        return;
    }
    if std::env::var_os(CHILD).is_some() {
        let running = up("envoy-both", EnvoyProfile::Min);
        println!("\n{}", running.lab().cgroup().display());
        loop {
            std::thread::park();
        }
    }
    let mut harness = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "sigkill_of_the_harness_leaves_nothing",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(harness.stdout.take().unwrap()));
    let cgroup = lines
        .map(Result::unwrap)
        .find(|line| line.starts_with('/'))
        .expect("the harness's cgroup");
    let sidecars = fs::read_to_string(format!("{cgroup}/sidecar-client/cgroup.procs")).unwrap();
    assert_eq!(sidecars.lines().count(), 1);
    harness.kill().unwrap();
    harness.wait().unwrap();
    let patience = std::time::Instant::now();
    while std::path::Path::new(&cgroup).exists() {
        assert!(patience.elapsed().as_secs() < 10, "{cgroup} is left");
        std::thread::yield_now();
    }
    // Gone, or a zombie that waits for whoever inherited it.
    let stat = fs::read_to_string(format!("/proc/{}/stat", sidecars.trim())).unwrap_or_default();
    assert!(
        stat.is_empty() || stat.contains(") Z ") || !stat.contains("(envoy)"),
        "envoy is left: {stat}"
    );
}
