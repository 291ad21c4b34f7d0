//! A result as it lies in a folder: figures, rows and histograms. All that a report is made of, so that
//! `kmesh-bench report DIR` draws the same page on any machine at any time.

use super::folder::{HISTOGRAMS, ReadError, entries};
use crate::breakdown::Breakdown;
use crate::record::{Merged, Record, Row};
use crate::summary::{SCHEMA, Summary};
use kmesh_stats::log;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One scenario's folder.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The published figures.
    pub summary: Summary,
    /// Rows and merged histograms; what a summary holds anyway (servers, reasons) is left empty.
    pub record: Record,
    /// Where the time goes, if it was measured.
    pub breakdown: Option<Breakdown>,
}

impl Stored {
    /// The value of the sweep's key as a number, if it is one.
    pub fn sweep_value(&self) -> Option<f64> {
        self.summary.sweep.as_ref()?.value.parse().ok()
    }

    /// The value of the sweep's key as text; empty outside of a sweep.
    pub fn sweep_text(&self) -> String {
        self.summary
            .sweep
            .as_ref()
            .map(|point| point.value.clone())
            .unwrap_or_default()
    }
}

/// Reads every `DIR/*/summary.json` with its rows and histograms; `DIR` may also be one scenario's folder.
///
/// # Errors
/// Nothing there, or files that this program does not understand.
pub fn read_all(dir: &Path) -> Result<Vec<Stored>, ReadError> {
    let mut folders = vec![dir.to_owned()];
    for entry in entries(dir)? {
        folders.push(entry.map_err(io(dir))?.path());
    }
    folders.retain(|folder| folder.join("summary.json").is_file());
    folders.sort();
    if folders.is_empty() {
        return Err(ReadError::Empty(dir.to_owned()));
    }
    let mut stored = folders
        .iter()
        .map(|folder| read_one(folder))
        .collect::<Result<Vec<Stored>, _>>()?;
    in_order(&mut stored);
    Ok(stored)
}

/// By name; the points of a sweep by their value, so that 16 comes before 128.
fn in_order(stored: &mut [Stored]) {
    stored.sort_by(|a, b| {
        let family = |stored: &Stored| {
            stored.summary.sweep.as_ref().map_or_else(
                || stored.summary.scenario.clone(),
                |point| point.name.clone(),
            )
        };
        let place = |stored: &Stored| {
            stored
                .summary
                .sweep
                .as_ref()
                .map_or(0, |point| point.position)
        };
        family(a)
            .cmp(&family(b))
            .then(place(a).cmp(&place(b)))
            .then(a.summary.scenario.cmp(&b.summary.scenario))
    });
}

fn read_one(folder: &Path) -> Result<Stored, ReadError> {
    let breakdown = folder.join("breakdown.json");
    Ok(Stored {
        summary: read_summary(&folder.join("summary.json"))?,
        record: Record {
            rows: read_rows(&folder.join("raw.csv"))?,
            merged: read_histograms(&folder.join(HISTOGRAMS))?,
            ..Record::default()
        },
        breakdown: breakdown
            .is_file()
            .then(|| read_json(&breakdown))
            .transpose()?,
    })
}

/// Reads one `summary.json` and refuses one of another schema.
pub(super) fn read_summary(file: &Path) -> Result<Summary, ReadError> {
    let value: serde_json::Value = read_json(file)?;
    let found = value
        .get("schema")
        .and_then(|schema| schema.as_str())
        .unwrap_or_default();
    if found != SCHEMA {
        return Err(ReadError::Schema {
            path: file.to_owned(),
            found: found.to_owned(),
        });
    }
    serde_json::from_value(value).map_err(|source| ReadError::Format {
        path: file.to_owned(),
        source,
    })
}

fn read_json<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, ReadError> {
    let text = fs::read_to_string(file).map_err(io(file))?;
    serde_json::from_str(&text).map_err(|source| ReadError::Format {
        path: file.to_owned(),
        source,
    })
}

/// Rows by their column names; a file that is not there has none.
fn read_rows(file: &Path) -> Result<Vec<Row>, ReadError> {
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let rows = |source| ReadError::Rows {
        path: file.to_owned(),
        source,
    };
    csv::Reader::from_path(file)
        .map_err(rows)?
        .deserialize()
        .collect::<Result<Vec<Row>, csv::Error>>()
        .map_err(rows)
}

/// Histograms by arm, tagged `ARM.service` and `ARM.intended`; a file that is not there has none.
fn read_histograms(file: &Path) -> Result<BTreeMap<String, Merged>, ReadError> {
    let mut merged = BTreeMap::<String, Merged>::new();
    if !file.is_file() {
        return Ok(merged);
    }
    let text = fs::read(file).map_err(io(file))?;
    let tagged = log::read(&text).map_err(|source| ReadError::Histogram {
        path: file.to_owned(),
        source,
    })?;
    for (tag, latency) in tagged {
        let Some((arm, kind)) = tag.rsplit_once('.') else {
            continue;
        };
        let of_arm = merged.entry(arm.to_owned()).or_default();
        match kind {
            "service" => of_arm.service = latency,
            "intended" => of_arm.intended = latency,
            _ => {}
        }
    }
    Ok(merged)
}

/// The file system's answer with the path it is about.
pub(super) fn io(path: &Path) -> impl Fn(std::io::Error) -> ReadError + use<> {
    let path: PathBuf = path.to_owned();
    move |source| ReadError::Io {
        path: path.clone(),
        source,
    }
}
