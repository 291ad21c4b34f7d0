//! The promise that matters most: a lab whose process is killed leaves nothing, whenever that happens.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

mod fixture;

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use fixture::{
    HOLDER, eventually, holders, lab_links_here, open_namespaces, root, topology, traces,
};
use netns_lab::{Lab, OwnerState, find_labs};

const KILLS: u32 = 20;

/// Not a test of its own: started by the tests below as a process of its own, holds a lab with running
/// programs until it is killed.
#[test]
fn holder() {
    let Ok(name) = std::env::var(HOLDER) else {
        return;
    };
    println!("go");
    let lab = Lab::up(&topology(&name, 10)).unwrap();
    let mut children = Vec::new();
    for pod in lab.pods() {
        let mut shell = pod.command("sh");
        // A program that forks, and one that leaves its session and its parent.
        shell
            .args(["-c", "setsid sleep 1000 & sleep 1000"])
            .stdout(Stdio::null());
        children.push(pod.spawn(shell).unwrap());
    }
    println!("up {}", lab.guardian_pid().unwrap());
    loop {
        thread::park();
    }
}

struct Holder {
    process: Child,
    lines: Receiver<String>,
}

impl Holder {
    /// Starts a holder, which is about to build its lab when this returns.
    fn start(name: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "holder", "--nocapture"])
            .env(HOLDER, name)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| send.send(line))
        });
        let holder = Self { process, lines };
        holder
            .line("go", Duration::from_secs(20))
            .expect("the holder starts");
        holder
    }

    /// The rest of the first line that holds this word, unless it takes longer than `patience`.
    fn line(&self, word: &str, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        loop {
            let line = self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .ok()?;
            if let Some((_, rest)) = line.split_once(word) {
                return Some(rest.trim().to_owned());
            }
        }
    }

    /// SIGKILL. Returns the namespaces that the process had open just before.
    fn kill(mut self) -> HashSet<u64> {
        let namespaces = open_namespaces(self.process.id());
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        namespaces
    }
}

fn nothing_is_left(name: &str, namespaces: &HashSet<u64>) {
    eventually("traces", || traces(name));
    eventually("namespaces", || match holders(namespaces).as_slice() {
        [] => Ok(()),
        some => Err(format!("{some:?}")),
    });
    assert!(lab_links_here().is_empty());
}

#[test]
fn sigkill_at_twenty_random_moments_leaves_nothing() {
    if !root("sigkill_at_twenty_random_moments_leaves_nothing") {
        return;
    }
    let prefix = format!("kill{}-", std::process::id());
    let calibration = format!("{prefix}cal");
    let holder = Holder::start(&calibration);
    let started = Instant::now();
    holder
        .line("up", Duration::from_secs(20))
        .expect("the lab comes up");
    let full = started.elapsed();
    // Before it is killed there is something to be found: the search can fail.
    traces(&calibration).unwrap_err();
    let namespaces = holder.kill();
    assert_eq!(namespaces.len(), 11, "ten pods and the switch");
    nothing_is_left(&calibration, &namespaces);

    let (mut during, mut after) = (0, 0);
    for round in 0..KILLS {
        let name = format!("{prefix}r{round}");
        let holder = Holder::start(&name);
        // Spread over one and a half times the set-up, with a random part in each slot.
        let random =
            f64::from(u32::from_str_radix(&random_hex(), 16).unwrap()) / f64::from(u32::MAX);
        let moment = full.mul_f64(1.5 * (f64::from(round) + random) / f64::from(KILLS));
        let began = Instant::now();
        match holder.line("up", moment) {
            Some(_) => {
                // Up already: the rest of the time passes with the lab running.
                let rest = moment.saturating_sub(began.elapsed());
                assert_eq!(holder.line("never printed", rest), None);
                after += 1;
            }
            None => during += 1,
        }
        let namespaces = holder.kill();
        nothing_is_left(&name, &namespaces);
    }
    println!("{KILLS} kills: {during} during a set-up of {full:?}, {after} after it; nothing left");
    assert!(during > 0 && after > 0, "{during} during, {after} after");
}

#[test]
fn what_a_killed_guardian_leaves_is_found_and_removed() {
    if !root("what_a_killed_guardian_leaves_is_found_and_removed") {
        return;
    }
    let name = format!("orphan{}", std::process::id());
    let holder = Holder::start(&name);
    let guardian = holder
        .line("up", Duration::from_secs(20))
        .expect("the lab comes up");
    let guardian = nix::unistd::Pid::from_raw(guardian.parse().unwrap());
    let find = || {
        find_labs()
            .unwrap()
            .into_iter()
            .find(|lab| lab.identity.id.starts_with(&name))
    };
    let running = find().expect("the lab is listed");
    assert_eq!(
        (running.state, running.members.len()),
        (OwnerState::Alive, 10)
    );
    assert!(
        !running.remove_leftover().unwrap(),
        "a lab in use is not touched"
    );
    // More may have started since: the lab is young. None may be gone.
    let now = find().unwrap().processes;
    assert!(
        running.processes.iter().all(|pid| now.contains(pid)),
        "{:?} became {now:?}",
        running.processes
    );

    nix::sys::signal::kill(guardian, nix::sys::signal::Signal::SIGKILL).unwrap();
    let namespaces = holder.kill();
    let left = find().expect("the cgroup is left");
    assert!(left.is_leftover());
    // The programs that the holder started die with it even so; the ones they started are what the cgroup is for.
    eventually("shells", || {
        let shell = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sh\n")
        };
        match find().unwrap().processes.into_iter().find(shell) {
            Some(pid) => Err(format!("sh {pid} still runs")),
            None => Ok(()),
        }
    });
    assert!(!find().unwrap().processes.is_empty());
    assert!(left.remove_leftover().unwrap());
    nothing_is_left(&name, &namespaces);
}

fn random_hex() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    id[..8].to_owned()
}
