//! Arms that a file describes, shown with HAProxy: same routes, same checks, nothing left.

mod support;

use std::{collections::BTreeSet, fs, path::Path};

use kmesh_dataplanes::{Arm as _, ArmError, EnvoyProfile, External, RunningArm};
use support::{ECHO, WEB, address, is_root, plan, served_by, topology};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/arms")
}

fn up(external: &External) -> Result<Box<dyn RunningArm>, ArmError> {
    let topology = topology();
    external.up(&plan(&topology, EnvoyProfile::Min))
}

/// Whether HAProxy is here; CI has it.
fn has(external: &External, test: &str) -> bool {
    let Some(missing) = external.missing() else {
        return true;
    };
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test}: {missing}"
    );
    println!("SKIP {test}: {missing}");
    false
}

#[test]
fn haproxy_routes_like_envoy() {
    for name in ["haproxy", "haproxy-both"] {
        let external = External::read(&folder().join(format!("{name}.toml"))).unwrap();
        if !is_root("haproxy_routes_like_envoy") || !has(&external, "haproxy_routes_like_envoy") {
            return;
        }
        let mut running = up(&external).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(running.decides());
        assert_eq!(running.name(), name);
        assert_eq!(
            served_by(running.as_ref(), address("[fd00:10:96::1]:80"), "x: y"),
            "v1"
        );
        for _ in 0..3 {
            for (header, expected) in [("end-user: jason", "v2"), ("end-user: jasons", "v1")] {
                let served_by = served_by(running.as_ref(), address(WEB), header);
                assert_eq!(served_by, expected, "{name}, {header}");
            }
        }
        let counters = running.counters().unwrap();
        let proxies: BTreeSet<_> = counters
            .cpu
            .keys()
            .filter(|key| key.starts_with("sidecar-"))
            .collect();
        let expected = if name == "haproxy" { 1 } else { 4 };
        assert_eq!(proxies.len(), expected, "{proxies:?}");
        assert!(
            running
                .artefacts()
                .unwrap()
                .iter()
                .any(|(file, _)| *file == format!("{name}-client-log.txt"))
        );
        running.check_alive().unwrap();
        let cgroup = running.lab().cgroup().to_owned();
        drop(running);
        assert!(!cgroup.exists(), "{} is left of {name}", cgroup.display());
    }
}

#[test]
fn raw_bytes_travel_through_a_described_arm() {
    let external = External::read(&folder().join("haproxy-both.toml")).unwrap();
    let test = "raw_bytes_travel_through_a_described_arm";
    if !is_root(test) || !has(&external, test) {
        return;
    }
    let running = up(&external).unwrap();
    let output = running
        .client()
        .command("curl")
        .args(["-sS", "--max-time", "3", "--output", "-"])
        .arg(format!("telnet://{ECHO}"))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "echo\n");
}

#[test]
fn what_is_missing_or_fails_is_said_in_words() {
    if !is_root("what_is_missing_or_fails_is_said_in_words") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let external = |programs: &str, rest: &str| {
        let text = format!(
            "title = 't'\ndecides = false\nprograms = ['{programs}']\nremedy = 'get it'\n[client]\nready = 'tcp://127.0.0.1:1'\n{rest}"
        );
        let path = folder.path().join("mine.toml");
        fs::write(&path, text).unwrap();
        External::read(&path).unwrap()
    };
    let absent = external("no-such-proxy", "run = ['no-such-proxy']");
    assert_eq!(
        absent.missing().unwrap(),
        "no-such-proxy not found on this machine: get it"
    );
    let cases = [
        (absent, "no-such-proxy not found on this machine: get it"),
        (
            external("sh", "run = ['sh', '-c', 'echo no licence >&2; exit 3']"),
            "mine in pod client ended (exit status: 3); it last said: no licence",
        ),
        (
            external(
                "sh",
                "configure = ['sh', '-c', 'echo too many routes >&2; exit 1']\nrun = ['cat']",
            ),
            "too many routes",
        ),
    ];
    for (external, expected) in cases {
        let message = up(&external).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
}

#[test]
fn a_proxy_is_told_where_it_is() {
    if !is_root("a_proxy_is_told_where_it_is") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("told.toml");
    // The configuration is what the command printed; it fails, so that its words come out.
    fs::write(
        &path,
        r#"
title = "says what it was told"
decides = false
programs = ["sh"]
remedy = "none"
[client]
configure = ["sh", "-c", "cat; env | grep ^KMESH_ | sort"]
run = ["sh", "-c", "grep -e ^KMESH -e web-v1 -m 40 /dev/stdin >&2; exit 9"]
ready = "tcp://127.0.0.1:1"
redirect_each = 15100
"#,
    )
    .unwrap();
    let message = up(&External::read(&path).unwrap())
        .map(|_| ())
        .unwrap_err()
        .to_string();
    for expected in [
        "KMESH_SERVERS=v1=10.244.0.2:8080 v2=10.244.0.3:8080 echo=10.244.0.4:7",
        "KMESH_SERVICES=web=10.96.0.1:80 echo=10.96.0.2:7",
    ] {
        assert!(message.contains(expected), "{message}");
    }
}
