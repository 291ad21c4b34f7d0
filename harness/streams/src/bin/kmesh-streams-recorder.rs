//! `kmesh-streams-recorder`: notes what reaches it, in the place of a pod's application.

use std::net::SocketAddr;

use clap::Parser;
use kmesh_streams::listen;
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
    listen::serve(&options.listen, |listener| recorder.serve(listener))
}
