//! Clients that send without a pause, and what becomes of every request: served by a server that may serve it, with its
//! own number in the answer, or failed while a fault is announced. Anything else ends the test.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::http::{Client, Response};
use super::{Mesh, WEB, eventually};

/// One kind of client.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// How many of it.
    pub(crate) count: usize,
    /// Header lines of every request.
    pub(crate) headers: &'static str,
    /// Which servers may answer.
    pub(crate) servers: &'static [&'static str],
    /// Whether each request has a connection of its own.
    pub(crate) connects: bool,
}

/// What the clients of one kind came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests that were answered as they must be.
    pub(crate) served: AtomicU64,
    /// Requests that got 503 or the end of the connection instead.
    pub(crate) failed: AtomicU64,
    /// Connections that were not to be had.
    pub(crate) unconnected: AtomicU64,
}

impl Tally {
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }
}

/// A load while it runs.
pub(crate) struct Load<'m> {
    mesh: &'m Mesh,
    stop: AtomicBool,
    /// Odd while failures are allowed.
    faults: AtomicU64,
    /// One tally per kind.
    pub(crate) tallies: Vec<Tally>,
}

/// Keeps clients of these kinds busy while `work` goes on.
pub(crate) fn load(mesh: &Mesh, kinds: &[Kind], work: impl FnOnce(&Load<'_>)) -> Vec<Tally> {
    let load = Load {
        mesh,
        stop: AtomicBool::new(false),
        faults: AtomicU64::new(0),
        tallies: kinds.iter().map(|_| Tally::default()).collect(),
    };
    thread::scope(|scope| {
        // However this ends, the clients stop.
        let _stopping = Stopping(&load.stop);
        for (index, kind) in kinds.iter().enumerate() {
            for number in 0..kind.count {
                let load = &load;
                scope.spawn(move || load.client(index, *kind, number));
            }
        }
        load.goes_on();
        work(&load);
    });
    load.tallies
}

/// Tells the clients to stop.
pub(crate) struct Stopping<'s>(pub(crate) &'s AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Load<'_> {
    /// Requests may fail from here on.
    pub(crate) fn fault(&self) {
        assert!(self.faults.fetch_add(1, Ordering::SeqCst).is_multiple_of(2));
    }

    /// No request that begins from here on may fail.
    pub(crate) fn mended(&self) {
        assert!(!self.faults.fetch_add(1, Ordering::SeqCst).is_multiple_of(2));
    }

    /// Waits until every kind of client was served some more.
    pub(crate) fn goes_on(&self) {
        for index in 0..self.tallies.len() {
            self.serves(index, 50);
        }
    }

    /// Waits until the clients of one kind were served so many more times.
    pub(crate) fn serves(&self, kind: usize, more: u64) {
        let before = self.tallies[kind].served();
        eventually("load goes on", || {
            let now = self.tallies[kind].served();
            let enough = now >= before + more || self.stop.load(Ordering::SeqCst);
            enough
                .then_some(())
                .ok_or(format!("{before} then {now} requests of kind {kind}"))
        });
    }

    fn client(&self, index: usize, kind: Kind, number: usize) {
        // A client that gives up ends the load: the others would go on for ever.
        let watch = StopOnPanic(&self.stop);
        let tally = &self.tallies[index];
        let mut connection = None;
        for turn in 0_u64.. {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            let before = self.faults.load(Ordering::SeqCst);
            let allowed = || {
                let after = self.faults.load(Ordering::SeqCst);
                !before.is_multiple_of(2) || after != before
            };
            let mut client = match connection.take() {
                Some(client) => client,
                None => match self.mesh.client.connect(self.mesh.vip(WEB)) {
                    Ok(stream) => Client::new(stream),
                    Err(error) => {
                        assert!(allowed(), "connect: {error}");
                        tally.unconnected.fetch_add(1, Ordering::SeqCst);
                        thread::park_timeout(Duration::from_millis(1));
                        continue;
                    }
                },
            };
            let seq = format!("{index}-{number}-{turn}");
            let headers = format!("{}x-request-seq: {seq}\r\n", kind.headers);
            if served(client.try_get("/", &headers), &seq, kind.servers, allowed) {
                tally.served.fetch_add(1, Ordering::SeqCst);
                connection = (!kind.connects).then_some(client);
            } else {
                tally.failed.fetch_add(1, Ordering::SeqCst);
            }
        }
        drop(watch);
    }
}

/// Whether the request was served; panics if what happened instead is not allowed.
fn served(
    outcome: io::Result<Response>,
    seq: &str,
    servers: &[&str],
    allowed: impl Fn() -> bool,
) -> bool {
    match outcome {
        Ok(response) if response.status == 200 => {
            assert_eq!(
                response.header("x-request-seq"),
                seq,
                "somebody else's answer"
            );
            let server = response.server();
            assert!(servers.contains(&server), "{seq} was served by {server}");
            true
        }
        Ok(response) => {
            assert_eq!(response.status, 503, "{seq}: {:?}", response.headers);
            assert!(allowed(), "{seq}: 503: {:?}", response.headers);
            false
        }
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "{seq} hangs");
            assert!(allowed(), "{seq}: {error}");
            false
        }
    }
}

struct StopOnPanic<'s>(&'s AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}
