//! `kmeshctl config` and `kmeshctl advise`: what would become of a configuration.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use kmesh_config::Report;

use crate::Format;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Reads Envoy v3 resources (a bootstrap, a dump, YAML or JSON) and says what becomes of each, all mistakes at once. Loads no
    /// programs. Exit code 4 if anything is refused.
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

/// What a configuration would become here, ranked by what holds its routes back.
pub(crate) fn advise(file: PathBuf, format: Format) -> Result<String> {
    let report = Report::of_files(&[file])?;
    let obstacles = report.obstacles();
    if matches!(format, Format::Json) {
        let obstacles: Vec<_> = obstacles
            .iter()
            .map(|(cause, routes)| serde_json::json!({ "cause": cause, "routes": routes }))
            .collect();
        let advice = serde_json::json!({ "routes": report.routes, "obstacles": obstacles });
        return Ok(serde_json::to_string_pretty(&advice)? + "\n");
    }
    let all = report.routes.total();
    let mut text = format!(
        "{} of {all} routes would be served by the kernel\n",
        report.routes.kernel
    );
    for (reason, count) in &report.routes.user_space {
        writeln!(text, "{count:6} by user space: {reason}")?;
    }
    writeln!(text, "{:6} refused", report.routes.refused)?;
    for (cause, routes) in obstacles {
        writeln!(text, "{routes:6} held back by {cause}")?;
    }
    Ok(text)
}
