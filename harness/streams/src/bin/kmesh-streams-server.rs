//! `kmesh-streams-server`: the stream checker's server, in the place of a pod's application.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use anyhow::Context as _;
use clap::Parser;
use kmesh_streams::server::Server;

/// Compares numbered requests with their plan and answers by it; says `ready` when it listens.
#[derive(Debug, Parser)]
struct Options {
    /// Serve on this address (repeatable).
    #[arg(long, required = true, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Name in `x-served-by` of every answer.
    #[arg(long)]
    name: String,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let server = Server::new(&options.name);
    let listeners = options
        .listen
        .iter()
        .map(|address| {
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut out = std::io::stdout();
    writeln!(out, "ready")
        .and_then(|()| out.flush())
        .context("stdout")?;
    thread::scope(|scope| {
        let serving: Vec<_> = listeners
            .iter()
            .map(|listener| scope.spawn(|| server.serve(listener)))
            .collect();
        for thread in serving {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    })
}
