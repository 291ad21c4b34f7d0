//! The daemon ends under load, by SIGTERM and by SIGKILL, and starts again.
//!
//! Stated bounds. A keep-alive client loses the request that was in flight, and one more if its next connection reached an
//! anchor that was closing. While the daemon is away a new connection is refused: with `--when-gone open` by whoever owns
//! the original address (here nobody), with `closed` by `EPERM` as soon as the guard has seen the end. Opaque connections
//! lose nothing. Once the daemon is ready again, no request fails, the kernel carries them, and of the daemon that ended
//! nothing is left: programs, maps, links, processes, sockets. `--replace` fails no request at all: `root_replace.rs`.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use lab::load::{Kind, Stopping, load};
use lab::objects::{held, left};
use lab::{LOCAL, Mesh, TCP, WEB, eventually, root};
use nix::sys::signal::Signal;

/// Clients that keep their connection, and clients that make one for every request.
const KINDS: [Kind; 2] = [
    Kind {
        count: 4,
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
/// Most requests that a client may lose to one end of the daemon.
const LOST_MAX: u64 = 2;

#[test]
fn a_daemon_that_is_terminated_under_load_comes_back() {
    if root("a_daemon_that_is_terminated_under_load_comes_back") {
        ends_and_comes_back("term", Signal::SIGTERM, "open", "shortcut");
    }
}

#[test]
fn a_daemon_that_is_killed_under_load_comes_back() {
    if root("a_daemon_that_is_killed_under_load_comes_back") {
        ends_and_comes_back("kill-open", Signal::SIGKILL, "open", "shortcut");
    }
}

#[test]
fn a_daemon_that_is_killed_under_load_leaves_its_services_closed_until_it_comes_back() {
    if root("a_daemon_that_is_killed_under_load_leaves_its_services_closed_until_it_comes_back") {
        ends_and_comes_back("kill-closed", Signal::SIGKILL, "closed", "shortcut");
    }
}

/// Its clients learn of their anchors' end by packets, which programs of the daemon that is killed must bring.
#[test]
fn a_daemon_of_spliced_clients_that_is_killed_under_load_comes_back() {
    if root("a_daemon_of_spliced_clients_that_is_killed_under_load_comes_back") {
        ends_and_comes_back("kill-splice", Signal::SIGKILL, "open", "splice");
    }
}

fn ends_and_comes_back(test: &str, signal: Signal, policy: &str, path: &str) {
    let arguments = ["--when-gone", policy, "--path", path];
    let mut mesh = Mesh::bare(test);
    mesh.configure(&mesh.standard());
    mesh.enrol(&LOCAL);
    mesh.start_with(&arguments);
    for server in lab::SERVERS {
        mesh.serve(server);
    }
    let mut daemon = mesh.daemon.take().unwrap();
    let echo = Echo::new(&mesh);
    let tallies = thread::scope(|scope| {
        let _stopping = Stopping(&echo.stop);
        scope.spawn(|| echo.exchange());
        load(&mesh, &KINDS, |load| {
            let objects = held(daemon.child.id());
            load.fault();
            daemon.end(signal);
            eventually("new connections are refused as declared", || {
                refused(&mesh, policy == "closed")
            });
            echo.goes_on();
            daemon = mesh.launch(&arguments);
            load.mended();
            load.goes_on();
            eventually("the kernel carries requests again", || {
                let requests = mesh.requests();
                (requests.kernel > 100)
                    .then_some(())
                    .ok_or(format!("{requests:?}"))
            });
            echo.goes_on();
            eventually("nothing of the daemon that ended is left", || {
                let left = left(&objects);
                left.is_empty().then_some(()).ok_or(format!("{left:?}"))
            });
        })
    });
    for (kind, tally) in KINDS.iter().zip(&tallies) {
        let most = LOST_MAX * kind.count as u64;
        assert!(tally.failed() <= most, "more than {most}: {tally:?}");
    }
    let leases = mesh.status().leases;
    assert!(leases.violations.is_empty(), "{leases:?}");
    daemon.end(Signal::SIGTERM);
    eventually("no process is left", || {
        let processes = mesh.daemon_processes();
        processes
            .is_empty()
            .then_some(())
            .ok_or(format!("{processes:?}"))
    });
    drop(echo);
    eventually("no socket is left", || {
        let sockets = mesh.sockets("client");
        sockets.is_empty().then_some(()).ok_or(sockets.join("\n"))
    });
}

/// Whether a connection to the anchored service is refused as declared.
fn refused(mesh: &Mesh, closed: bool) -> Result<(), String> {
    match mesh.client.connect(mesh.vip(WEB)) {
        Ok(_) => Err("connected".to_owned()),
        Err(error) => {
            let is_closed = error.kind() == ErrorKind::PermissionDenied;
            (is_closed == closed).then_some(()).ok_or(error.to_string())
        }
    }
}

/// A connection to the opaque service that is in use all the time.
struct Echo {
    stream: TcpStream,
    stop: AtomicBool,
    count: AtomicU64,
}

impl Echo {
    fn new(mesh: &Mesh) -> Self {
        let mut stream = mesh.client.connect(mesh.vip(TCP)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut banner = [0; 3];
        stream.read_exact(&mut banner).unwrap();
        assert_eq!(&banner, b"s2\n");
        Self {
            stream,
            stop: AtomicBool::new(false),
            count: AtomicU64::new(0),
        }
    }

    /// Sends numbers and reads them back until told to stop.
    fn exchange(&self) {
        for number in 0_u64.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let mut back = [0; 8];
            (&self.stream).write_all(&number.to_ne_bytes()).unwrap();
            (&self.stream).read_exact(&mut back).unwrap();
            assert_eq!(u64::from_ne_bytes(back), number);
            self.count.store(number, Ordering::SeqCst);
        }
    }

    fn goes_on(&self) {
        let before = self.count.load(Ordering::SeqCst);
        eventually("opaque connections go on", || {
            let now = self.count.load(Ordering::SeqCst);
            (now > before + 20)
                .then_some(())
                .ok_or(format!("{now} exchanges"))
        });
    }
}
