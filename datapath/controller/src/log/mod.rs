//! The log: lines on standard error, written by a thread of its own.
//!
//! Whoever should read them may not: a pipe that is full, a disk that is, a terminal that is gone. So nobody waits for a line to be
//! written; what finds no room is dropped and counted, and so is what could not be written.

mod throttle;

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use kmesh_probe::status::LogCounts;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

pub use self::throttle::Throttle;

/// Lines that may wait.
const LINES_MAX: usize = 1024;
/// Longest line, bytes; the rest of a longer one is cut off.
const LINE_MAX: usize = 16 << 10;

/// This process's log.
static LOG: OnceLock<Log> = OnceLock::new();

/// A log and its thread.
#[derive(Clone)]
struct Log {
    lines: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Those that found room.
    queued: AtomicU64,
    /// Those of them that the thread has done with, and who waits for that.
    done: Mutex<u64>,
    progress: Condvar,
    written: AtomicU64,
    /// There was no room for them.
    dropped: AtomicU64,
    /// They could not be written.
    failed: AtomicU64,
    /// Why the last of those could not.
    error: Mutex<Option<String>>,
}

impl Log {
    /// A log that writes to `out`.
    fn begin(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, queue) = sync_channel(LINES_MAX);
        let counts = Arc::<Counts>::default();
        let counted = Arc::clone(&counts);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(out, &queue, &counted))?;
        Ok(Self { lines, counts })
    }

    fn line(&self, line: &[u8]) {
        let mut line = line.to_vec();
        if line.len() > LINE_MAX {
            line.truncate(LINE_MAX);
            line.push(b'\n');
        }
        let counted = match self.lines.try_send(line) {
            Ok(()) => &self.counts.queued,
            // The thread lives as long as this: it is full.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => &self.counts.dropped,
        };
        counted.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until what was said so far has been written, but not longer than `patience`.
    fn flush(&self, patience: Duration) {
        let queued = self.counts.queued.load(Ordering::Relaxed);
        let done = lock(&self.counts.done);
        // Whether or not: there is nobody to tell.
        let _ = (self.counts.progress).wait_timeout_while(done, patience, |done| *done < queued);
    }

    fn counts(&self) -> LogCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        LogCounts {
            written: of(&counts.written),
            dropped: of(&counts.dropped),
            failed: of(&counts.failed),
            error: lock(&counts.error).clone(),
        }
    }
}

/// Writes what comes, and how many lines did not come.
fn write(mut out: impl Write, queue: &Receiver<Vec<u8>>, counts: &Counts) {
    let mut told = 0;
    for line in queue {
        let dropped = counts.dropped.load(Ordering::Relaxed);
        let mut outcome = Ok(());
        if dropped > told {
            outcome = writeln!(out, "{} lines of the log were dropped here", dropped - told);
            told = dropped;
        }
        match outcome.and_then(|()| out.write_all(&line)) {
            Ok(()) => {
                counts.written.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                *lock(&counts.error) = Some(error.to_string());
            }
        }
        *lock(&counts.done) += 1;
        counts.progress.notify_all();
    }
}

/// What a mutex holds: each of these is whole between any two steps, also of a thread that panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a line goes.
struct Line<'l>(&'l Log);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'l> MakeWriter<'l> for Log {
    type Writer = Line<'l>;

    fn make_writer(&'l self) -> Self::Writer {
        Line(self)
    }
}

/// Begins the log of this process: what `KMESH_LOG` lets through, on standard error, in colour on a terminal only.
///
/// # Errors
/// If there is no thread or descriptor to be had.
pub fn begin() -> io::Result<()> {
    // Of its own: a thread that waits in a write must not keep the standard library's lock.
    let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let colours = out.is_terminal();
    let log = LOG.get_or_init({
        let log = Log::begin(out)?;
        || log
    });
    tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(colours)
        .with_env_filter(
            EnvFilter::try_from_env("KMESH_LOG").unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .init();
    Ok(())
}

/// Has what was said written before the process ends, if that can be had within a second.
pub fn end() {
    if let Some(log) = LOG.get() {
        log.flush(Duration::from_secs(1));
    }
}

/// Says something, whatever is let through.
pub fn say(line: &str) {
    if let Some(log) = LOG.get() {
        log.line(format!("{line}\n").as_bytes());
    }
}

/// What became of the lines.
pub fn counts() -> LogCounts {
    LOG.get().map(Log::counts).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn nobody_waits_for_a_reader_and_what_is_dropped_is_counted_and_told() {
        let (mut reader, writer) = io::pipe().unwrap();
        let log = Log::begin(writer).unwrap();
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        // More than the pipe and the queue hold.
        let lines = LINES_MAX as u64 + 2000;
        for _ in 0..lines {
            log.line(&line);
        }
        let counts = log.counts();
        assert!(counts.dropped > 0 && counts.written < lines, "{counts:?}");
        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        // Also of a full queue.
        log.flush(Duration::from_secs(20));
        assert_eq!(log.counts().written + counts.dropped, lines);
        log.line(b"last\n");
        log.flush(Duration::from_secs(20));
        let counts = log.counts();
        assert_eq!(counts.written + counts.dropped, lines + 1);
        drop(log);
        let text = reading.join().unwrap();
        let told = text.lines().filter_map(|line| {
            let (count, rest) = line.split_once(' ')?;
            (rest == "lines of the log were dropped here").then(|| count.parse::<u64>().unwrap())
        });
        assert_eq!(told.sum::<u64>(), counts.dropped);
        assert!(text.ends_with("last\n"));
    }

    #[test]
    fn what_cannot_be_written_is_counted_with_the_reason() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let log = Log::begin(full).unwrap();
        for _ in 0..3 {
            log.line(b"x\n");
        }
        log.flush(Duration::from_secs(20));
        let counts = log.counts();
        assert_eq!((counts.written, counts.failed), (0, 3));
        assert!(counts.error.unwrap().contains("No space"));
    }

    #[test]
    fn a_line_has_an_end() {
        let (mut reader, writer) = io::pipe().unwrap();
        let log = Log::begin(writer).unwrap();
        log.line(&b"x".repeat(LINE_MAX + 1));
        drop(log);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert!(bytes.len() == LINE_MAX + 1 && bytes.ends_with(b"x\n"));
    }
}
