//! What the repository promises about itself and no compiler checks: programs that are started are installed.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

/// Every Rust file of the workspace with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = ["datapath", "harness", "netns-lab"]
        .map(|folder| repository().join(folder))
        .to_vec();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 200, "the sources were not found");
    found
}

/// Programs that the text starts by name; paths and names that are made at run time are not seen.
fn started(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for call in [
        "Command::new(\"",
        ".command(\"",
        "daemon_command(\"",
        "\"command -v ",
    ] {
        for after in text.split(call).skip(1) {
            let name: String = after
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
                .collect();
            if !name.is_empty() && !name.contains('/') {
                names.insert(name);
            }
        }
    }
    names
}

/// The rows of `ci/programs.txt`: program, package.
fn listed() -> BTreeMap<String, String> {
    read("ci/programs.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (program, package) = line.split_once(' ').unwrap();
            (program.to_owned(), package.to_owned())
        })
        .collect()
}

/// Names that tests give to programs that are not there, or to nothing.
const NONE: [&str; 2] = ["no-such-program", "refused"];

#[test]
fn every_program_that_is_started_is_listed() {
    let listed = listed();
    let mut missing = Vec::new();
    for (path, text) in sources() {
        if path.ends_with("bench/tests/house.rs") {
            continue;
        }
        for name in started(&text) {
            if !listed.contains_key(&name) && !NONE.contains(&name.as_str()) {
                missing.push(format!("{name}, which {} starts", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "ci/programs.txt lacks {missing:?}");
    // Were nothing seen, nothing would be missing.
    let planted = "let a = Command::new(\"left-out\"); pod.command(\"curl\")";
    assert_eq!(
        started(planted),
        BTreeSet::from(["curl".to_owned(), "left-out".to_owned()])
    );
}

#[test]
fn every_listed_program_is_installed_by_the_set_up() {
    let versions = read("ci/versions.env");
    let packages = versions
        .split_once("DEBIAN_PACKAGES=(")
        .and_then(|(_, rest)| rest.split_once("\n)"))
        .map(|(list, _)| list)
        .unwrap();
    let packages: BTreeSet<&str> = packages
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .collect();
    assert!(packages.contains("curl"), "{packages:?}");
    for (program, package) in listed() {
        let known = ["essential", "ours", "optional", "toolchain"].contains(&package.as_str());
        assert!(
            known || packages.contains(package.as_str()),
            "{program} is in {package}, which ci/versions.env does not install"
        );
    }
}
