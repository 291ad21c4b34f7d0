//! A program that belongs to an arm: started in the lab, watched, and gone with the arm.
//!
//! Its output goes to a file that has no name, so that nothing stays behind however this process ends, and so that a
//! chatty program is never stopped by a full pipe.

use std::{
    fs::{File, Permissions},
    io::{self, BufRead, BufReader},
    os::{
        fd::{AsFd, FromRawFd, OwnedFd},
        unix::fs::{FileExt, PermissionsExt},
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use netns_lab::LabError;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::ArmError;

/// How long a program may take to become ready unless [`PATIENCE_VARIABLE`] says otherwise. Generous: the machine may be busy with
/// other arms.
const PATIENCE: Duration = Duration::from_secs(20);
/// Seconds, for machines on which everything is slow: a kernel that is emulated takes half a minute to verify the programs.
const PATIENCE_VARIABLE: &str = "KMESH_PATIENCE";
/// How much longer for each MiB of configuration that it reads: 4,000 services are 7 MiB, which Envoy takes half a minute
/// for when all arms start at once.
const PATIENCE_PER_MIB: Duration = Duration::from_secs(10);
/// Pause between two attempts, unless the program ends earlier.
const PAUSE_MS: u16 = 3;
/// How much of the end of a log goes into an error message, bytes.
const LAST_WORDS: u64 = 600;

/// A running program.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    pidfd: OwnedFd,
    log: File,
    patience: Duration,
}

impl Program {
    /// Starts `command` by means of the lab's `spawn`, with its standard error in a nameless file.
    pub(crate) fn start(
        name: String,
        mut command: Command,
        spawn: impl FnOnce(Command) -> Result<Child, LabError>,
    ) -> Result<Self, ArmError> {
        let failed = |call: &'static str| {
            let program = name.clone();
            move |source| ArmError::Process {
                program,
                call,
                source,
            }
        };
        let log = nameless_file().map_err(failed("making a log"))?;
        command.stderr(log.try_clone().map_err(failed("making a log"))?);
        let mut child = spawn(command)?;
        match pidfd(&child) {
            Ok(pidfd) => Ok(Self {
                name,
                child,
                pidfd,
                log,
                patience: patience(0),
            }),
            Err(source) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(failed("pidfd_open")(source))
            }
        }
    }

    /// Gives it time in proportion to the configuration that it reads.
    #[must_use]
    pub(crate) fn reading(mut self, config_bytes: u64) -> Self {
        self.patience = patience(config_bytes);
        self
    }

    /// Everything it has written to its log.
    pub(crate) fn log(&self) -> Vec<u8> {
        read_from(&self.log, 0)
    }

    /// Fails if the program has ended.
    pub(crate) fn check_alive(&mut self) -> Result<(), ArmError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(ArmError::Ended {
                program: self.name.clone(),
                status,
                said: self.last_words(),
            }),
            Err(source) => Err(ArmError::Process {
                program: self.name.clone(),
                call: "wait",
                source,
            }),
        }
    }

    /// Kills it and waits for its end.
    pub(crate) fn stop(&mut self) {
        // It is our child until it is waited for, so the pid cannot have been reused; failing means it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Repeats `attempt` until it succeeds; gives up when the program ends or patience does.
    pub(crate) fn await_success(
        &mut self,
        mut attempt: impl FnMut() -> Result<(), String>,
    ) -> Result<(), ArmError> {
        let start = Instant::now();
        loop {
            let last = match attempt() {
                Ok(()) => return Ok(()),
                Err(last) => last,
            };
            self.check_alive()?;
            if start.elapsed() > self.patience {
                return Err(self.not_ready(last));
            }
            self.pause();
        }
    }

    /// Waits until the program has written the line `expected` to its standard output, which must be a pipe.
    pub(crate) fn await_line(&mut self, expected: &str) -> Result<(), ArmError> {
        let start = Instant::now();
        let Some(stdout) = self.child.stdout.take() else {
            return Err(self.not_ready("its output is not a pipe".to_owned()));
        };
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        let outcome = loop {
            if lines.buffer().is_empty() {
                let left = self.patience.saturating_sub(start.elapsed());
                let mut fds = [PollFd::new(lines.get_ref().as_fd(), PollFlags::POLLIN)];
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                match poll(&mut fds, timeout) {
                    Ok(0) => break Err(format!("no line \"{expected}\" on its standard output")),
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(errno) => break Err(errno.to_string()),
                }
            }
            // A line comes in one write; should it not, the rest is waited for here, at most until the program ends.
            match lines.read_until(b'\n', &mut line) {
                Ok(0) => {
                    // The pipe ends a moment before the process does.
                    self.await_end(self.patience.saturating_sub(start.elapsed()));
                    self.check_alive()?;
                    break Err("it closed its standard output".to_owned());
                }
                Ok(_) if line.trim_ascii() == expected.as_bytes() => break Ok(()),
                Ok(_) => line.clear(),
                Err(error) => break Err(error.to_string()),
            }
        };
        // Keep the pipe open: a program may say more later, and must not die of it.
        self.child.stdout = Some(lines.into_inner());
        outcome.map_err(|last| self.not_ready(last))
    }

    fn pause(&self) {
        self.poll_end(PollTimeout::from(PAUSE_MS));
    }

    fn await_end(&self, at_most: Duration) {
        self.poll_end(PollTimeout::try_from(at_most).unwrap_or(PollTimeout::ZERO));
    }

    /// Returns after `timeout`, or when the program ends.
    fn poll_end(&self, timeout: PollTimeout) {
        let _ = poll(
            &mut [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)],
            timeout,
        );
    }

    fn not_ready(&self, last: String) -> ArmError {
        ArmError::NotReady {
            program: self.name.clone(),
            seconds: self.patience.as_secs(),
            last,
            said: self.last_words(),
        }
    }

    fn last_words(&self) -> String {
        let bytes = tail(&self.log, LAST_WORDS);
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        if lines.is_empty() {
            "nothing".to_owned()
        } else {
            lines.join(" | ")
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An open file that no directory holds. Anyone who gets the descriptor may open it again, the sidecar's user included.
pub(crate) fn nameless_file() -> io::Result<File> {
    let file = tempfile::tempfile()?;
    file.set_permissions(Permissions::from_mode(0o666))?;
    Ok(file)
}

/// The last bytes of a file that somebody writes to, at most this many.
pub(crate) fn tail(file: &File, bytes: u64) -> Vec<u8> {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    read_from(file, length.saturating_sub(bytes))
}

/// Reads by position: the descriptor's own offset belongs to the program that writes.
fn read_from(file: &File, mut offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = file.read_at(&mut buffer, offset) {
        bytes.extend_from_slice(&buffer[..count]);
        offset += count as u64;
    }
    bytes
}

/// How long a program with so much configuration may take here.
fn patience(config_bytes: u64) -> Duration {
    let mib = u32::try_from(config_bytes >> 20).unwrap_or(u32::MAX);
    let told = std::env::var(PATIENCE_VARIABLE).ok();
    base_patience(told.as_deref()) + PATIENCE_PER_MIB.saturating_mul(mib)
}

/// The patience that the variable's text asks for. Panics if it asks for none: whoever set it wants it to count.
fn base_patience(told: Option<&str>) -> Duration {
    let seconds = |text: &str| -> u64 {
        text.parse()
            .unwrap_or_else(|_| panic!("{PATIENCE_VARIABLE} is {text:?}, not a number of seconds"))
    };
    told.map_or(PATIENCE, |text| Duration::from_secs(seconds(text)))
}

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    // SAFETY: no pointers involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id() as libc::pid_t, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel has just given us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A pipe for the program's standard output, to be used with [`Program::await_line`].
pub(crate) fn with_piped_stdout(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        with_piped_stdout(&mut command);
        Program::start("sh".to_owned(), command, |mut command| {
            Ok(command.spawn().unwrap())
        })
        .unwrap()
    }

    #[test]
    fn a_line_is_waited_for_and_the_program_lives_on() {
        let mut program = shell("echo listening; echo ready; exec sleep 1000");
        program.await_line("ready").unwrap();
        program.check_alive().unwrap();
    }

    #[test]
    fn patience_is_what_the_variable_says() {
        assert_eq!(base_patience(None), PATIENCE);
        assert_eq!(base_patience(Some("240")), Duration::from_secs(240));
        assert!(std::panic::catch_unwind(|| base_patience(Some("long"))).is_err());
    }

    #[test]
    fn who_has_more_to_read_gets_more_time() {
        let seconds = |bytes| patience(bytes).as_secs();
        assert_eq!((seconds(0), seconds(4000), seconds(7 << 20)), (20, 20, 90));
        assert!(seconds(u64::MAX) > 90);
    }

    #[test]
    fn one_that_ends_is_reported_with_its_last_words() {
        let mut program = shell("echo cannot bind >&2; exit 3");
        let message = program.await_line("ready").unwrap_err().to_string();
        assert!(
            message.contains("exit status: 3") && message.contains("cannot bind"),
            "{message}"
        );
        let mut program = shell("exit 4");
        let message = program
            .await_success(|| Err("refused".to_owned()))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("exit status: 4") && message.contains("nothing"),
            "{message}"
        );
    }
}
