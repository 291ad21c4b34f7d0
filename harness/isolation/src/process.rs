//! Programs that say when they are ready, and what came of them.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use netns_lab::{Lab, Pod};
use serde::de::DeserializeOwned;

use crate::error::{IsolationError, io};

/// A program that runs; it is killed when this is dropped.
pub(crate) struct Running {
    program: String,
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    /// Starts it in a pod and waits until it says `ready`.
    pub(crate) fn in_pod(pod: &Pod, command: Command, ready: &str) -> Result<Self, IsolationError> {
        Self::begun(ready, command, |command| Ok(pod.spawn(command)?))
    }

    /// Starts it outside of all pods.
    pub(crate) fn in_lab(lab: &Lab, command: Command, ready: &str) -> Result<Self, IsolationError> {
        Self::begun(ready, command, |command| Ok(lab.spawn(command)?))
    }

    fn begun(
        ready: &str,
        mut command: Command,
        spawn: impl FnOnce(Command) -> Result<Child, IsolationError>,
    ) -> Result<Self, IsolationError> {
        let program = command.get_program().display().to_string();
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = spawn(command)?;
        let out = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe);
        let mut out = BufReader::new(out.map_err(|kind| io(program.as_str())(kind.into()))?);
        let mut said = String::new();
        let mut line = String::new();
        while out.read_line(&mut line).map_err(io(program.as_str()))? > 0 {
            if line.trim_end() == ready {
                return Ok(Self {
                    program,
                    child,
                    out,
                });
            }
            said = std::mem::take(&mut line);
        }
        let status = child.wait().map_err(io(program.as_str()))?;
        Err(IsolationError::Ended {
            program,
            missing: "being ready",
            said: format!("{status}: {said}"),
        })
    }

    /// The one line of JSON that it prints before it ends.
    pub(crate) fn outcome<T: DeserializeOwned>(mut self) -> Result<T, IsolationError> {
        let mut text = String::new();
        (self.out.read_to_string(&mut text)).map_err(io(self.program.as_str()))?;
        let status = self.child.wait().map_err(io(self.program.as_str()))?;
        serde_json::from_str(&text).map_err(|_| IsolationError::Ended {
            program: self.program.clone(),
            missing: "an outcome",
            said: format!("{status}: {text}"),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
