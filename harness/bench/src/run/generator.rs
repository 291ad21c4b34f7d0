//! One `kmesh-load serve` per arm, inside the arm's client pod, alive for the whole run: its
//! connections stay open while other arms are measured.

use super::RunError;
use kmesh_load::plan::Plan;
use kmesh_load::protocol::{Command, Reply, ask};
use kmesh_load::result::BlockResult;
use netns_lab::Pod;
use std::io::BufReader;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// A generator that answers.
#[derive(Debug)]
pub(super) struct Generator {
    arm: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Generator {
    /// Starts the generator in the pod; `cpu` pins it.
    pub(super) fn start(
        arm: &str,
        program: &Path,
        pod: &Pod,
        cpu: Option<usize>,
    ) -> Result<Self, RunError> {
        let failed = |message: String| RunError::Generator {
            arm: arm.to_owned(),
            message,
        };
        let mut command = pod.command(program);
        command.arg("serve");
        if let Some(cpu) = cpu {
            command.arg("--cpu").arg(cpu.to_string());
        }
        // A process group of its own: Ctrl-C reaches this program, which then ends the run in order.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        let mut child = pod
            .spawn(command)
            .map_err(|error| failed(error.to_string()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("started without pipes".to_owned()));
        };
        Ok(Self {
            arm: arm.to_owned(),
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// Opens the plan's connections under `name`.
    pub(super) fn prepare(&mut self, name: &str, plan: Plan) -> Result<(), RunError> {
        self.ask(&Command::Prepare {
            name: name.to_owned(),
            plan,
        })
        .map(drop)
    }

    /// Runs one cell. `rate` as in the protocol: `None` as planned, 0 closed loop, else requests per second.
    pub(super) fn run(
        &mut self,
        name: &str,
        cell_ms: u32,
        warmup_ms: u32,
        rate: Option<f64>,
    ) -> Result<BlockResult, RunError> {
        let command = Command::Run {
            name: name.to_owned(),
            duration_ms: cell_ms.into(),
            warmup_ms: warmup_ms.into(),
            rate,
        };
        match self.ask(&command)? {
            Reply::Result { result, .. } => Ok(*result),
            other => Err(self.failed(format!("answered {other:?} to a run"))),
        }
    }

    /// Closes the plan's connections.
    pub(super) fn close(&mut self, name: &str) -> Result<(), RunError> {
        self.ask(&Command::Close {
            name: name.to_owned(),
        })
        .map(drop)
    }

    fn ask(&mut self, command: &Command) -> Result<Reply, RunError> {
        match ask(&mut self.input, &mut self.output, command) {
            Ok(Reply::Error { message }) => Err(self.failed(message)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.failed(error.to_string())),
        }
    }

    fn failed(&self, message: String) -> RunError {
        RunError::Generator {
            arm: self.arm.clone(),
            message,
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // It is ours and still our child, so the pid cannot have been reused; failing means it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
