//! `kmeshctl`: looks into a running `kmeshd`.

mod config;
mod explain;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use kmesh_probe::client;

/// Looks into a running kmeshd.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Name of the daemon (its --name).
    #[arg(long, global = true, default_value = "default")]
    name: String,
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
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kmeshctl: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let options = Options::parse();
    let mut code = ExitCode::SUCCESS;
    let text = match options.command {
        Command::Status { format } => {
            let status = client::status(&options.name)?;
            match format {
                Format::Text => status.to_string(),
                Format::Json => serde_json::to_string_pretty(&status)? + "\n",
            }
        }
        Command::Explain(explain) => explain::run(&options.name, &explain)?,
        Command::Advise { file, format } => config::advise(file, format)?,
        Command::Config(command) => {
            let (text, good) = config::run(&command)?;
            if !good {
                code = ExitCode::from(1);
            }
            text
        }
    };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(code),
    }
}
