//! `kmesh-streams-peer`: the real peers that are Rust libraries, as programs.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kmesh_streams::grpc;

/// A client, which prints what it heard in one line, or a server, which says `ready` when it listens.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// reqwest: four requests on one connection.
    Reqwest {
        /// The service, without a path.
        url: String,
    },
    /// tonic: four unary calls on one connection.
    GrpcClient {
        /// The service, without a path.
        url: String,
    },
    /// tonic: sends back what it gets.
    GrpcServer {
        /// Serve on this address (repeatable).
        #[arg(long, required = true, value_name = "ADDR:PORT")]
        listen: Vec<SocketAddr>,
        /// Unused; every server of an arm is told its name.
        #[arg(long)]
        name: String,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Reqwest { url } => say(&reqwest(&url).await?.join(" ")),
        Command::GrpcClient { url } => say(&grpc::call(url).await?.join(" ")),
        Command::GrpcServer { listen, name: _ } => grpc::serve(&listen, || say("ready")).await,
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .context("stdout")
}

async fn reqwest(url: &str) -> anyhow::Result<Vec<String>> {
    let client = reqwest::Client::new();
    let mut heard = Vec::new();
    for path in ["small", "large", "none", "small"] {
        let answer = client.get(format!("{url}/first/{path}")).send().await?;
        let status = answer.status().as_u16();
        heard.push(format!("{status}:{}", answer.bytes().await?.len()));
    }
    Ok(heard)
}
