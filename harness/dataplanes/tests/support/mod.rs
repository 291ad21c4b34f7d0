//! A small scenario for the root tests: a client, two HTTP servers, a TCP echo server, and `tests/canary.yaml`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use kmesh_dataplanes::{
    ArmPlan, Binaries, EnvoyProfile, Placement, RunningArm, ServerKind, ServerSpec,
};
use netns_lab::Topology;

/// Name and addresses; `tests/canary.yaml` has the same.
const TOPOLOGY: &str = r#"
[[pods]]
name = "client"
ipv4 = "10.244.0.1"
[[pods]]
name = "v1"
ipv4 = "10.244.0.2"
ipv6 = "fd00:10:244::2"
[[pods]]
name = "v2"
ipv4 = "10.244.0.3"
[[pods]]
name = "echo"
ipv4 = "10.244.0.4"
[[services]]
name = "web"
vip4 = "10.96.0.1"
vip6 = "fd00:10:96::1"
[[services]]
name = "echo"
vip4 = "10.96.0.2"
[[services]]
name = "nobody"
vip4 = "10.96.0.3"
"#;

/// Virtual address of the HTTP service.
pub(crate) const WEB: &str = "10.96.0.1:80";
/// Virtual address of the TCP service.
pub(crate) const ECHO: &str = "10.96.0.2:7";

/// True if the test may run; otherwise it is to return. A skip looks like a pass, so `CI=true` forbids it.
pub(crate) fn is_root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test}: needs root, and CI=true forbids skipping"
    );
    println!("SKIP {test}: needs root");
    false
}

/// Virtual address of a service without endpoints.
pub(crate) const NOBODY: &str = "10.96.0.3:80";

/// The topology of the scenario.
pub(crate) fn topology() -> Topology {
    Topology::from_toml(TOPOLOGY).expect("the topology above is valid")
}

/// Everything about the scenario but its topology, for one Envoy profile.
pub(crate) fn plan(topology: &Topology, envoy_profile: EnvoyProfile) -> ArmPlan<'_> {
    static RESOURCES: OnceLock<PathBuf> = OnceLock::new();
    let http = |pod: &str| ServerSpec {
        pod: pod.to_owned(),
        port: 8080,
        kind: ServerKind::Http {
            default_params: String::new(),
            body_bytes: None,
        },
        next: None,
    };
    let echo = ServerSpec {
        pod: "echo".to_owned(),
        port: 7,
        kind: ServerKind::TcpEcho { banner: true },
        next: None,
    };
    ArmPlan {
        scenario_name: "canary",
        topology,
        client: "client",
        servers: vec![http("v1"), http("v2"), echo],
        resources_yaml: RESOURCES
            .get_or_init(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/canary.yaml")),
        vips: vec![address(WEB), address(ECHO), address(NOBODY)],
        placement: Placement::default(),
        envoy_profile,
        binaries: binaries(),
    }
}

/// An address from its text.
pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("a constant address")
}

/// Our own programs, built if need be: cargo builds no other package's binaries for a test.
fn binaries() -> Binaries {
    static ORIGIN: OnceLock<()> = OnceLock::new();
    ORIGIN.get_or_init(|| build(&["--package", "kmesh-origin", "--bin", "kmesh-origin"]));
    Binaries::locate(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
}

/// Builds a program in the profile and folder that the test itself was built in.
pub(crate) fn build(what: &[&str]) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet"]).args(what);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    assert!(
        cargo.status().expect("cargo runs").success(),
        "{what:?} does not build"
    );
}

/// Who answered a request to `target` from inside the client pod, asked by curl.
pub(crate) fn served_by(arm: &dyn RunningArm, target: SocketAddr, header: &str) -> String {
    let mut curl = arm.client().command("curl");
    curl.args([
        "-sS",
        "--max-time",
        "5",
        "-o",
        "/dev/null",
        "-w",
        "%header{x-served-by}",
        "-H",
        "host: web.test",
    ]);
    curl.args(["-H", header, &format!("http://{target}/")]);
    let output = curl.output().expect("curl runs");
    assert!(
        output.status.success(),
        "{}: {}",
        arm.name(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
