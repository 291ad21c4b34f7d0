//! `kmesh-streams-server`: the stream checker's server, in the place of a pod's application.

use std::net::SocketAddr;

use clap::Parser;
use kmesh_streams::listen;
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
    listen::serve(&options.listen, |listener| server.serve(listener))
}
