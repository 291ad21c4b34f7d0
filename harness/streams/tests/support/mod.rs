//! What the root tests share: who may run, and where the programs are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use kmesh_dataplanes::Binaries;
use kmesh_streams::lab::Options;

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

/// The programs of the arms; `kmeshd` is that of `KMESH_BIN_DIR`, else built here: cargo builds no other package's
/// binaries for a test.
fn arms() -> Binaries {
    static KMESHD: OnceLock<()> = OnceLock::new();
    let mut arms = Binaries::locate(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    if let Some(folder) = std::env::var_os("KMESH_BIN_DIR").filter(|value| !value.is_empty()) {
        arms.kmeshd = Path::new(&folder).join("kmeshd");
        return arms;
    }
    KMESHD.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "--package",
            "kmesh-controller",
            "--bin",
            "kmeshd",
        ]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        assert!(
            cargo.status().expect("cargo runs").success(),
            "kmeshd does not build"
        );
    });
    arms
}

/// A short run with this program as the server in the pods. `KMESH_STREAMS_SEED` and `KMESH_STREAMS_SECONDS` try others.
pub(crate) fn options(seconds: f64, server: &str) -> Options {
    let asked = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    Options {
        seconds: asked("KMESH_STREAMS_SECONDS").unwrap_or(seconds),
        seed: asked("KMESH_STREAMS_SEED").map_or(1, |seed: f64| seed as u64),
        workers: 12,
        only: None,
        arms: arms(),
        server: PathBuf::from(server),
        client: PathBuf::from(env!("CARGO_BIN_EXE_kmesh-streams-client")),
        http2: false,
    }
}
