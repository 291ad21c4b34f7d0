//! Wrong uses of all four programs: each ends with its code, and says in one line what is wrong, why, and what to do.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kmesh_bench::binaries::{Programs, workspace};
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Of whom nothing is expected but that it is not root.
const NOBODY: u32 = 65_534;

/// How the program is started.
#[derive(Clone, Copy, PartialEq)]
enum As {
    Root,
    Nobody,
    /// As root, with a stdout that takes nothing.
    Full,
}

#[derive(Clone, Copy)]
struct Case {
    program: &'static str,
    line: &'static str,
    code: i32,
    parts: &'static [&'static str],
    who: As,
}

const fn case(
    program: &'static str,
    line: &'static str,
    code: i32,
    parts: &'static [&'static str],
) -> Case {
    Case {
        program,
        line,
        code,
        parts,
        who: As::Root,
    }
}

const fn by(who: As, case: Case) -> Case {
    Case { who, ..case }
}

const BENCH: &str = "kmesh-bench";
const DAEMON: &str = "kmeshd";
const CTL: &str = "kmeshctl";
const LAB: &str = "netns-lab";

/// `_` in a line stands for a space within a word; `EMPTY` for an empty folder.
const CASES: &[Case] = &[
    // What is no command, no flag, no value.
    case(BENCH, "", 4, &["no command given", "kmesh-bench --help"]),
    case(BENCH, "lst", 4, &["'lst'", "'list'", "kmesh-bench --help"]),
    case(BENCH, "run", 4, &["<SCENARIO>", "kmesh-bench run --help"]),
    case(BENCH, "run a --quik", 4, &["'--quik'", "'--quick'"]),
    case(
        BENCH,
        "run a --format yaml",
        4,
        &["'yaml'", "--format", "markdown"],
    ),
    case(BENCH, "verify", 4, &["kmesh-bench verify --help"]),
    case(
        BENCH,
        "verify strems",
        4,
        &["'strems'", "'streams'", "kmesh-bench verify --help"],
    ),
    case(
        BENCH,
        "compare EMPTY",
        4,
        &["<B>", "kmesh-bench compare --help"],
    ),
    case(BENCH, "report", 4, &["<DIR>", "kmesh-bench report --help"]),
    case(BENCH, "explain", 4, &["<REQUEST>"]),
    case(BENCH, "up http-lb-long60", 4, &["--arm"]),
    case(BENCH, "completions cmd", 4, &["'cmd'", "bash"]),
    case(DAEMON, "", 4, &["no command given", "kmeshd --help"]),
    case(DAEMON, "rnu", 4, &["'rnu'", "kmeshd --help"]),
    case(DAEMON, "run", 4, &["--config", "kmeshd run --help"]),
    case(
        DAEMON,
        "run --drain soon --config a --pods b",
        4,
        &["'soon'", "--drain"],
    ),
    case(
        DAEMON,
        "run --when-gone maybe --config a --pods b",
        4,
        &["'maybe'", "closed"],
    ),
    case(CTL, "", 4, &["no command given", "kmeshctl --help"]),
    case(CTL, "status --format yaml", 4, &["'yaml'", "json"]),
    case(CTL, "explain", 4, &["<REQUEST>", "kmeshctl explain --help"]),
    case(CTL, "stats", 4, &["'stats'", "'status'"]),
    case(LAB, "", 4, &["no command given", "netns-lab --help"]),
    case(LAB, "up", 4, &["<TOPOLOGY>", "netns-lab up --help"]),
    case(LAB, "exec lab pod", 4, &["<COMMAND>"]),
    case(
        LAB,
        "list --yaml",
        4,
        &["'--yaml'", "netns-lab list --help"],
    ),
    // Values out of their range.
    case(
        BENCH,
        "verify decisions --cases 0",
        4,
        &["'0'", "--cases", "1.."],
    ),
    case(
        BENCH,
        "verify decisions --cases many",
        4,
        &["'many'", "--cases"],
    ),
    case(
        BENCH,
        "verify streams --seconds 0",
        4,
        &["'0'", "--seconds", "0.1..=86400"],
    ),
    case(
        BENCH,
        "verify streams --connections 0",
        4,
        &["--connections", "1..=4096"],
    ),
    case(
        BENCH,
        "verify bulk --readers 0",
        4,
        &["--readers", "1..=100000"],
    ),
    case(
        BENCH,
        "verify bulk --rounds 0",
        4,
        &["--rounds", "1..=1000"],
    ),
    case(BENCH, "crosscheck --rounds 0", 4, &["--rounds", "1..=1000"]),
    case(
        BENCH,
        "crosscheck --seconds 0",
        4,
        &["--seconds", "1..=600"],
    ),
    case(BENCH, "crosscheck --with curl", 4, &["'curl'", "wrk"]),
    case(BENCH, "stall --rate 0", 4, &["--rate", "1..=10000000"]),
    case(BENCH, "stall --stall-ms 0", 4, &["--stall-ms", "1..=60000"]),
    case(
        BENCH,
        "stall --connections 0",
        4,
        &["--connections", "1..=65535"],
    ),
    case(
        BENCH,
        "stall --stall-ms 5000",
        4,
        &["--stall-ms 5000", "--cell-ms 4000", "longer"],
    ),
    case(
        BENCH,
        "breakdown http-lb-long60 --seconds 0",
        4,
        &["--seconds", "0.1..=60"],
    ),
    case(BENCH, "gate --base . --only g9", 4, &["'g9'", "g0"]),
    case(BENCH, "gate --base . --mutant", 4, &["--self-test"]),
    case(BENCH, "gate", 4, &["--base", "kmesh-bench gate --help"]),
    // Names of nothing.
    case(
        BENCH,
        "run nope",
        4,
        &["no scenario \"nope\"", "http-lb-long60"],
    ),
    case(
        BENCH,
        "run http-lb-long6",
        4,
        &["\"http-lb-long6\"", "did you mean http-lb-long60"],
    ),
    case(
        BENCH,
        "run /no/such.toml",
        4,
        &["/no/such.toml", "No such file"],
    ),
    case(
        BENCH,
        "run http-lb-long60 --arms qmesh",
        4,
        &["no arm \"qmesh\"", "did you mean kmesh"],
    ),
    case(
        BENCH,
        "run http-lb-long60 --arms qmesh,envoy-bot",
        4,
        &["\"qmesh\"", "\"envoy-bot\"", "envoy-both"],
    ),
    case(
        BENCH,
        "run http-lb-long60 --arms kmesh-l4",
        4,
        &["http-lb-long60", "none of the arms kmesh-l4"],
    ),
    case(
        BENCH,
        "up http-lb-long60 --arm qmesh",
        4,
        &["no arm \"qmesh\"", "kmesh"],
    ),
    case(
        BENCH,
        "verify streams --arms nobody",
        4,
        &["no arm \"nobody\"", "there are direct"],
    ),
    case(
        BENCH,
        "verify peers --arms nobody",
        4,
        &["no arm \"nobody\""],
    ),
    case(BENCH, "stall --arm nobody", 4, &["no arm \"nobody\""]),
    case(BENCH, "breakdown nope", 4, &["no scenario \"nope\""]),
    case(
        BENCH,
        "gate --base no-such-revision",
        4,
        &["\"no-such-revision\"", "neither a folder"],
    ),
    case(
        LAB,
        "down nobody-has-this",
        4,
        &["no lab named \"nobody-has-this\"", "netns-lab list"],
    ),
    case(
        LAB,
        "exec nobody-has-this pod -- true",
        4,
        &["no lab named", "netns-lab list"],
    ),
    case(
        CTL,
        "status --name nobody-has-this",
        3,
        &["nobody-has-this", "is it running?"],
    ),
    // Files and folders that are not what they should be.
    case(BENCH, "report /no/such", 4, &["/no/such", "No such file"]),
    case(
        BENCH,
        "report EMPTY",
        4,
        &["no */summary.json", "kmesh-bench run --out"],
    ),
    case(
        BENCH,
        "report /dev/null",
        4,
        &["/dev/null", "Not a directory"],
    ),
    case(
        BENCH,
        "compare /no/such EMPTY",
        4,
        &["/no/such", "No such file"],
    ),
    case(
        BENCH,
        "gate --self-test --noise /no/such",
        4,
        &["/no/such", "No such file"],
    ),
    case(
        BENCH,
        "gate --self-test --noise Cargo.toml",
        4,
        &["Cargo.toml:1:", "no row of"],
    ),
    case(
        BENCH,
        "gate --record-noise EMPTY",
        4,
        &["0 blocks of noise", "gate-long60"],
    ),
    case(BENCH, "explain GET_svc.test/", 4, &["--config"]),
    case(
        BENCH,
        "explain GET_svc.test/ --config /no/such",
        4,
        &["/no/such"],
    ),
    case(
        BENCH,
        "explain GET_svc.test/ --config Cargo.toml",
        4,
        &["Cargo.toml"],
    ),
    case(
        DAEMON,
        "check --config /no/such",
        4,
        &["/no/such", "No such file"],
    ),
    case(
        CTL,
        "explain GET_svc.test/ --config /no/such",
        4,
        &["/no/such", "No such file"],
    ),
    case(LAB, "up /no/such", 4, &["/no/such", "No such file", "TOML"]),
    case(LAB, "up Cargo.lock", 4, &["Cargo.lock"]),
    case(BENCH, "new ../x", 4, &["\"../x\"", "lower-case letters"]),
    case(
        BENCH,
        "new tcp-echo",
        4,
        &["tcp-echo.toml is there already", "another name"],
    ),
    // Output that is not taken, before anything is measured.
    case(
        BENCH,
        "run http-lb-long60 --out /dev/null",
        5,
        &["/dev/null", "cannot be written"],
    ),
    case(
        BENCH,
        "run http-lb-long60 --out /proc/none",
        5,
        &["/proc/none", "cannot be written"],
    ),
    case(
        BENCH,
        "man /dev/null/man",
        5,
        &["/dev/null/man", "cannot be written"],
    ),
    by(
        As::Full,
        case(BENCH, "list", 5, &["stdout cannot be written", "No space"]),
    ),
    by(
        As::Full,
        case(LAB, "list", 5, &["stdout cannot be written", "No space"]),
    ),
    by(
        As::Full,
        case(CTL, "--help", 5, &["stdout cannot be written", "No space"]),
    ),
    // Without root.
    by(
        As::Nobody,
        case(
            BENCH,
            "run http-lb-long60",
            3,
            &["kmesh-bench run needs root", "sudo"],
        ),
    ),
    by(
        As::Nobody,
        case(BENCH, "verify streams", 3, &["needs root", "sudo"]),
    ),
    by(
        As::Nobody,
        case(LAB, "up lab.toml", 4, &["lab.toml", "No such file"]),
    ),
    by(
        As::Nobody,
        case(
            DAEMON,
            "run --config a --pods b",
            3,
            &["kmeshd run needs root", "sudo"],
        ),
    ),
];

/// The programs where any user may run them, and an empty folder.
struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), all).unwrap();
        std::fs::create_dir(folder.path().join("EMPTY")).unwrap();
        let beside = Programs::locate().arms.kmeshd;
        for program in [DAEMON, CTL, LAB] {
            let built = beside.with_file_name(program);
            std::fs::copy(&built, folder.path().join(program)).unwrap_or_else(|error| {
                panic!("{}: {error}: build the workspace first", built.display())
            });
        }
        std::fs::copy(env!("CARGO_BIN_EXE_kmesh-bench"), folder.path().join(BENCH)).unwrap();
        Self { folder }
    }

    fn run(&self, case: &Case) -> Output {
        let empty = self.folder.path().join("EMPTY");
        let words = case.line.split(' ').filter(|word| !word.is_empty());
        let words = words.map(|word| match word {
            "EMPTY" => empty.clone(),
            word => PathBuf::from(word.replace('_', " ")),
        });
        let mut command = Command::new(self.folder.path().join(case.program));
        command.args(words).current_dir(workspace());
        command.env("KMESH_SCENARIOS", workspace().join("scenarios"));
        match case.who {
            As::Root => {}
            As::Nobody => {
                command.uid(NOBODY);
            }
            As::Full => {
                command.stdout(File::create("/dev/full").unwrap());
            }
        }
        command.output().unwrap()
    }
}

/// What is wrong with how a case ended; empty if nothing is.
fn faults(case: &Case, output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let mut faults = Vec::new();
    if output.status.code() != Some(case.code) {
        faults.push(format!(
            "ended with {:?}, not {}",
            output.status.code(),
            case.code
        ));
    }
    if said.lines().count() != 1 {
        faults.push(format!("{} lines", said.lines().count()));
    }
    if !said.starts_with(&format!("{}: ", case.program)) {
        faults.push("does not begin with its name".to_owned());
    }
    faults.extend(
        case.parts
            .iter()
            .filter(|part| !said.contains(**part))
            .map(|part| format!("no {part:?}")),
    );
    let parts: Vec<&str> = said.trim().split(": ").collect();
    if parts.windows(2).any(|pair| pair[0] == pair[1]) {
        faults.push("says something twice".to_owned());
    }
    faults
}

#[test]
fn wrong_uses_end_with_their_code_and_one_line() {
    if !nix::unistd::geteuid().is_root() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "needs root");
        println!("SKIP wrong_uses_end_with_their_code_and_one_line: needs root");
        return;
    }
    assert!(CASES.len() >= 60);
    let stage = Stage::set();
    let found: Vec<String> = CASES
        .iter()
        .filter_map(|case| {
            let output = stage.run(case);
            let faults = faults(case, &output);
            let said = String::from_utf8_lossy(&output.stderr);
            (!faults.is_empty()).then(|| {
                format!(
                    "{} {}: {}\n    {said}",
                    case.program,
                    case.line,
                    faults.join(", ")
                )
            })
        })
        .collect();
    assert!(
        found.is_empty(),
        "{} of {}:\n{}",
        found.len(),
        CASES.len(),
        found.join("\n")
    );
}

#[test]
fn a_right_use_is_no_case() {
    let stage = Stage::set();
    let right = case(LAB, "list", 4, &["no such words"]);
    let faults = faults(&right, &stage.run(&right));
    assert_eq!(faults.len(), 4, "{faults:?}");
}
