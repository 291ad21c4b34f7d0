//! Ctrl-C: finish the cell, take everything down, say so. A second one ends the process at once; the
//! labs' guardians then clear what is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a process that ended by SIGINT, by the shell's convention.
const INTERRUPTED: i32 = 130;

/// Whether the user asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Starts to listen for SIGINT, SIGTERM and SIGHUP. Handlers, not a blocked mask: children would inherit that.
    ///
    /// # Errors
    /// When the signals cannot be caught.
    pub fn listen() -> std::io::Result<Self> {
        let asked = Arc::new(AtomicU8::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let mut signals = {
            let _inside = runtime.enter();
            [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ]
        };
        let counter = Arc::clone(&asked);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let [int, term, hup] = &mut signals;
                loop {
                    tokio::select! { _ = int.recv() => (), _ = term.recv() => (), _ = hup.recv() => () }
                    if counter.fetch_add(1, Ordering::Relaxed) >= 1 {
                        std::process::exit(INTERRUPTED);
                    }
                }
            });
        })?;
        Ok(Self(asked))
    }

    /// Whether to stop now.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}
