//! `netns-lab up`: holds a lab.

use std::{
    fmt::Write,
    fs::File,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Instant,
};

use anyhow::Context;
use kmesh_cli::exit;
use netns_lab::{
    Lab,
    control::{Caller, Control, Description, Reply, Request},
};
use nix::{
    sys::signal::{SigSet, Signal},
    unistd::{dup2_stderr, dup2_stdout, setsid},
};

/// Bring a lab up and hold it.
#[derive(Debug, clap::Args)]
pub(super) struct Up {
    /// The topology, as TOML
    topology: PathBuf,
    /// Name to reach the lab by; by default the topology's
    #[arg(long)]
    name: Option<String>,
    /// Hold the lab in the background, and return once it is up
    #[arg(long)]
    detach: bool,
    /// Set for the process that `--detach` starts
    #[arg(long, hide = true, conflicts_with = "detach")]
    detached: bool,
}

/// What ends a lab.
enum End {
    Signal(Signal),
    Asked(Caller),
}

impl Up {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let topology = super::topology(&self.topology, self.name.as_deref())?;
        super::need_root("netns-lab up")?;
        if self.detach {
            return self.start_detached();
        }
        // Blocked before there are threads, so that none of them can be interrupted by what ends the lab.
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block().context("can't block signals")?;
        let control = Control::claim(&topology.name)?;
        let started = Instant::now();
        let lab = Lab::up(&topology)?;
        let took = started.elapsed();
        let description = Description::of(&lab, &topology.name);
        announce(&description)?;
        if self.detached {
            let null = File::options()
                .write(true)
                .open("/dev/null")
                .context("can't open /dev/null")?;
            dup2_stdout(&null)
                .and_then(|()| dup2_stderr(&null))
                .context("can't close the output")?;
        } else {
            let name = &topology.name;
            eprintln!(
                "lab {name} is up after {} ms; Ctrl-C or `netns-lab down {name}` ends it",
                took.as_millis()
            );
        }
        let (sender, ends) = mpsc::channel();
        let from_signal = sender.clone();
        thread::spawn(move || {
            signals
                .wait()
                .map(|signal| from_signal.send(End::Signal(signal)))
        });
        thread::spawn(move || answer(&control, &description, &sender));
        let end = ends.recv().context("nobody is left to end the lab")?;
        let done = lab.down();
        match end {
            End::Signal(signal) => eprintln!("lab {} is down after {signal}", topology.name),
            // The caller may be gone; the lab is down all the same.
            End::Asked(caller) => drop(caller.answer(&match &done {
                Ok(()) => Reply::Done,
                Err(error) => Reply::Failed(error.to_string()),
            })),
        }
        done?;
        Ok(exit::HELD)
    }

    /// Starts the same command in a session of its own, and waits until it has announced its lab.
    fn start_detached(&self) -> anyhow::Result<u8> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("up").arg(&self.topology).arg("--detached");
        if let Some(name) = &self.name {
            command.args(["--name", name]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        // SAFETY: setsid is async-signal-safe.
        unsafe { command.pre_exec(|| setsid().map(drop).map_err(Into::into)) };
        let mut holder = command
            .spawn()
            .context("can't start the process that holds the lab")?;
        let output = holder.stdout.take().context("the holder has no output")?;
        let mut announced = false;
        for line in BufReader::new(output).lines() {
            super::say(&format!(
                "{}\n",
                line.context("can't read the holder's output")?
            ))?;
            announced = true;
        }
        if !announced {
            let status = holder.wait().context("can't wait for the holder")?;
            // The holder has said why, on the stderr that it shares.
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.unwrap_or(exit::UNFIT));
        }
        Ok(exit::HELD)
    }
}

/// One line per pod: name, addresses, namespace.
fn announce(lab: &Description) -> anyhow::Result<()> {
    let mut text = format!("# lab {} held by {}\n", lab.id, lab.pid);
    for pod in &lab.pods {
        let netns = pod.netns.display();
        writeln!(
            text,
            "{:<20} {:<15} {:<24} {netns}",
            pod.name, pod.ipv4, pod.ipv6
        )?;
    }
    super::say(&text)
}

fn answer(control: &Control, description: &Description, ends: &mpsc::Sender<End>) {
    while let Ok((request, caller)) = control.next() {
        match request {
            // A caller that has gone meanwhile is no concern of ours.
            Request::Describe => drop(caller.answer(&Reply::Lab(description.clone()))),
            Request::Down => {
                let _ = ends.send(End::Asked(caller));
            }
        }
    }
}
