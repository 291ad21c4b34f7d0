//! The results folder. What a run measured: `DIR/SCENARIO/{summary.json, raw.csv, histograms.hlog, resources.yaml,
//! breakdown.json}` and, of the data planes, `artefacts/`. What [`regenerate`] makes of it at any time: `DIR/README.md`,
//! `DIR/report.html`, `DIR/SCENARIO/*.svg`.

use super::claims::{ClaimRow, claim_rows, claim_rows_of};
use super::losses::losses;
use super::stored::{self, io, read_summary};
use super::words::{Format, claims_as_table, loss_lines, scenario_report};
use crate::breakdown::Breakdown;
use crate::record::{self, Record};
use crate::summary::{SCHEMA, Summary};
use kmesh_stats::{Latency, log};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why stored results cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system's answer.
    #[error("{path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// No folder of results.
    #[error("{path}: {source}; name a folder that `kmesh-bench run --out` wrote")]
    NoFolder {
        /// What was named.
        path: PathBuf,
        /// The file system's answer.
        #[source]
        source: io::Error,
    },
    /// Output that the file system does not take.
    #[error("{path}: cannot be written: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// Not a summary.
    #[error("{path}: not a summary of this program")]
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
    /// Rows that cannot be read.
    #[error("{path}: not the rows of a run")]
    Rows {
        /// The file.
        path: PathBuf,
        /// The reader's words, with the line.
        #[source]
        source: csv::Error,
    },
    /// A histogram that cannot be read.
    #[error("{path}")]
    Histogram {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: kmesh_stats::Error,
    },
    /// No summary below the folder.
    #[error("{0}: no */summary.json in it; was it written by `kmesh-bench run --out`?")]
    Empty(PathBuf),
}

/// A file to be stored with a result: path relative to the scenario's folder, and content.
pub type Stored = (String, Vec<u8>);

/// Name of the merged histograms, service and intended time of every arm.
pub(super) const HISTOGRAMS: &str = "histograms.hlog";

/// Writes one scenario's folder, its summary first, and refreshes the claim table of the whole result in `DIR/README.md`; [`regenerate`]
/// makes the rest.
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
    put(
        &folder.join("raw.csv"),
        record::to_csv(&summary.scenario, &record.rows).as_bytes(),
    )?;
    let file = folder.join(HISTOGRAMS);
    put(&file, &histograms(record, &file)?)?;
    for (name, content) in files {
        put(&folder.join(name), content)?;
    }
    let all = read_summaries(dir)?;
    let text = overview(&all, &claim_rows(&all));
    put(&dir.join("README.md"), text.as_bytes())?;
    Ok(folder)
}

fn histograms(record: &Record, file: &Path) -> Result<Vec<u8>, ReadError> {
    let tagged: Vec<(String, &Latency)> = record
        .merged
        .iter()
        .flat_map(|(arm, merged)| {
            [("service", &merged.service), ("intended", &merged.intended)]
                .map(|(kind, latency)| (format!("{arm}.{kind}"), latency))
        })
        .filter(|(_, latency)| latency.count() > 0)
        .collect();
    log::write(tagged.iter().map(|(tag, latency)| (tag.as_str(), *latency))).map_err(|source| {
        ReadError::Histogram {
            path: file.to_owned(),
            source,
        }
    })
}

/// Writes `DIR/SCENARIO/breakdown.json`; where `DIR` holds results, its page is made again.
///
/// # Errors
/// Whatever the file system answers.
pub fn write_breakdown(dir: &Path, breakdown: &Breakdown) -> Result<PathBuf, ReadError> {
    let folder = dir.join(&breakdown.scenario);
    let file = folder.join("breakdown.json");
    put(&file, &pretty(breakdown))?;
    if folder.join("summary.json").is_file() {
        regenerate(dir)?;
    }
    Ok(file)
}

/// Makes everything that follows from the stored figures again: `report.html`, `README.md` and the drawings
/// of every scenario, and returns the page's path. Nothing is measured.
///
/// # Errors
/// Files that cannot be read or written.
pub fn regenerate(dir: &Path) -> Result<PathBuf, ReadError> {
    let results = stored::read_all(dir)?;
    let page = dir.join("report.html");
    put(&page, super::html::page(&results).as_bytes())?;
    for stored in &results {
        // A folder of one scenario holds its files itself.
        let own = dir.join(&stored.summary.scenario);
        let folder = if own.is_dir() { own } else { dir.to_owned() };
        for (name, drawing) in super::plot::svg(&stored.summary, &stored.record) {
            put(&folder.join(name), drawing.as_bytes())?;
        }
        if let Some(breakdown) = &stored.breakdown {
            let size = super::plot::Size::DESK;
            for (name, drawing) in [
                ("breakdown.svg", super::plot::parts(breakdown, size)),
                (
                    "waterfall.svg",
                    super::plot::waterfall(breakdown, "envoy-both", size),
                ),
            ] {
                if let Some(drawing) = drawing {
                    put(&folder.join(name), drawing.as_bytes())?;
                }
            }
        }
    }
    if !dir.join("summary.json").is_file() {
        let claims = claim_rows_of(&results);
        let summaries: Vec<Summary> = results.into_iter().map(|stored| stored.summary).collect();
        let text = overview(&summaries, &claims);
        put(&dir.join("README.md"), text.as_bytes())?;
    }
    Ok(page)
}

/// Reads every `DIR/*/summary.json`, by name of the scenario; `DIR` may also be one scenario's folder.
///
/// # Errors
/// Nothing there, or files that are not summaries.
pub fn read_summaries(dir: &Path) -> Result<Vec<Summary>, ReadError> {
    let mut files = vec![dir.join("summary.json")];
    for entry in entries(dir)? {
        files.push(entry.map_err(io(dir))?.path().join("summary.json"));
    }
    files.retain(|file| file.is_file());
    files.sort();
    if files.is_empty() {
        return Err(ReadError::Empty(dir.to_owned()));
    }
    files.iter().map(|file| read_summary(file)).collect()
}

/// What is in a folder of results.
pub(super) fn entries(dir: &Path) -> Result<fs::ReadDir, ReadError> {
    fs::read_dir(dir).map_err(|source| ReadError::NoFolder {
        path: dir.to_owned(),
        source,
    })
}

/// Makes the folder and tries whether it takes a file: before anything is measured for it.
///
/// # Errors
/// [`ReadError::Write`].
pub fn try_folder(dir: &Path) -> Result<(), ReadError> {
    let probe = dir.join(format!(".kmesh-bench-{}", std::process::id()));
    let made = if dir.exists() && !dir.is_dir() {
        let words = "it is no folder; name one with --out";
        Err(io::Error::new(io::ErrorKind::NotADirectory, words))
    } else {
        fs::create_dir_all(dir)
    };
    made.and_then(|()| fs::write(&probe, b"is there room?"))
        .and_then(|()| fs::remove_file(&probe))
        .map_err(|source| ReadError::Write {
            path: dir.to_owned(),
            source,
        })
}

/// Writes a file whole or not at all: beside it first, then in its place.
fn put(path: &Path, content: &[u8]) -> Result<(), ReadError> {
    let refused = |source| ReadError::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(refused)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let written = fs::write(&beside, content).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What was half written is of no use to anyone; that it may stay is the lesser trouble.
        let _ = fs::remove_file(&beside);
    }
    written.map_err(refused)
}

fn overview(summaries: &[Summary], claims: &[ClaimRow]) -> String {
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
    text += &claims_as_table(claims, Format::Markdown);
    text += "\nWhere the mesh loses (every comparison whose interval goes against it):\n\n";
    text += &loss_lines(&losses(summaries), Format::Markdown);
    text += "\n`kmesh-bench report DIR --write` makes `report.html`, with drawings of all of it, from these files: per scenario `summary.json` (figures, machine, command), `raw.csv` (every cell), `histograms.hlog` (merged, nanoseconds) and `resources.yaml` (what every arm was given).\n\n";
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
