//! What `--version` says of the build: the commit and the compiler.
//!
//! A debug build names no commit, so that a new commit does not rebuild every program while one works on them.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=KMESH_COMMIT");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let given = std::env::var("KMESH_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty());
    let commit = given
        .or_else(|| release.then(commit).flatten())
        .unwrap_or_default();
    println!("cargo::rustc-env=KMESH_BUILT_COMMIT={commit}");
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let compiler = said(Command::new(compiler).arg("--version")).unwrap_or_default();
    // `rustc 1.95.0 (hash date)`: name and number tell.
    let compiler: Vec<&str> = compiler.split(' ').take(2).collect();
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let known = if commit.is_empty() {
        "unknown"
    } else {
        &commit
    };
    println!(
        "cargo::rustc-env=KMESH_BUILT_VERSION={version} (commit {known}, {})",
        compiler.join(" ")
    );
}

/// The commit that is checked out; none outside of a checkout. Cargo builds again when it changes.
fn commit() -> Option<String> {
    for name in ["HEAD", "packed-refs"] {
        follow(name);
    }
    if let Some(branch) = said(Command::new("git").args(["symbolic-ref", "-q", "HEAD"])) {
        follow(&branch);
    }
    said(Command::new("git").args(["rev-parse", "--short=12", "HEAD"]))
}

fn follow(name: &str) {
    if let Some(path) = said(Command::new("git").args(["rev-parse", "--git-path", name])) {
        println!("cargo::rerun-if-changed={path}");
    }
}

fn said(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
