//! What every program says of itself: exit codes and ranges below each `--help`, commit and compiler in `--version`, completions and
//! man pages; and the README says the same codes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kmesh_bench::binaries::{Programs, workspace};
use kmesh_cli::exit::TABLE;
use std::path::PathBuf;
use std::process::Command;

/// Numbers of which any will do.
const ANY: [&str; 1] = ["--seed"];

fn programs() -> Vec<PathBuf> {
    let beside = Programs::locate().arms.kmeshd;
    let others = ["kmeshd", "kmeshctl", "netns-lab"].map(|name| beside.with_file_name(name));
    let mut all = vec![PathBuf::from(env!("CARGO_BIN_EXE_kmesh-bench"))];
    all.extend(others);
    all
}

fn says(program: &PathBuf, words: &[String]) -> String {
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{}: {error}: build the workspace first", program.display())
    });
    let code = output.status.code();
    assert_eq!(code, Some(0), "{} {words:?}", program.display());
    String::from_utf8(output.stdout).unwrap()
}

/// Names of the commands in a help, without those that only lead to helps.
fn commands(help: &str) -> Vec<String> {
    let section = help.split_once("\nCommands:\n").map_or("", |parts| parts.1);
    let lines = section.lines().take_while(|line| !line.is_empty());
    lines
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Every help of a program: the words typed, and what it says.
fn helps(program: &PathBuf) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(words) = open.pop() {
        let help = says(
            program,
            &[words.clone(), vec!["--help".to_owned()]].concat(),
        );
        for name in commands(&help) {
            open.push([words.clone(), vec![name]].concat());
        }
        found.push((words, help));
    }
    found
}

/// Options with a number by default and no range, each in one line.
fn without_range(help: &str) -> Vec<String> {
    // With long helps an option's text stands below its name.
    let joined = help.replace("\n          ", " ").replace(" \n", " ");
    joined
        .lines()
        .filter(|line| line.trim_start().starts_with('-'))
        .filter(|line| {
            let default = line
                .split_once("[default: ")
                .and_then(|(_, rest)| rest.split_once(']'));
            default.is_some_and(|(value, _)| value.parse::<f64>().is_ok())
        })
        .filter(|line| !line.contains("..="))
        .filter(|line| !ANY.iter().any(|name| line.contains(name)))
        .map(|line| line.trim().to_owned())
        .collect()
}

#[test]
fn every_help_has_the_exit_codes_and_the_ranges() {
    let mut ranges = 0;
    for program in programs() {
        let helps = helps(&program);
        let program = program.display();
        assert!(helps.len() > 5, "{program}: {}", helps.len());
        for (words, help) in helps {
            assert!(help.contains(TABLE), "{program} {words:?}:\n{help}");
            assert!(!help.contains("[possible values: ]"), "{program}:\n{help}");
            assert_eq!(without_range(&help), [""; 0], "{program} {words:?}");
            ranges += help.matches("..=").count();
        }
    }
    assert!(ranges >= 15, "{ranges}");
}

#[test]
fn a_number_without_a_range_is_found() {
    let help = "Options:\n      --pods <PODS>  How many [default: 50]\n      --name <N>  Which [default: x]\n      --far <FAR>  [1..=9] [default: 3]\n";
    assert_eq!(
        without_range(help),
        ["--pods <PODS>  How many [default: 50]"]
    );
    let long =
        "Options:\n      --pods <PODS>\n          How many\n          \n          [default: 50]\n";
    assert_eq!(without_range(long).len(), 1);
}

#[test]
fn the_readme_says_the_same_codes() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let rows: Vec<&str> = readme
        .lines()
        .skip_while(|line| *line != "| code | means |")
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let told: Vec<String> = TABLE
        .lines()
        .skip(1)
        .map(|line| {
            let (code, means) = line.trim().split_once("  ").unwrap();
            format!("| {code} | {means} |")
        })
        .collect();
    assert_eq!(rows, told);
}

#[test]
fn versions_completions_and_man_pages_are_there() {
    for program in programs() {
        let name = program.file_name().unwrap().to_str().unwrap().to_owned();
        let version = says(&program, &["--version".to_owned()]);
        assert!(version.starts_with(&format!("{name} ")), "{version}");
        assert!(
            version.contains("(commit ") && version.contains(", rustc 1."),
            "{version}"
        );
        let script = says(&program, &["completions".to_owned(), "bash".to_owned()]);
        let offers = |line: &str| line.contains("complete -F _") && line.ends_with(&name);
        assert!(script.lines().any(offers), "{script}");
        let folder = tempfile::tempdir().unwrap();
        let man = folder.path().join("man").display().to_string();
        says(&program, &["man".to_owned(), man.clone()]);
        let page = std::fs::read_to_string(PathBuf::from(man).join(format!("{name}.1"))).unwrap();
        assert!(page.contains("Exit codes:"), "{page}");
    }
}
