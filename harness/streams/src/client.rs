//! The client: opens connections by plan until its time is up, then compares notes with the servers.

mod connection;
mod notes;
mod window;

pub use notes::fetch;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::churn;
use crate::finding::Tally;
use crate::server::{REPORT, Report};

/// What a client is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Seed of everything.
    pub seed: u64,
    /// How long new connections are opened, seconds.
    pub seconds: f64,
    /// How many connections are open at a time.
    pub workers: usize,
    /// Where to connect, IPv4; one after the other.
    pub targets: Vec<SocketAddr>,
    /// Where to connect, IPv6.
    pub targets6: Vec<SocketAddr>,
    /// The servers by name, at their own addresses, for their reports.
    pub servers: BTreeMap<String, SocketAddr>,
    /// Whether requests are routed one by one. If not, a connection has one server, whichever that is.
    pub routed: bool,
    /// File with the configuration generations in force, see [`churn`].
    pub generations: Option<PathBuf>,
    /// Only this connection of the plan.
    pub only: Option<u64>,
}

/// Does the job. Everything that is not as planned is in the tally.
///
/// # Errors
/// If the job's own files or a server's report can't be read.
pub fn run(job: &Job) -> anyhow::Result<Tally> {
    let generations = job.generations.as_ref().map(File::open).transpose()?;
    let world = connection::World {
        job,
        generations: generations.as_ref().map(churn::Reader),
    };
    let end = Instant::now() + Duration::from_secs_f64(job.seconds);
    let next = AtomicU64::new(0);
    let total = Mutex::new((Tally::default(), notes::Notes::default()));
    thread::scope(|scope| {
        for _ in 0..job.workers {
            scope.spawn(|| {
                while Instant::now() < end {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if job.only.is_some_and(|only| only < number) {
                        return;
                    }
                    if job.only.is_some_and(|only| only != number) {
                        continue;
                    }
                    let (tally, notes) = connection::run(&world, number, end);
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.0.add(tally);
                    total.1.add(notes);
                }
            });
        }
    });
    let (mut tally, notes) = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut reports: BTreeMap<&str, Report> = BTreeMap::new();
    for (name, address) in &job.servers {
        reports.insert(name, fetch(*address, REPORT)?);
    }
    notes.compare(&mut tally, &reports);
    for report in reports.into_values() {
        tally.add(report.tally);
    }
    Ok(tally)
}
