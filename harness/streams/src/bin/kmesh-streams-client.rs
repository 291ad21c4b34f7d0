//! `kmesh-streams-client`: the stream checker's client, to be run in a pod.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Parser;
use kmesh_streams::client::{self, Job};

/// Does a job and prints its tally, one JSON object.
#[derive(Debug, Parser)]
struct Options {
    /// The job, JSON.
    job: String,
}

fn main() -> anyhow::Result<()> {
    let job: Job = serde_json::from_str(&Options::parse().job).context("the job")?;
    let tally = client::run(&job)?;
    let text = serde_json::to_string(&tally)?;
    writeln!(std::io::stdout(), "{text}").context("stdout")?;
    Ok(())
}
