//! Builds `kmesh-runtime` for the BPF target with whichever toolchain this machine has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};

const INSTALL: &str = "run ci/setup.sh, or install a nightly toolchain with the rust-src component \
                       and bpf-linker";

fn main() -> Result<()> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("no parent folder")?;
    for path in ["api", "orchestration", "runtime"] {
        println!("cargo:rerun-if-changed={}", crates.join(path).display());
    }
    println!("cargo:rerun-if-env-changed=PATH");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    if env::var("AYA_BUILD_SKIP").is_ok_and(|skip| skip == "1" || skip == "true") {
        fs::write(out.join("kmesh"), [])?;
        fs::write(out.join("sockmap"), [])?;
        fs::write(out.join("testrun"), [])?;
        return Ok(());
    }
    let Some(linker) = find_in_path("bpf-linker") else {
        bail!("the eBPF programs need bpf-linker, which is not in PATH: {INSTALL}");
    };
    // A new linker may produce a different object.
    println!("cargo:rerun-if-changed={}", linker.display());
    // aya-ebpf and the runtime need one unstable feature on that target, inline assembly. By name: `1` would also turn build-std on. Only
    // there, and not in `.cargo/config.toml`: many build scripts run again when this variable changes.
    #[expect(
        clippy::disallowed_methods,
        reason = "this program has one thread, and the library that builds takes it from the environment"
    )]
    // SAFETY: as above.
    unsafe {
        env::set_var("RUSTC_BOOTSTRAP", "aya_ebpf,kmesh_runtime");
    };
    let runtime = crates.join("runtime");
    let package = Package {
        name: "kmesh-runtime",
        root_dir: runtime
            .to_str()
            .context("the path of the checkout is not UTF-8")?,
        ..Package::default()
    };
    aya_build::build_ebpf([package], toolchain()?)
}

/// The toolchain that has `core` for the BPF target: Debian's linked as `bpf`, a nightly that can build it, or, without
/// rustup, the one in PATH.
fn toolchain() -> Result<Toolchain<'static>> {
    let sysroot = |command: &mut Command| -> Option<PathBuf> {
        let output = command.args(["--print", "sysroot"]).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output
            .status
            .success()
            .then(|| PathBuf::from(text.trim()).join("lib/rustlib"))
    };
    let rustup = |name: &str| sysroot(Command::new("rustup").args(["run", name, "rustc"]));
    let has_core = |root: PathBuf| root.join("bpfel-unknown-none/lib").is_dir();
    let has_source = |root: PathBuf| root.join("src/rust/library/core").is_dir();
    if find_in_path("rustup").is_none() {
        if sysroot(&mut Command::new("rustc")).is_some_and(has_core) {
            return Ok(Toolchain::Custom("the one in PATH"));
        }
        bail!("the rustc in PATH has no core library for bpfel-unknown-none: {INSTALL}");
    }
    if rustup("bpf").is_some_and(has_core) {
        return Ok(Toolchain::Custom("bpf"));
    }
    if rustup("nightly").is_some_and(has_source) {
        return Ok(Toolchain::Nightly);
    }
    bail!("no Rust toolchain here can build for bpfel-unknown-none: {INSTALL}");
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
