//! The process: started, watched, and gone with this one.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use super::EnvoyError;
use super::connection::Connection;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// How much of the end of its log goes into a message, bytes.
const LAST_WORDS: usize = 800;

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: File,
    sockets: String,
    /// Until it is read.
    config: Option<ConfigFile>,
}

/// A name for sockets that no other process and no earlier Envoy of this one uses.
pub(super) fn unused_name() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    format!("kmesh-oracle-{}-{number}", process::id())
}

impl Process {
    /// Starts Envoy with the configuration `text`.
    pub(super) fn start(program: &Path, text: &str, sockets: String) -> Result<Self, EnvoyError> {
        let failed = |source| EnvoyError::Start {
            program: program.to_owned(),
            source,
        };
        let config = ConfigFile::write(&sockets, text).map_err(failed)?;
        let log = nameless(c"log").map_err(failed)?;
        let mut command = Command::new(program);
        command
            .arg("--config-path")
            .arg(&config.path)
            .args(["--disable-hot-restart", "--concurrency", "1"])
            .args(["--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone().map_err(failed)?);
        let parent = process::id();
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                if libc::getppid() as u32 != parent {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                Ok(())
            });
        }
        let child = command.spawn().map_err(failed)?;
        Ok(Self {
            child,
            log,
            sockets,
            config: Some(config),
        })
    }

    /// What its sockets' names begin with.
    pub(super) fn sockets(&self) -> &str {
        &self.sockets
    }

    /// User and system time: fields 14 and 15 of `/proc/PID/stat`, in clock ticks.
    pub(super) fn cpu_time(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field, a name in parentheses, may have spaces in it.
        let (_, rest) = stat.rsplit_once(')').ok_or(io::ErrorKind::InvalidData)?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let mut ticks = 0;
        for at in [11, 12] {
            let field: Option<u64> = fields.get(at).and_then(|field| field.parse().ok());
            ticks += field.ok_or(io::ErrorKind::InvalidData)?;
        }
        // SAFETY: the call has no preconditions.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        Ok(Duration::from_secs(1) * ticks as u32 / u32::try_from(per_second).unwrap_or(100).max(1))
    }

    /// Waits until it takes connections on `socket`.
    pub(super) fn wait_for(&mut self, socket: &str) -> Result<(), EnvoyError> {
        let begun = Instant::now();
        while Connection::open(socket).is_err() {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return Err(EnvoyError::Ended {
                    words: self.last_words(),
                });
            }
            if begun.elapsed() > PATIENCE {
                return Err(EnvoyError::Silent {
                    seconds: PATIENCE.as_secs(),
                    words: self.last_words(),
                });
            }
            thread::sleep(PAUSE);
        }
        self.config = None;
        Ok(())
    }

    fn last_words(&mut self) -> String {
        let mut text = Vec::new();
        let read = self
            .log
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.log.read_to_end(&mut text));
        match read {
            Ok(0) => "(it said nothing)".to_owned(),
            Ok(_) => {
                let from = text.len().saturating_sub(LAST_WORDS);
                String::from_utf8_lossy(&text[from..]).trim().to_owned()
            }
            Err(error) => format!("(its log cannot be read: {error})"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The configuration, in a file that exists until Envoy has read it: Envoy takes no file without a name.
#[derive(Debug)]
struct ConfigFile {
    path: PathBuf,
}

impl ConfigFile {
    fn write(name: &str, text: &str) -> io::Result<Self> {
        let path = env::temp_dir().join(format!("{name}.json"));
        let file = Self { path };
        fs::write(&file.path, text)?;
        Ok(file)
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        // In the worst case a file stays among the temporary ones.
        let _ = fs::remove_file(&self.path);
    }
}

/// A file in memory that has no name.
fn nameless(label: &CStr) -> io::Result<File> {
    // SAFETY: the label is a C string; the result is checked.
    let fd = unsafe { libc::memfd_create(label.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}
