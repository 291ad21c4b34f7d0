//! A configuration that changes under load: each arm is given a file of its own, which is replaced while a cell runs.
//!
//! Only a data plane that follows its file takes part: `kmeshd` does, Envoy's static resources do not.

use crate::scenario::{Scenario, Swap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// One arm's file. It goes when this is dropped.
#[derive(Debug)]
pub(super) struct Followed {
    path: PathBuf,
    swap: Swap,
    next: usize,
}

impl Followed {
    /// A copy of the scenario's resources for one arm; none when the scenario changes nothing.
    pub(super) fn of(scenario: &Scenario, arm: &str) -> io::Result<Option<Self>> {
        let Some(swap) = scenario.swap.clone() else {
            return Ok(None);
        };
        let folder = crate::binaries::workspace().join(".cache/scenarios");
        fs::create_dir_all(&folder)?;
        let name = format!(
            "swap-{}-{}-{arm}.yaml",
            std::process::id(),
            scenario.family()
        );
        let followed = Self {
            path: folder.join(name),
            swap,
            next: 0,
        };
        fs::copy(&scenario.resources, &followed.path)?;
        Ok(Some(followed))
    }

    /// What the arm reads.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file at the scenario's pace until `end` is hung up. The first configuration of the list is back in
    /// place before the next cell, since every cell begins with it.
    pub(super) fn keep_changing(&mut self, end: &Receiver<()>) -> io::Result<()> {
        let pause = Duration::from_millis(self.swap.every_ms.into());
        self.next = 0;
        loop {
            if let Some(resources) = self.swap.resources.get(self.next) {
                // In one step: a reader sees the old file or the new one.
                let draft = self.path.with_extension("draft");
                fs::copy(resources, &draft)?;
                fs::rename(&draft, &self.path)?;
            }
            self.next += 1;
            if self.next >= self.swap.resources.len() && self.swap.repeat {
                self.next = 0;
            }
            match end.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        // Not there any more is as good.
        let _ = fs::remove_file(&self.path);
    }
}
