//! The results folder: `DIR/SCENARIO/{summary.json, raw.csv, env.json, README.md, *.svg, histograms/, artefacts/}`.

use super::words::{Format, claim_table, scenario_report};
use crate::record::{self, Record};
use crate::summary::{SCHEMA, Summary};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why stored results cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system's answer.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// Not a summary.
    #[error("{path}: not a summary of this program: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a later or earlier program.
    #[error("{path}: schema {found:?}, this program reads {SCHEMA:?}")]
    Schema {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// No summary below the folder.
    #[error("{0}: no */summary.json in it; was it written by `kmesh-bench run --out`?")]
    Empty(PathBuf),
}

/// A file to be stored with a result: path relative to the scenario's folder, and content.
pub type Stored = (String, Vec<u8>);

/// Writes one scenario's folder, and refreshes the claim table of the whole result in `DIR/README.md`.
///
/// # Errors
/// Whatever the file system answers.
pub fn write_scenario(
    dir: &Path,
    summary: &Summary,
    record: &Record,
    files: &[Stored],
) -> Result<PathBuf, ReadError> {
    let folder = dir.join(&summary.scenario);
    put(&folder.join("summary.json"), &pretty(summary))?;
    put(&folder.join("env.json"), &pretty(&summary.env))?;
    put(
        &folder.join("raw.csv"),
        record::to_csv(&summary.scenario, &record.rows).as_bytes(),
    )?;
    put(&folder.join("README.md"), readme(summary).as_bytes())?;
    for (name, drawing) in super::plot::svg(summary, record) {
        put(&folder.join(name), drawing.as_bytes())?;
    }
    for (arm, merged) in &record.merged {
        for (kind, latency) in [("service", &merged.service), ("intended", &merged.intended)] {
            if latency.count() > 0
                && let Ok(bytes) = latency.to_v2()
            {
                put(
                    &folder.join("histograms").join(format!("{arm}.{kind}.hdr")),
                    &bytes,
                )?;
            }
        }
    }
    for (name, content) in files {
        put(&folder.join(name), content)?;
    }
    let all = read_summaries(dir)?;
    put(&dir.join("README.md"), overview(&all).as_bytes())?;
    Ok(folder)
}

/// Reads every `DIR/*/summary.json`, by name of the scenario; `DIR` may also be one scenario's folder.
///
/// # Errors
/// Nothing there, or files that are not summaries.
pub fn read_summaries(dir: &Path) -> Result<Vec<Summary>, ReadError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ReadError::Io { path, source }
    };
    let mut files = vec![dir.join("summary.json")];
    for entry in fs::read_dir(dir).map_err(io(dir))? {
        files.push(entry.map_err(io(dir))?.path().join("summary.json"));
    }
    files.retain(|file| file.is_file());
    files.sort();
    if files.is_empty() {
        return Err(ReadError::Empty(dir.to_owned()));
    }
    files
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file).map_err(io(file))?;
            let format = |source| ReadError::Format {
                path: file.clone(),
                source,
            };
            let value: serde_json::Value = serde_json::from_str(&text).map_err(format)?;
            let found = value
                .get("schema")
                .and_then(|schema| schema.as_str())
                .unwrap_or_default();
            if found != SCHEMA {
                return Err(ReadError::Schema {
                    path: file.clone(),
                    found: found.to_owned(),
                });
            }
            serde_json::from_value(value).map_err(format)
        })
        .collect()
}

fn put(path: &Path, content: &[u8]) -> Result<(), ReadError> {
    let io = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io)?;
    }
    fs::write(path, content).map_err(io)
}

fn readme(summary: &Summary) -> String {
    let mut text = format!("# {}\n\n{}\n\n", summary.scenario, summary.reproduces);
    let _ = writeln!(
        text,
        "Made {} on {} ({}, {} CPUs), kernel {}, in {:.0} s, by\n",
        summary.env.started,
        summary.env.cpu,
        if summary.env.virtualised {
            "virtual"
        } else {
            "bare metal"
        },
        summary.env.cpus,
        summary.env.kernel,
        summary.env.seconds
    );
    let _ = writeln!(text, "    {}\n", summary.env.command.join(" "));
    text += &scenario_report(summary, Format::Markdown);
    text += "\n`raw.csv` has every cell, `histograms/` the merged HDR histograms (V2, nanoseconds), `artefacts/` what each data plane was given.\n\n![latency percentiles](latency.svg)\n\n![ratios to no mesh](ratios.svg)\n";
    text
}

fn overview(summaries: &[Summary]) -> String {
    let mut text = String::from("# Results\n\n");
    if let Some(first) = summaries.first() {
        let _ = writeln!(
            text,
            "Kernel {}, {}, {} CPUs, commit {}.\n",
            first.env.kernel,
            first.env.cpu,
            first.env.cpus,
            first.env.commit.as_deref().unwrap_or("unknown")
        );
    }
    text += "What the article claims, and what was measured here (ratios within one interleaved run):\n\n";
    text += &claim_table(summaries, Format::Markdown);
    text.push('\n');
    for summary in summaries {
        text += &scenario_report(summary, Format::Markdown);
        text.push('\n');
    }
    text
}

/// Plain data of numbers, strings and string-keyed maps: serialising it cannot fail, and should it
/// one day, the file says so.
fn pretty(value: &impl serde::Serialize) -> Vec<u8> {
    let mut text = serde_json::to_string_pretty(value)
        .unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"));
    text.push('\n');
    text.into_bytes()
}
