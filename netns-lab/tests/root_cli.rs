//! The command line, as its users see it.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

mod fixture;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Output, Stdio},
};

use fixture::{eventually, open_namespaces, root, traces};
use netns_lab::find_labs;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const TOPOLOGY: &str = "[[pods]]\nname = \"web\"\ncpus = [0]\n[[pods]]\nname = \"client\"\n";

/// A topology on disk and a name that no other run has; takes its lab down when a test fails.
struct Setting {
    name: String,
    topology: tempfile::NamedTempFile,
}

impl Setting {
    fn new(test: &str) -> Self {
        let mut topology = tempfile::NamedTempFile::new().unwrap();
        topology.write_all(TOPOLOGY.as_bytes()).unwrap();
        let name = format!("cli-{test}-{}", std::process::id());
        Self { name, topology }
    }

    fn up(&self, more: &[&str]) -> Command {
        let mut command = netns_lab(&["up"]);
        command
            .arg(self.topology.path())
            .args(["--name", &self.name])
            .args(more);
        command
    }

    fn detached(test: &str) -> Self {
        let setting = Self::new(test);
        let output = setting.up(&["--detach"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let table = text(&output.stdout);
        assert!(
            table.contains("\nweb ") && table.contains("10.244.1.2"),
            "{table}"
        );
        setting
    }

    fn exec(&self, pod: &str, words: &[&str]) -> Output {
        netns_lab(&["exec", &self.name, pod, "--"])
            .args(words)
            .output()
            .unwrap()
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = netns_lab(&["down", &self.name]).output();
        }
    }
}

fn netns_lab(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netns-lab"));
    command.args(words);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_lab_is_held_used_and_taken_down_by_name() {
    if !root("a_lab_is_held_used_and_taken_down_by_name") {
        return;
    }
    let lab = Setting::detached("held");
    let output = lab.exec(
        "web",
        &[
            "sh",
            "-c",
            "cat /proc/self/status /proc/self/cgroup; echo $NETNS_LAB_POD; exit 7",
        ],
    );
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(7), "the command's own exit code");
    assert!(
        said.contains("Cpus_allowed_list:\t0\n") && said.ends_with("/web\nweb\n"),
        "{said}"
    );
    let links = |pod: &str| text(&lab.exec(pod, &["cat", "/proc/net/fib_trie"]).stdout);
    assert!(links("client").contains("10.244.1.2") && !links("web").contains("10.244.1.2"));

    let list = text(&netns_lab(&["list"]).output().unwrap().stdout);
    let line = list
        .lines()
        .find(|line| line.starts_with(&lab.name))
        .expect("it is listed");
    assert!(
        line.contains(" up ") && line.ends_with("client web"),
        "{line}"
    );
    let json: serde_json::Value =
        serde_json::from_slice(&netns_lab(&["list", "--json"]).output().unwrap().stdout).unwrap();
    assert!(
        json.as_array()
            .unwrap()
            .iter()
            .any(|row| row["name"] == lab.name.as_str())
    );

    let output = netns_lab(&["down", &lab.name]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // Gone when `down` returns; only the holder itself may still be on its way out.
    assert!(
        !find_labs()
            .unwrap()
            .iter()
            .any(|found| found.identity.id.starts_with(&lab.name))
    );
    eventually("traces", || traces(&lab.name));
}

#[test]
fn mistakes_are_told_in_one_line() {
    if !root("mistakes_are_told_in_one_line") {
        return;
    }
    let lab = Setting::detached("mistakes");
    let refused = |command: &mut Command, expected: &str| {
        let output = command.output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{message}");
        assert!(
            message.contains(expected) && message.lines().count() == 1,
            "{message:?} lacks {expected:?}"
        );
    };
    let name = &lab.name;
    refused(
        &mut lab.up(&[]),
        &format!("a lab named {name:?} is up already"),
    );
    refused(
        &mut netns_lab(&["exec", name, "db", "--", "true"]),
        "it has no pod \"db\"; pods are: web, client",
    );
    refused(
        &mut netns_lab(&["exec", name, "web", "--", "no-such-program"]),
        "can't run no-such-program in pod \"web\": No such file",
    );
    refused(
        &mut netns_lab(&["down", "nobody-has-this"]),
        "no lab named \"nobody-has-this\"",
    );
    refused(
        &mut netns_lab(&["up", "/no/such/file"]),
        "topology /no/such/file can't be read",
    );
    refused(
        netns_lab(&["up", "/dev/stdin"])
            .stdin(Stdio::null())
            .args(["--name", "B A D"]),
        "name \"B A D\" is not",
    );
    assert!(netns_lab(&["down", name]).status().unwrap().success());
}

/// Starts `up` in the foreground and waits until the lab is up.
fn foreground(lab: &Setting) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut holder = lab
        .up(&[])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(holder.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.starts_with("# lab "), "{line}");
    (holder, output)
}

#[test]
fn signals_end_a_lab_in_order() {
    if !root("signals_end_a_lab_in_order") {
        return;
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let lab = Setting::new("signal");
        let (mut holder, _output) = foreground(&lab);
        let sleep = netns_lab(&["exec", &lab.name, "web", "--", "sleep", "1000"]).spawn();
        let mut sleep = sleep.unwrap();
        eventually("sleep is in the lab", || {
            let found = find_labs()
                .unwrap()
                .into_iter()
                .find(|l| l.identity.id.starts_with(&lab.name));
            let inside = found.is_some_and(|l| l.processes.contains(&sleep.id()));
            inside.then_some(()).ok_or_else(|| "not yet".to_owned())
        });
        kill(Pid::from_raw(holder.id().cast_signed()), signal).unwrap();
        assert!(holder.wait().unwrap().success());
        assert!(!sleep.wait().unwrap().success());
        traces(&lab.name).unwrap();
    }
}

#[test]
fn doctor_tells_leftovers_from_labs_in_use() {
    if !root("doctor_tells_leftovers_from_labs_in_use") {
        return;
    }
    let lab = Setting::new("doctor");
    let (mut holder, _output) = foreground(&lab);
    let doctor = |more: &[&str]| {
        let output = netns_lab(&["doctor"]).args(more).output().unwrap();
        (
            output.status.code(),
            text(&output.stdout)
                .lines()
                .find(|l| l.contains(&lab.name))
                .map(str::to_owned),
        )
    };
    assert_eq!(doctor(&[]).1, None, "a lab in use is no leftover");
    // The guardian is the holder's only child.
    let pid = holder.id();
    let guardian = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    kill(
        Pid::from_raw(guardian.trim().parse().unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    assert!(!open_namespaces(pid).is_empty());
    holder.kill().unwrap();
    holder.wait().unwrap();
    let (code, line) = doctor(&[]);
    assert_eq!(code, Some(1));
    assert!(line.unwrap().starts_with("leftover: "));
    let (code, line) = doctor(&["--remove"]);
    assert_eq!(code, Some(0));
    assert!(line.unwrap().starts_with("removed: "));
    assert_eq!(doctor(&[]).1, None);
    traces(&lab.name).unwrap();
}
