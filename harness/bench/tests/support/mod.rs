//! What tests on real labs need: root, and our programs.

use kmesh_bench::binaries::workspace;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Whether the test can run; says why not, and fails in CI.
pub(crate) fn ready(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        // The arms start programs of other packages, which `cargo test -p kmesh-bench` does not build.
        programs();
        return true;
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} needs root"
    );
    println!("SKIP {test}: needs root");
    false
}

/// Folder of `kmeshd`, `kmesh-load` and `kmesh-origin`: the one that CI built, or built here.
pub(crate) fn programs() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    if let Some(folder) = std::env::var_os("KMESH_BIN_DIR").filter(|folder| !folder.is_empty()) {
        return folder.into();
    }
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    BUILT.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .current_dir(workspace())
            .args(["build", "--locked", "--bins", "--profile", profile])
            .args([
                "-p",
                "kmesh-controller",
                "-p",
                "kmesh-load",
                "-p",
                "kmesh-origin",
            ])
            .status()
            .unwrap();
        assert!(built.success());
    });
    let folder = Path::new(env!("CARGO_BIN_EXE_kmesh-bench")).parent();
    folder.unwrap().to_owned()
}
