//! Golden explanations: `golden.txt` holds questions, each with its explanation. `BLESS=1` rewrites it.
//!
//! A question is a line `> LISTENER [DICE] REQUEST`, where LISTENER is a position in `mesh.yaml` and DICE are numbers with commas.

use std::fmt::Write as _;
use std::path::Path;

use kmesh_explain::{explain, head};

#[test]
fn explanations_are_the_golden_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let config = kmesh_config::read(&folder.join("mesh.yaml")).unwrap();
    let golden = folder.join("golden.txt");
    let old = std::fs::read_to_string(&golden).unwrap();
    let mut new = String::new();
    for question in old.lines().filter_map(|line| line.strip_prefix("> ")) {
        let (listener, rest) = question.split_once(' ').unwrap();
        let (dice, request) = match rest.strip_prefix('[').and_then(|r| r.split_once("] ")) {
            Some((dice, request)) => (Some(dice), request),
            None => (None, rest),
        };
        let dice: Option<Vec<u32>> =
            dice.map(|dice| dice.split(',').map(|n| n.parse().unwrap()).collect());
        let bytes = head(request).unwrap();
        let said = explain(&config, listener.parse().unwrap(), &bytes, dice.as_deref()).unwrap();
        writeln!(new, "> {question}\n{said}").unwrap();
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&golden, new.trim_end().to_owned() + "\n").unwrap();
        return;
    }
    assert_eq!(new.trim_end(), old.trim_end());
}
