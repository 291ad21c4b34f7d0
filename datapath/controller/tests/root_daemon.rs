//! The daemon outlives what happens around it, goes on following its files, and says what it cannot do.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use kmesh_controller::privilege;
use kmesh_probe::client::{RUN_DIR, socket};
use lab::config::cluster;
use lab::load::{Kind, load};
use lab::{Daemon, LOCAL, Mesh, SERVERS, eventually, root};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Clients that keep their connection, and clients that make one for every request.
const KINDS: [Kind; 2] = [
    Kind {
        count: 3,
        headers: "",
        servers: &["s1", "s2"],
        connects: false,
    },
    Kind {
        count: 2,
        headers: "end-user: jason\r\n",
        servers: &["s3"],
        connects: true,
    },
];

fn signal(daemon: &Daemon, signal: Signal) {
    kill(Pid::from_raw(daemon.child.id() as i32), signal).unwrap();
}

/// A mesh with its daemon started by a changed command.
fn mesh(test: &str, change: impl FnOnce(&mut Command)) -> Mesh {
    let mut mesh = Mesh::bare(test);
    mesh.configure(&mesh.standard());
    mesh.enrol(&LOCAL);
    let mut command = mesh.command(&mesh.name);
    change(&mut command);
    mesh.daemon = Some(mesh.launch_command(command));
    for server in SERVERS {
        mesh.serve(server);
    }
    mesh
}

/// Makes the configuration, whatever stands there, a good one again, which is not the one that was good `number` - 1.
fn mend(mesh: &Mesh, number: u64) {
    let path = mesh.config_path();
    if path.is_dir() {
        fs::remove_dir(&path).unwrap();
    }
    let mut resources = mesh.standard();
    let clusters = resources["static_resources"]["clusters"].as_array_mut();
    clusters
        .unwrap()
        .push(cluster(&format!("spare-{number}"), &[]));
    mesh.configure(&resources);
}

/// What may stand where the configuration should, and what the refusal says.
const SPOILT: [(&str, &str); 6] = [
    ("pipe", "is a pipe"),
    ("gone", "cannot read"),
    ("huge", "has more than"),
    ("folder", "is a directory"),
    ("open", "anybody may write"),
    ("garbled", "is not UTF-8"),
];

fn spoil(path: &Path, what: &str) {
    if what == "open" {
        return fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
    }
    fs::remove_file(path).unwrap();
    match what {
        "pipe" => nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap(),
        "huge" => File::create(path).unwrap().set_len(65 << 20).unwrap(),
        "folder" => fs::create_dir(path).unwrap(),
        "garbled" => fs::write(path, [0xff; 100]).unwrap(),
        _ => {}
    }
}

#[test]
fn whatever_stands_in_the_configurations_place_is_refused_and_the_next_good_one_taken() {
    if !root("whatever_stands_in_the_configurations_place_is_refused_and_the_next_good_one_taken") {
        return;
    }
    let mesh = Mesh::local("spoilt");
    let mut client = mesh.connect();
    mesh.warm(&mut client, &[("/one", "")]);
    for (number, (what, wanted)) in (2..).zip(SPOILT) {
        spoil(&mesh.config_path(), what);
        mesh.refused(wanted);
        assert_eq!(client.get("/one", "").server(), "s1", "{what}");
        mend(&mesh, number);
        mesh.generation(number);
    }
    // A pods file that is gone releases nobody.
    fs::remove_file(mesh.pods_path()).unwrap();
    mesh.refused("pods.json");
    mesh.enrolled(&LOCAL);
    mesh.enrol(&SERVERS);
    mesh.enrolled(&SERVERS);
}

#[test]
fn a_folder_that_is_replaced_is_followed_where_it_is_now() {
    if !root("a_folder_that_is_replaced_is_followed_where_it_is_now") {
        return;
    }
    let mesh = Mesh::local("moved");
    let folder = mesh.dir.path();
    let away = folder.with_extension("away");
    fs::rename(folder, &away).unwrap();
    mesh.refused("cannot read");
    fs::create_dir(folder).unwrap();
    mesh.configure(&mesh.resources_with("canary"));
    mesh.enrol(&SERVERS);
    mesh.generation(2);
    mesh.enrolled(&SERVERS);
    // A clock that jumped: what is new is not what is later.
    let new = folder.join("new");
    fs::write(&new, mesh.standard().to_string()).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let file = File::options().write(true).open(&new).unwrap();
    file.set_modified(long_ago).unwrap();
    fs::rename(&new, mesh.config_path()).unwrap();
    mesh.generation(3);
    fs::remove_dir_all(&away).unwrap();
}

#[test]
fn a_hangup_has_both_files_read_again() {
    if !root("a_hangup_has_both_files_read_again") {
        return;
    }
    let mesh = Mesh::local("hangup");
    let mut client = mesh.connect();
    for number in 1..4 {
        signal(mesh.daemon.as_ref().unwrap(), Signal::SIGHUP);
        eventually("the configuration is read again", || {
            let log = fs::read_to_string(mesh.log_path()).unwrap();
            let read = log.matches("read again: nothing changed").count();
            (read == number).then_some(()).ok_or(log)
        });
    }
    assert_eq!(mesh.status().generation, 1);
    assert_eq!(client.get("/one", "").server(), "s1");
}

/// What the daemon's standard error may be.
fn stderr(kind: &str) -> (Stdio, Option<io::PipeReader>) {
    match kind {
        "full" => (
            File::options()
                .write(true)
                .open("/dev/full")
                .unwrap()
                .into(),
            None,
        ),
        "unread" => {
            let (reader, writer) = io::pipe().unwrap();
            (writer.into(), Some(reader))
        }
        _ => (io::pipe().unwrap().1.into(), None),
    }
}

/// Says what is no call, until the daemon hangs up; it has a line about that.
fn babble(admin: &Path) {
    let mut stream = UnixStream::connect(admin).unwrap();
    stream.write_all(b"what\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing_and_the_status_says_so() {
    if !root("a_log_that_cannot_be_written_stops_nothing_and_the_status_says_so") {
        return;
    }
    for kind in ["full", "unread", "closed"] {
        let (log, reader) = stderr(kind);
        let mesh = mesh(kind, |command| {
            command
                .stderr(log)
                .env("KMESH_LOG", "kmesh_controller=debug");
        });
        let admin = socket(Path::new(RUN_DIR), &mesh.name, "admin").unwrap();
        let mut client = mesh.connect();
        eventually("lines are lost", || {
            // More lines than a pipe and the queue hold.
            for _ in 0..500 {
                babble(&admin);
            }
            assert_eq!(client.get("/one", "").server(), "s1", "{kind}");
            let log = mesh.status().log;
            let lost = if kind == "unread" {
                log.dropped
            } else {
                log.failed
            };
            (lost > 0).then_some(()).ok_or(format!("{kind}: {log:?}"))
        });
        mesh.configure(&mesh.resources_with("canary"));
        mesh.generation(2);
        mesh.enrolled(&LOCAL);
        assert_eq!(mesh.connect().get("/", "").server(), "s3", "{kind}");
        if let Some(mut reader) = reader {
            // Whoever reads again hears how much was lost.
            let mut text = vec![0; 1 << 20];
            let mut heard = String::new();
            while !heard.contains("lines of the log were dropped here") {
                let count = reader.read(&mut text).unwrap();
                heard += &String::from_utf8_lossy(&text[..count]);
            }
        }
    }
}

#[test]
fn a_log_in_a_file_has_no_colours() {
    if !root("a_log_in_a_file_has_no_colours") {
        return;
    }
    let mesh = Mesh::local("colours");
    let log = fs::read(mesh.log_path()).unwrap();
    assert!(log.windows(8).any(|word| word == b"enrolled"));
    assert!(!log.contains(&0x1b), "{}", String::from_utf8_lossy(&log));
}

/// Descriptors that a daemon has at most here.
const DESCRIPTORS: u64 = 256;

#[test]
fn a_daemon_without_descriptors_answers_and_follows_and_recovers() {
    if !root("a_daemon_without_descriptors_answers_and_follows_and_recovers") {
        return;
    }
    let limit = libc::rlimit {
        rlim_cur: DESCRIPTORS,
        rlim_max: DESCRIPTORS,
    };
    let mesh = mesh("descriptors", |command| {
        // SAFETY: one system call between fork and exec.
        unsafe {
            command.pre_exec(move || {
                let failed = libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                if failed == 0 {
                    Ok(())
                } else {
                    Err(io::Error::last_os_error())
                }
            });
        }
    });
    let clients: Vec<_> = (0..DESCRIPTORS).map(|_| mesh.connect()).collect();
    for _ in 0..20 {
        assert_eq!(mesh.status().pods, LOCAL);
    }
    mesh.configure(&mesh.resources_with("canary"));
    assert_eq!(mesh.status().pods, LOCAL);
    drop(clients);
    mesh.generation(2);
    eventually("clients are served again", || {
        let served = mesh
            .connect()
            .try_get("/", "")
            .map_err(|error| error.to_string())?;
        (served.status == 200)
            .then_some(())
            .ok_or(format!("{served:?}"))
    });
}

#[test]
fn control_sockets_are_for_the_daemons_user_alone() {
    if !root("control_sockets_are_for_the_daemons_user_alone") {
        return;
    }
    let mut mesh = Mesh::bare("sockets");
    mesh.configure(&mesh.standard());
    mesh.enrol(&LOCAL[..1]);
    mesh.start_with(&["--when-gone", "closed"]);
    for kind in ["admin", "guard"] {
        let path = socket(Path::new(RUN_DIR), &mesh.name, kind).unwrap();
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(Path::new(RUN_DIR)), 0o700);
        // Even one who gets hold of the socket.
        assert_eq!(answered(&path, 65534), "", "{kind} to a stranger");
        assert_eq!(answered(&path, 0), "no such resource", "{kind} to root");
    }
    mesh.stop(Signal::SIGTERM);
    let path = socket(Path::new(RUN_DIR), &mesh.name, "admin").unwrap();
    assert!(!path.exists(), "an orderly end leaves no socket");
}

/// What a process of the user that was handed the folder is answered, whatever the socket's mode.
fn answered(path: &Path, user: libc::uid_t) -> String {
    let folder = File::open(path.parent().unwrap()).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--max-time", "10", "--unix-socket"])
        .arg(path.file_name().unwrap())
        .arg("http://kmeshd/nothing");
    // SAFETY: two system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::fchdir(&folder)?;
            // Not `setgroups` and the like: the user is what is asked for.
            if libc::setresuid(user, user, user) == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
    let output = command.output().unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The capabilities of a process, by number.
fn capabilities(pid: u32, kind: &str) -> BTreeSet<u8> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(kind))
        .unwrap();
    let bits = u64::from_str_radix(line.trim(), 16).unwrap();
    (0..64).filter(|bit| bits >> bit & 1 == 1).collect()
}

fn numbers(needs: &[privilege::Need]) -> BTreeSet<u8> {
    needs.iter().map(|need| need.capability.index()).collect()
}

#[test]
fn the_daemon_and_its_guard_have_the_capabilities_that_are_listed() {
    if !root("the_daemon_and_its_guard_have_the_capabilities_that_are_listed") {
        return;
    }
    let mut mesh = Mesh::bare("capabilities");
    mesh.configure(&mesh.standard());
    mesh.enrol(&LOCAL);
    mesh.start_with(&["--when-gone", "closed"]);
    let daemon = mesh.daemon.as_ref().unwrap().child.id();
    for pid in mesh.daemon_processes() {
        let (wanted, who) = if pid == daemon {
            (numbers(&privilege::DAEMON), "daemon")
        } else {
            (numbers(&privilege::GUARD), "guard")
        };
        for kind in ["CapPrm:", "CapEff:"] {
            assert_eq!(capabilities(pid, kind), wanted, "{who} {kind}");
        }
        // What nothing that is executed can get back.
        let bound = capabilities(pid, "CapBnd:");
        assert_eq!(bound, numbers(&privilege::DAEMON), "{who}");
        for kind in ["CapInh:", "CapAmb:"] {
            assert_eq!(capabilities(pid, kind), BTreeSet::new(), "{who} {kind}");
        }
        for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let thread = thread.unwrap().file_name();
            let thread: u32 = thread.to_str().unwrap().parse().unwrap();
            assert_eq!(
                capabilities(thread, "CapEff:"),
                wanted,
                "thread of the {who}"
            );
        }
    }
}

/// Each of the listed capabilities is needed: without it the daemon does not enrol a pod, or does not read its configuration.
#[test]
fn no_listed_capability_can_be_spared() {
    if !root("no_listed_capability_can_be_spared") {
        return;
    }
    for need in &privilege::DAEMON {
        let mesh = Mesh::bare("spared");
        mesh.configure(&mesh.standard());
        // Somebody else's file, which a user who is root by name only cannot read.
        std::os::unix::fs::chown(mesh.config_path(), Some(65534), Some(65534)).unwrap();
        fs::set_permissions(mesh.config_path(), Permissions::from_mode(0o600)).unwrap();
        mesh.enrol(&LOCAL[..1]);
        let handler = |mut connection: lab::raw::Connection| {
            while connection.request().is_some() {
                connection.answer(&["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"]);
            }
        };
        let _server = lab::raw::serve(&mesh, handler);
        let works = |spared: Option<libc::c_ulong>| {
            let mut command = mesh.command(&mesh.name);
            command.stdout(Stdio::piped());
            if let Some(spared) = spared {
                // SAFETY: one system call between fork and exec.
                unsafe {
                    command.pre_exec(move || match libc::prctl(libc::PR_CAPBSET_DROP, spared) {
                        0 => Ok(()),
                        _ => Err(io::Error::last_os_error()),
                    });
                }
            }
            let child = mesh.lab.spawn(command).unwrap();
            let Some(_daemon) = Daemon::ready(child) else {
                return false;
            };
            let status = mesh.status();
            status.pods == LOCAL[..1] && status.refused.is_none() && uses_all(&mesh)
        };
        assert!(works(None), "{}: it works with all", need.line);
        let number = libc::c_ulong::from(need.capability.index());
        assert!(!works(Some(number)), "{}: {}", need.capability, need.line);
    }
}

/// Whether an upstream gets to the kernel: the last that a capability is needed for.
fn uses_all(mesh: &Mesh) -> bool {
    let mut client = mesh.connect();
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        if client.try_get("/raw", "").is_err() {
            return false;
        }
        if mesh.requests().kernel > 0 {
            return true;
        }
    }
    false
}

/// Rounds of [`faults_under_load_cost_nothing_and_everything_is_followed_again`], unless `KMESH_ROUNDS` says otherwise.
const ROUNDS: usize = 12;

/// `KMESH_SEED` repeats a run.
#[test]
fn faults_under_load_cost_nothing_and_everything_is_followed_again() {
    if !root("faults_under_load_cost_nothing_and_everything_is_followed_again") {
        return;
    }
    let from_env = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = from_env("KMESH_SEED").unwrap_or_else(|| rand::rng().random());
    let rounds = from_env("KMESH_ROUNDS").map_or(ROUNDS, |rounds| rounds as usize);
    println!("KMESH_SEED={seed} KMESH_ROUNDS={rounds}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut mesh = Mesh::local("rounds");
    let mut daemon = mesh.daemon.take().unwrap();
    let mut replaced = Vec::new();
    let mut mended = 1;
    let tallies = load(&mesh, &KINDS, |load| {
        for round in 0..rounds {
            let before = mesh.status().generation;
            let fault = random.random_range(0..7);
            println!("round {round}: fault {fault}");
            let after = match fault {
                0 => {
                    load.fault();
                    daemon.end(Signal::SIGKILL);
                    daemon = mesh.launch(&[]);
                    load.mended();
                    1
                }
                1 => {
                    signal(&daemon, Signal::SIGSTOP);
                    std::thread::park_timeout(Duration::from_millis(random.random_range(1..300)));
                    signal(&daemon, Signal::SIGCONT);
                    before
                }
                2 => {
                    signal(&daemon, Signal::SIGHUP);
                    before
                }
                3 | 4 => {
                    let (what, wanted) = SPOILT[random.random_range(0..SPOILT.len())];
                    spoil(&mesh.config_path(), what);
                    mesh.refused(wanted);
                    mended += 1;
                    mend(&mesh, mended);
                    before + 1
                }
                5 => {
                    let mut entries: Vec<_> = LOCAL.map(|name| mesh.entry(name)).into();
                    let pod = random.random_range(0..LOCAL.len());
                    entries[pod]["netns"] = "/nonexistent/path".into();
                    mesh.enrol_entries(&entries);
                    mesh.refused(LOCAL[pod]);
                    mesh.enrol(&LOCAL);
                    before
                }
                _ => {
                    // They stay with the clients that they have.
                    replaced.push(std::mem::replace(&mut daemon, mesh.successor()));
                    1
                }
            };
            eventually("everything is followed again", || {
                let status = mesh.status();
                let good = status.generation >= after
                    && status.refused.is_none()
                    && status.down.is_empty()
                    && status.pods == LOCAL;
                good.then_some(()).ok_or(status.to_string())
            });
            load.goes_on();
        }
    });
    for (kind, tally) in KINDS.iter().zip(&tallies) {
        println!("{} clients: {tally:?}", kind.count);
    }
    let leases = mesh.status().leases;
    assert!(leases.violations.is_empty(), "{leases:?}");
    drop(daemon);
}
