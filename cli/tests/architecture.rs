//! The table of crates in ARCHITECTURE.md against what Cargo says of the workspace.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// First and second column of the table under `## Crates`, in the order of its lines.
fn page(text: &str) -> Vec<(String, BTreeSet<String>)> {
    let section = text.split_once("\n## Crates").unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let names = |cell: &str| -> BTreeSet<String> {
        let between: Vec<&str> = cell.split('`').collect();
        between
            .iter()
            .skip(1)
            .step_by(2)
            .map(|name| (*name).to_owned())
            .collect()
    };
    section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            (names(cells[1]).pop_first().unwrap(), names(cells[2]))
        })
        .collect()
}

/// What each member uses of the others; what only its tests use is left out.
fn workspace() -> Arrows {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let members: BTreeSet<String> = packages.iter().map(name).collect();
    let uses = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap();
        all.iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .map(name)
            .filter(|name| members.contains(name))
            .collect()
    };
    packages
        .iter()
        .map(|package| (name(package), uses(package)))
        .collect()
}

/// What is wrong with a page, one line each.
fn findings(page: &[(String, BTreeSet<String>)], code: &Arrows) -> Vec<String> {
    let mut found = Vec::new();
    for (at, (name, may)) in page.iter().enumerate() {
        let Some(uses) = code.get(name) else {
            found.push(format!("{name} is on the page, but no crate"));
            continue;
        };
        for used in uses.difference(may) {
            found.push(format!("{name} uses {used}, which the page does not allow"));
        }
        let above: BTreeSet<&String> = page[..=at].iter().map(|(name, _)| name).collect();
        for used in may.iter().filter(|used| above.contains(used)) {
            found.push(format!("{name} may use {used}, which stands above it"));
        }
    }
    for name in code
        .keys()
        .filter(|name| !page.iter().any(|(listed, _)| listed == *name))
    {
        found.push(format!("{name} is missing on the page"));
    }
    found
}

#[test]
fn the_page_is_what_cargo_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let text = std::fs::read_to_string(file).unwrap();
    let found = findings(&page(&text), &workspace());
    assert!(found.is_empty(), "ARCHITECTURE.md:\n{}", found.join("\n"));
}

#[test]
fn a_wrong_page_is_found() {
    let code: Arrows = [
        ("a".to_owned(), ["b".to_owned()].into()),
        ("b".to_owned(), BTreeSet::new()),
        ("c".to_owned(), BTreeSet::new()),
    ]
    .into();
    let text =
        "x\n## Crates\n| crate | may use |\n| `b` | | |\n| `a` | `b` | |\n| `d` | | |\n## More\n";
    assert_eq!(
        findings(&page(text), &code),
        [
            "a may use b, which stands above it",
            "d is on the page, but no crate",
            "c is missing on the page"
        ]
    );
    let text = "x\n## Crates\n| `a` | | |\n| `b` | | |\n| `c` | | |\n";
    assert_eq!(
        findings(&page(text), &code),
        ["a uses b, which the page does not allow"]
    );
}
