//! Other people's load generators, asked for the same load: one connection count, one kind of request, closed loop, no pause.

mod fortio;
mod hey;
mod wrk;

use clap::ValueEnum;
use netns_lab::Pod;
use serde::Serialize;
use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A generator that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Foreign {
    /// wrk (C, one event loop per thread).
    Wrk,
    /// hey (Go, net/http).
    Hey,
    /// fortio (Go, its own HTTP client).
    Fortio,
}

/// What it is asked to do.
#[derive(Debug, Clone)]
pub(super) struct Load<'l> {
    pub(super) target: SocketAddr,
    pub(super) host: &'l str,
    pub(super) path: &'l str,
    pub(super) headers: Vec<(&'l str, &'l str)>,
    pub(super) connections: u32,
    /// Length, whole seconds: wrk knows no others.
    pub(super) seconds: u32,
    /// CPU to run on; any if none.
    pub(super) cpu: Option<usize>,
}

impl Load<'_> {
    /// `-H "name: value"` for each header but the host, and the URL: what all of them take alike.
    fn headers_and_url(&self) -> Vec<String> {
        let headers = self
            .headers
            .iter()
            .flat_map(|(name, value)| ["-H".to_owned(), format!("{name}: {value}")]);
        let url = format!("http://{}{}", self.target, self.path);
        headers.chain([url]).collect()
    }
}

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Said {
    /// Requests per second.
    pub(super) rps: f64,
    /// Median latency, microseconds.
    pub(super) p50_us: f64,
    /// Requests that failed or were answered by another status than 200.
    pub(super) failed: u64,
}

impl Foreign {
    /// Its name, which is its program's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wrk => "wrk",
            Self::Hey => "hey",
            Self::Fortio => "fortio",
        }
    }

    /// Why its figures may differ from ours although both are right.
    pub fn differs(self) -> &'static str {
        match self {
            Self::Wrk => {
                "one event loop like ours; it does not look at answers beyond their framing, ours checks server, number and bytes of each"
            }
            Self::Hey => {
                "net/http with two goroutines per connection: where the generator's CPU is the limit it is slower; prints percentiles in steps of 100 us"
            }
            Self::Fortio => {
                "a goroutine per connection, one blocking read each: where the generator's CPU is the limit it is slower, and its p50 contains the wait for the Go scheduler"
            }
        }
    }

    /// Where it is: in `PATH`, or where `go install` puts it.
    pub fn locate(self) -> Option<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        let home = env::var_os("HOME").map(|home| PathBuf::from(home).join("go/bin"));
        env::split_paths(&path)
            .chain([PathBuf::from("/usr/local/bin")])
            .chain(home)
            .map(|folder| folder.join(self.name()))
            .find(|path| path.is_file())
    }

    /// What to do if it is not there.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Wrk => "apt-get install wrk",
            Self::Hey => "apt-get install hey",
            Self::Fortio => {
                "go install fortio.org/fortio@v1.68.0 (ci/setup.sh does it where Go is installed)"
            }
        }
    }

    /// Runs it once in the pod.
    pub(super) fn run(self, pod: &Pod, load: &Load<'_>) -> Result<Said, String> {
        let program = self
            .locate()
            .ok_or_else(|| format!("{} is not installed: {}", self.name(), self.remedy()))?;
        let arguments = match self {
            Self::Wrk => wrk::arguments(load),
            Self::Hey => hey::arguments(load),
            Self::Fortio => fortio::arguments(load),
        };
        let mut command = pinned(pod, &program, load.cpu);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = pod.spawn(command).map_err(|error| error.to_string())?;
        let output = child
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(format!(
                "{} ({}): {}",
                self.name(),
                output.status,
                words.trim()
            ));
        }
        let said = match self {
            Self::Wrk => wrk::parse(&text),
            Self::Hey => hey::parse(&text),
            Self::Fortio => fortio::parse(&text),
        };
        said.ok_or_else(|| {
            format!(
                "{} printed something else than its report: {text}",
                self.name()
            )
        })
    }
}

fn pinned(pod: &Pod, program: &std::path::Path, cpu: Option<usize>) -> Command {
    match cpu {
        Some(cpu) => {
            let mut command = pod.command("taskset");
            command.args(["--cpu-list", &cpu.to_string()]).arg(program);
            command
        }
        None => pod.command(program),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_asked_for_the_same() {
        let load = Load {
            target: "10.96.0.80:80".parse().unwrap(),
            host: "svc.test",
            path: "/x",
            headers: vec![("end-user", "jason")],
            connections: 60,
            seconds: 2,
            cpu: None,
        };
        for arguments in [
            wrk::arguments(&load),
            hey::arguments(&load),
            fortio::arguments(&load),
        ] {
            let line = arguments.join(" ");
            for part in [
                "60",
                "2s",
                "svc.test",
                "end-user: jason",
                "http://10.96.0.80:80/x",
            ] {
                assert!(line.contains(part), "{line} lacks {part}");
            }
        }
    }
}
