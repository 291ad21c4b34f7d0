//! `kmesh-streams-client`: the stream checker's client, to be run in a pod.

use std::io::{BufRead as _, Write as _};

use anyhow::Context as _;
use clap::Parser;
use kmesh_streams::task;

/// Does the task of the first line on stdin, JSON, and prints its outcome, one JSON value.
#[derive(Debug, Parser)]
struct Options {}

fn main() -> anyhow::Result<()> {
    let Options {} = Options::parse();
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("stdin")?;
    let task = serde_json::from_str(&line).context("the task")?;
    let text = task::run(&task)?;
    writeln!(std::io::stdout(), "{text}").context("stdout")?;
    Ok(())
}
