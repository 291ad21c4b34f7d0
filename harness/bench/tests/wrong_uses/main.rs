//! Wrong uses of all four programs: each ends with its code, and says in one line what is wrong, why, and what to do.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod stage;
mod table;

use stage::Stage;
use std::collections::BTreeMap;
use std::process::Output;
use table::Use;

/// What is wrong with how a use ended; empty if nothing is.
fn faults(wrong: &Use, output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let mut faults = Vec::new();
    let code = output.status.code();
    if code != Some(wrong.code) {
        faults.push(format!("ended with {code:?}, not {}", wrong.code));
    }
    if said.lines().count() != 1 {
        faults.push(format!("{} lines", said.lines().count()));
    }
    if !said.starts_with(&format!("{}: ", wrong.program)) {
        faults.push("does not begin with its name".to_owned());
    }
    let absent = wrong
        .names
        .iter()
        .filter(|name| !said.contains(name.as_str()));
    faults.extend(absent.map(|name| format!("no {name:?}")));
    let parts: Vec<&str> = said.trim().split(": ").collect();
    if parts.windows(2).any(|pair| pair[0] == pair[1]) {
        faults.push("says something twice".to_owned());
    }
    faults
}

#[test]
fn wrong_uses_end_with_their_code_and_one_line() {
    let stage = Stage::set();
    let all = Use::all(&stage.path().display().to_string());
    let mut by_program: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut found, mut skipped) = (Vec::new(), 0);
    for wrong in &all {
        *by_program.entry(&wrong.program).or_default() += 1;
        let Some(output) = stage.run(wrong) else {
            skipped += 1;
            continue;
        };
        let faults = faults(wrong, &output);
        if !faults.is_empty() {
            let (line, said) = (
                wrong.words.join(" "),
                String::from_utf8_lossy(&output.stderr),
            );
            let faults = faults.join(", ");
            found.push(format!("{} {line}: {faults}\n    {said}", wrong.program));
        }
    }
    assert!(by_program.len() == 4 && all.len() >= 60, "{by_program:?}");
    assert!(
        found.is_empty(),
        "{} of {}:\n{}",
        found.len(),
        all.len(),
        found.join("\n")
    );
    if skipped > 0 {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root");
        println!("{skipped} of {} need root and were skipped", all.len());
    }
}

#[test]
fn rows_that_do_not_hold_are_found() {
    let stage = Stage::set();
    let faults = |row: &str| {
        let row = Use::parse(row, "");
        faults(&row, &stage.run(&row).unwrap())
    };
    // A right use: wrong code, no line, no name of its own, nothing named.
    assert_eq!(faults("4 | netns-lab list | nothing such").len(), 4);
    // A wrong use, expected to end and to speak otherwise.
    let row = "4 | kmesh-bench lst | 'lst'";
    assert!(faults(row).is_empty(), "{:?}", faults(row));
    let found = faults("5 | kmesh-bench lst | 'lst' | 'map'");
    assert_eq!(found, ["ended with Some(4), not 5", "no \"'map'\""]);
}

#[test]
fn reading_writes_nothing() {
    let stage = Stage::set();
    let empty = stage.path().display().to_string();
    for line in ["kmesh-bench list", "kmesh-bench list sweep-*"] {
        // A right use, by somebody who may write nowhere: what it generates stays in memory.
        let row = Use::parse(&format!("0 | nobody: {line} | -"), &empty);
        let output = stage.run(&row).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line}: {said}");
        let listed = String::from_utf8_lossy(&output.stdout);
        assert!(listed.contains("sweep-routes"), "{listed}");
    }
}
