//! `kmesh-origin`: serves HTTP and raw TCP echo until it is told to stop.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use clap::Parser;
use kmesh_origin::forward::Next;
use kmesh_origin::process;
use kmesh_origin::server::{Config, Kind, Server};

/// The pod application: a fortio-style echo server that says who answered.
///
/// Prints `listening http ADDR:PORT` or `listening tcp-echo ADDR:PORT` per listener and then `ready`.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Serve HTTP on this address (repeatable; port 0 picks one)
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Echo raw TCP on this address (repeatable)
    #[arg(long, value_name = "ADDR:PORT")]
    tcp_echo: Vec<SocketAddr>,
    /// Let the TCP echo say the server's name, then a line feed, before it echoes
    #[arg(long)]
    tcp_echo_banner: bool,
    /// Name in `x-served-by` of every response
    #[arg(long, default_value = "origin")]
    name: String,
    /// Body size in bytes of an answer that neither echoes a body nor is asked for a size
    #[arg(long, value_name = "N", default_value_t = 0)]
    body_size: usize,
    /// Query for requests that have none, as in `delay=150us:10&status=503:1`
    #[arg(long, value_name = "QUERY", default_value = "")]
    default_params: String,
    /// Ask the next service instead of answering, in turn at these addresses; `x-served-by` becomes the chain (`a/b`)
    #[arg(long, value_name = "HOST=ADDR:PORT[,ADDR:PORT...]")]
    next: Option<Next>,
    /// Seed of the percentages [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run on this CPU only
    #[arg(long, value_name = "CPU")]
    cpu: Option<usize>,
    /// Be killed when the parent thread ends
    #[arg(long)]
    die_with_parent: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(
        !options.listen.is_empty() || !options.tcp_echo.is_empty(),
        "nothing to serve: give --listen or --tcp-echo"
    );
    ensure!(
        !options.name.is_empty() && options.name.bytes().all(|b| b.is_ascii_graphic()),
        "--name {:?} cannot be a header value: use visible ASCII without blanks",
        options.name
    );
    if options.die_with_parent {
        process::die_with_parent().context("cannot bind my life to my parent's")?;
    }
    if let Some(cpu) = options.cpu {
        process::pin_to_cpu(cpu)
            .with_context(|| format!("cannot run on cpu {cpu}, does it exist?"))?;
    }
    process::raise_descriptor_limit().context("cannot raise the limit of open files")?;
    process::tighten_timers().context("cannot set the timer slack")?;
    let stop = process::stop_signals().context("cannot take over SIGTERM and SIGINT")?;
    let server = Server::bind(&Config {
        http: options.listen,
        tcp_echo: options.tcp_echo,
        tcp_echo_banner: options.tcp_echo_banner,
        name: options.name,
        body_size: options.body_size,
        default_params: options.default_params,
        next: options.next,
        seed: options.seed.unwrap_or_else(rand::random),
    })?;
    let mut out = std::io::stdout();
    for (kind, address) in server.addresses() {
        let kind = if kind == Kind::Http {
            "http"
        } else {
            "tcp-echo"
        };
        // A closed stdout (`kmesh-origin | head -1`) is no reason not to serve.
        let _ = writeln!(out, "listening {kind} {address}");
    }
    let _ = writeln!(out, "ready").and_then(|()| out.flush());
    server.run(&stop)?;
    Ok(())
}
