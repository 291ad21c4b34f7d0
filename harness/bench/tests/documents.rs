//! The Markdown files: every link leads somewhere, every command shown is one that its program takes, and those that only read are run.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kmesh_bench::binaries::{Programs, workspace};
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: [&str; 4] = ["kmesh-bench", "kmeshd", "kmeshctl", "netns-lab"];

/// Tracked Markdown files, from the repository's root.
fn documents() -> Vec<PathBuf> {
    let mut git = Command::new("git");
    let output = git
        .args(["ls-files", "*.md"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let list = String::from_utf8(output.stdout).unwrap();
    list.lines()
        .map(PathBuf::from)
        .filter(|file| workspace().join(file).is_file())
        .collect()
}

/// Targets of `[text](target)` outside of code.
fn links(text: &str) -> Vec<String> {
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    let prose = prose.join(" ");
    let prose: Vec<&str> = prose.split('`').step_by(2).collect();
    // The text of a link may itself be code, and then lies between two of these parts.
    let prose = prose.join("");
    prose
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

/// A heading as GitHub's links name it.
fn slug(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// What is wrong with a link from `file`, if anything is.
fn broken(root: &Path, file: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let leads = match path {
        "" => root.join(file),
        path => root.join(file).parent()?.join(path),
    };
    if !leads.exists() {
        return Some(format!("{}: {target} is not there", file.display()));
    }
    if anchor.is_empty() {
        return None;
    }
    let text = std::fs::read_to_string(&leads).ok()?;
    let found = text
        .lines()
        .any(|line| line.starts_with('#') && slug(line) == anchor);
    (!found).then(|| format!("{}: {target} has no such heading", file.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let root = workspace();
    let mut checked = 0;
    let mut found = Vec::new();
    for file in documents() {
        let text = std::fs::read_to_string(root.join(&file)).unwrap();
        for target in links(&text) {
            checked += 1;
            found.extend(broken(&root, &file, &target));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(checked > 40, "only {checked} links were seen");
}

#[test]
fn a_broken_link_is_found() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("b.md"), "# One two\n").unwrap();
    let of = |target| broken(folder.path(), Path::new("a.md"), target);
    assert_eq!(
        links("see [`x`](b.md#one-two), `[y](z)` and\n```\n[q](r)\n```\n"),
        ["b.md#one-two"]
    );
    assert_eq!(of("b.md#one-two"), None);
    assert!(of("b.md#three").unwrap().contains("no such heading"));
    assert!(of("c.md").unwrap().contains("not there"));
}

/// Commands of `names` in code: lines of blocks, and code within prose.
fn commands(text: &str, names: &[&str]) -> Vec<Vec<String>> {
    let mut code = Vec::new();
    for (at, part) in text.split("```").enumerate() {
        if at % 2 == 1 {
            code.extend(part.lines());
        } else {
            code.extend(part.split('`').skip(1).step_by(2));
            code.extend(part.lines().filter_map(|line| line.strip_prefix("    ")));
        }
    }
    code.into_iter()
        .map(words)
        .filter(|words| {
            let program = words.first().and_then(|word| word.rsplit('/').next());
            words.len() > 1 && program.is_some_and(|program| names.contains(&program))
        })
        // A form, not a command: `[--quick]`, `A|B`.
        .filter(|words| {
            !words
                .iter()
                .any(|word| word.starts_with('[') || word.contains('…'))
        })
        .collect()
}

/// A line as a shell would cut it, up to a comment, a pipe or a redirection.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut begun = false;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, begun) = (Some(c), true),
            (None, '#' | '|' | '>' | '&' | ';') if word.is_empty() && !begun => break,
            (None, ' ') if begun || !word.is_empty() => {
                words.push(std::mem::take(&mut word));
                begun = false;
            }
            (None, ' ') => {}
            (None, c) => word.push(c),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    words
}

fn program(name: &str) -> PathBuf {
    if name == "kmesh-bench" {
        return env!("CARGO_BIN_EXE_kmesh-bench").into();
    }
    Programs::locate().arms.kmeshd.with_file_name(name)
}

/// Whether the program takes the words: they stand before a `--help`, which it only comes to if it knows all of them.
fn refused(command: &[String]) -> Option<String> {
    let name = command[0].rsplit('/').next().unwrap();
    let own = command[1..].iter().take_while(|word| *word != "--");
    let mut asked = Command::new(program(name));
    asked.args(own).arg("--help").current_dir(workspace());
    let output = asked
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}: build the workspace first"));
    let said = String::from_utf8_lossy(&output.stdout);
    let taken = output.status.success() && said.contains("Usage:");
    (!taken).then(|| {
        format!(
            "{}: {}",
            command.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )
    })
}

#[test]
fn every_command_shown_is_taken() {
    let mut checked = 0;
    let mut found = Vec::new();
    for file in documents() {
        let text = std::fs::read_to_string(workspace().join(&file)).unwrap();
        for command in commands(&text, &PROGRAMS) {
            checked += 1;
            found.extend(refused(&command).map(|why| format!("{}: {why}", file.display())));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(checked > 30, "only {checked} commands were seen");
}

#[test]
fn a_command_that_is_none_is_found() {
    let text = "run `kmesh-bench list`, or\n```\ntarget/release/kmesh-bench lst  # no\nsh -c 'kmesh-bench x'\n```\n";
    let found = commands(text, &PROGRAMS);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        refused(&found[0])
            .as_deref()
            .or(refused(&found[1]).as_deref())
            .map(|why| why.contains("'lst'")),
        Some(true)
    );
    assert_eq!(words("a 'b c' \"d\" # e"), ["a", "b c", "d"]);
}

/// Scripts and tests of ours that are shown exist.
#[test]
fn every_script_and_test_shown_is_there() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(workspace())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut known: Vec<String> = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        known.push(package["name"].as_str().unwrap().to_owned());
        let targets = package["targets"].as_array().unwrap();
        known.extend(
            targets
                .iter()
                .map(|target| target["name"].as_str().unwrap().to_owned()),
        );
    }
    let mut found = Vec::new();
    for file in documents() {
        let text = std::fs::read_to_string(workspace().join(&file)).unwrap();
        for command in commands(&text, &["cargo"]) {
            let named = command
                .windows(2)
                .filter(|pair| matches!(pair[0].as_str(), "-p" | "--test" | "--bench"));
            for pair in named.filter(|pair| !known.contains(&pair[1])) {
                found.push(format!(
                    "{}: {}: no {}",
                    file.display(),
                    command.join(" "),
                    pair[1]
                ));
            }
        }
        let scripts = text.split(|c: char| c.is_whitespace() || "`()|".contains(c));
        for script in scripts.filter(|word| word.starts_with("ci/") && word.ends_with(".sh")) {
            if !workspace().join(script).is_file() {
                found.push(format!("{}: no {script}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_only_reads_is_run_and_fits_80_columns() {
    let published = std::fs::read_dir(workspace().join("results")).unwrap();
    let published = published
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir())
        .unwrap();
    let published = published.to_str().unwrap();
    for arguments in [
        &["list"][..],
        &["report", published],
        &["report", published, "--details"],
        &["compare", published, published],
        &[
            "explain",
            "GET svc.test/a end-user: jason",
            "--config",
            "scenarios/resources/header-canary.yaml",
        ],
    ] {
        let mut command = Command::new(program("kmesh-bench"));
        let output = command
            .args(arguments)
            .current_dir(workspace())
            .env("COLUMNS", "80")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let long = said.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "{arguments:?}");
    }
}
