//! Tasks that must not end: one that does is begun again, and said to be down meanwhile.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::{Instant, sleep};
use tracing::error;

use crate::enrolment::Backoff;

/// A task that has run for so long runs.
const STEADY: Duration = Duration::from_secs(10);

/// What happened to the tasks that a daemon needs.
#[derive(Default)]
pub struct Supervisor {
    down: Mutex<BTreeMap<&'static str, Ends>>,
}

/// How a task ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ends {
    count: u64,
    last: String,
    is_down: bool,
}

impl Supervisor {
    fn down(&self) -> MutexGuard<'_, BTreeMap<&'static str, Ends>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What does not work now, and what had to be begun again; a line each.
    pub fn report(&self) -> Vec<String> {
        let line = |(what, ends): (&&str, &Ends)| {
            let now = if ends.is_down { "down" } else { "runs again" };
            format!(
                "{what}: {now}, ended {} times, last: {}",
                ends.count, ends.last
            )
        };
        self.down().iter().map(line).collect()
    }

    /// Runs `task` for as long as the runtime lives, again whenever it ends.
    pub fn keep<F>(
        self: &Arc<Self>,
        what: &'static str,
        mut task: impl FnMut() -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let own = Arc::clone(self);
        tokio::spawn(async move {
            let first = Duration::from_millis(10);
            let mut pauses = Backoff::new(first, Duration::from_secs(1));
            loop {
                let begin = Instant::now();
                let end = tokio::spawn(task()).await;
                if begin.elapsed() > STEADY {
                    pauses = Backoff::new(first, Duration::from_secs(1));
                }
                own.ended(what, &end);
                sleep(pauses.pause()).await;
                if let Some(ends) = own.down().get_mut(what) {
                    ends.is_down = false;
                }
            }
        });
    }

    fn ended(&self, what: &'static str, end: &Result<(), JoinError>) {
        let last = match end {
            Ok(()) => "it returned".to_owned(),
            Err(error) => error.to_string(),
        };
        error!("{what} ended and is begun again: {last}");
        let mut down = self.down();
        let ends = down.entry(what).or_default();
        ends.count += 1;
        ends.last = last;
        ends.is_down = true;
    }
}

/// Has a panic logged like anything else: the usual hook writes to standard error itself, and waits if nobody reads that.
pub fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("something");
        if let Some(place) = panic.location() {
            error!("panic at {place}: {text}");
        } else {
            error!("panic: {text}");
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_returns_is_begun_again() {
        let supervisor = Arc::new(Supervisor::default());
        let begun = Arc::new(AtomicU32::new(0));
        let (told, mut tell) = tokio::sync::mpsc::unbounded_channel();
        let counted = Arc::clone(&begun);
        supervisor.keep("the task", move || {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let told = told.clone();
            async move {
                assert_ne!(number, 0, "the first one");
                if number == 2 {
                    told.send(()).unwrap();
                    std::future::pending::<()>().await;
                }
            }
        });
        tell.recv().await.unwrap();
        let report = supervisor.report();
        assert_eq!(report.len(), 1);
        assert!(
            report[0].starts_with("the task: runs again, ended 2 times"),
            "{report:?}"
        );
    }
}
