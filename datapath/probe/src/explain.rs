//! `kmeshctl explain`: why a request goes where it goes, by the configuration a daemon runs on or by any file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use kmesh_explain::{explain, head, listener};
use kmesh_probe::client;

use crate::Format;

#[derive(Args)]
pub(crate) struct Options {
    /// `GET svc.test/path name: value; name: value`, or a whole head with line ends written `\r\n`.
    request: String,
    /// Envoy v3 resources; by default the file of the running daemon.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The listener that the request is sent to; by default the only HTTP one.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// What chance draws: for the weighted choice if there is one, then for the endpoint.
    #[arg(long, value_delimiter = ',', value_name = "N,...")]
    dice: Vec<u32>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// The explanation, ready to print.
pub(crate) fn run(run_dir: &Path, daemon: &str, options: &Options) -> Result<String> {
    let head = head(&options.request)?;
    let file = match &options.config {
        Some(file) => file.clone(),
        None => running(run_dir, daemon)?,
    };
    let config = kmesh_config::read(Path::new(&file))?;
    let position = listener(&config, options.listener.as_deref())?;
    let dice = (!options.dice.is_empty()).then_some(options.dice.as_slice());
    let explanation = explain(&config, position, &head, dice)?;
    Ok(match options.format {
        Format::Text => explanation.to_string(),
        Format::Json => serde_json::to_string_pretty(&explanation)? + "\n",
    })
}

/// The file that the daemon runs on. One that it refused is not what it runs on.
fn running(run_dir: &Path, daemon: &str) -> Result<PathBuf> {
    let status =
        client::status_in(run_dir, daemon).context("without --config a running daemon is asked")?;
    if let Some(refused) = status.refused {
        anyhow::bail!(
            "kmeshd {daemon} does not run on what {} says now, which it refused ({refused}); name a file with --config",
            status.config
        );
    }
    Ok(status.config.into())
}
