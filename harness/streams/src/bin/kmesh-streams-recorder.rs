//! `kmesh-streams-recorder`: notes what reaches it, in the place of a pod's application.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use anyhow::Context as _;
use clap::Parser;
use kmesh_streams::recorder::Recorder;

/// Answers every request with `ok` and notes it; says `ready` when it listens.
#[derive(Debug, Parser)]
struct Options {
    /// Serve on this address (repeatable).
    #[arg(long, required = true, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Unused; every server of an arm is told its name.
    #[arg(long)]
    name: String,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let recorder = Recorder::new();
    let listeners = options
        .listen
        .iter()
        .map(|at| TcpListener::bind(at).with_context(|| format!("{} at {at}", options.name)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut out = std::io::stdout();
    writeln!(out, "ready")
        .and_then(|()| out.flush())
        .context("stdout")?;
    thread::scope(|scope| {
        let serving: Vec<_> = listeners
            .iter()
            .map(|listener| scope.spawn(|| recorder.serve(listener)))
            .collect();
        for thread in serving {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    })
}
