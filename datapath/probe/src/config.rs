//! `kmeshctl config`: what would become of a configuration.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use kmesh_config::Report;

use crate::Format;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Reads Envoy v3 resources (a bootstrap, a dump, YAML or JSON) and says what becomes of each, all mistakes at once. Loads no
    /// programs. Exit code 1 if anything is refused.
    Check {
        /// The files; together they are one configuration.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

/// The text to print, and whether all is well.
pub(crate) fn run(command: &Command) -> Result<(String, bool)> {
    let Command::Check { files, format } = command;
    let report = Report::of_files(files)?;
    let text = match format {
        Format::Text => report.to_string(),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    Ok((text, report.refused() == 0))
}
