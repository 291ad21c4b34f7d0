//! `kmeshctl`: looks into a running `kmeshd`.

mod config;
mod explain;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use kmesh_cli::{exit, say};
use kmesh_probe::client;

/// Looks into a running kmeshd.
#[derive(Parser)]
struct Options {
    /// Name of the daemon (its --name).
    #[arg(long, global = true, default_value = "default")]
    name: String,
    /// The daemon's folder of sockets (its --run-dir).
    #[arg(long, global = true, default_value = client::RUN_DIR)]
    run_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows configuration, pods, connections and requests by path and reason.
    Status {
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Says which virtual host, route, cluster and endpoint a request gets, and why not each earlier route.
    Explain(explain::Options),
    /// Says of a configuration, such as your own Envoy's or istiod's dump, which share of its routes the kernel would serve, and what holds
    /// the rest back.
    Advise {
        /// A bootstrap or a dump (`/config_dump?include_eds`), YAML or JSON.
        #[arg(value_name = "DUMP")]
        file: PathBuf,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Looks at configurations.
    #[command(subcommand)]
    Config(config::Command),
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// The whole document.
    Json,
}

fn main() -> ExitCode {
    kmesh_cli::main("kmeshctl", code_of, run)
}

/// A daemon that does not answer is the environment's fault, everything else that can go wrong is the input's.
#[expect(clippy::unnecessary_wraps, reason = "other programs leave codes open")]
fn code_of(error: &anyhow::Error) -> Option<u8> {
    let daemon = error.chain().any(|cause| {
        let status = cause.downcast_ref::<client::StatusError>();
        status.is_some_and(|error| !matches!(error, client::StatusError::Name(_)))
    });
    Some(if daemon { exit::UNFIT } else { exit::USAGE })
}

fn run(options: Options) -> Result<u8> {
    let mut code = exit::HELD;
    let text = match options.command {
        Command::Status { format } => {
            let status = client::status_in(&options.run_dir, &options.name)?;
            match format {
                Format::Text => status.to_string(),
                Format::Json => serde_json::to_string_pretty(&status)? + "\n",
            }
        }
        Command::Explain(explain) => explain::run(&options.run_dir, &options.name, &explain)?,
        Command::Advise { file, format } => config::advise(file, format)?,
        Command::Config(command) => {
            let (text, good) = config::run(&command)?;
            if !good {
                code = exit::USAGE;
            }
            text
        }
    };
    say(&text)?;
    Ok(code)
}
