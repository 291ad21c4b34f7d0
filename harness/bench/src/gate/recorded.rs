//! Noise for the gate's self-test: how far each cell of a recorded run was from its arm's own median.
//!
//! [`record`] draws it from the rows of results folders, once; what it found is kept in one small file
//! ([`to_csv`], [`read`]), so that the runs themselves need not be kept. A row is one block: the natural logarithms of
//! three arms' deviations, in p50 and p90.

use super::wall::METRICS;
use kmesh_stats::rank;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Arms whose deviations are used, in order of preference: a gate's own cells, else three arms without a
/// proxy process.
const TRIPLES: [[&str; 3]; 2] = [
    ["base", "base-again", "head"],
    ["direct", "direct-aa", "kmesh"],
];

/// The gate's scenarios, each with the recorded ones that its noise may come from.
const SCENARIOS: [[&str; 2]; 3] = [
    ["gate-long60", "http-lb-long60"],
    ["gate-short", "http-lb-short"],
    ["gate-canary", "header-canary"],
];

/// Fewest blocks that noise is drawn from.
const SMALLEST: usize = 12;

/// Where the file is, below the folder of scenarios.
pub const FILE: &str = "gate/noise.csv";

/// The file's first line.
const HEADER: &str = "scenario,a_p50,a_p90,b_p50,b_p90,c_p50,c_p90";

/// Log deviations of three arms in one block, per arm and metric.
pub(super) type Block = [[f64; METRICS.len()]; 3];

/// Recorded noise of one of the gate's scenarios.
#[derive(Debug, Clone, PartialEq)]
pub struct Noise {
    /// The gate's scenario.
    pub scenario: String,
    pub(super) blocks: Vec<Block>,
}

/// Why there is no noise to draw from.
#[derive(Debug, thiserror::Error)]
pub enum NoiseError {
    /// A file cannot be read.
    #[error("{path}: {source}; name a file that `kmesh-bench gate --record-noise` printed")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// Something else than a folder.
    #[error("{0}: no folder; name results that `kmesh-bench run --out` wrote")]
    NoFolder(PathBuf),
    /// Too little of a scenario.
    #[error("{origin}: {found} blocks of noise for {scenario}, of at least {SMALLEST} that are needed: record it from runs with {arms}", arms = TRIPLES[1].join(", "))]
    TooFew {
        /// Where it was looked for.
        origin: String,
        /// The gate's scenario.
        scenario: String,
        /// Blocks found.
        found: usize,
    },
    /// A line of the file is not one that [`to_csv`] writes.
    #[error("{path}:{line}: {text:?} is no row of {HEADER}")]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// The samples drawn are not usable.
    #[error(transparent)]
    Stats(#[from] kmesh_stats::Error),
}

/// Noise for each of the gate's scenarios, from all of the results `folders` together: one run alone may have been quiet, or loud.
///
/// # Errors
/// [`NoiseError::TooFew`] when the folders have too little of a scenario, [`NoiseError::NoFolder`].
pub fn record(folders: &[PathBuf]) -> Result<Vec<Noise>, NoiseError> {
    if let Some(other) = folders.iter().find(|folder| !folder.is_dir()) {
        return Err(NoiseError::NoFolder(other.clone()));
    }
    let of = |names: &[&str; 2]| Noise {
        scenario: names[0].to_owned(),
        blocks: folders
            .iter()
            .filter_map(|folder| {
                names
                    .iter()
                    .find_map(|name| from_rows(&folder.join(name).join("raw.csv")))
            })
            .flatten()
            .collect(),
    };
    let list: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
    enough(SCENARIOS.iter().map(of).collect(), &list.join(", "))
}

/// Reads what [`to_csv`] wrote.
///
/// # Errors
/// [`NoiseError`].
pub fn read(file: &Path) -> Result<Vec<Noise>, NoiseError> {
    let text = std::fs::read_to_string(file).map_err(|source| NoiseError::Io {
        path: file.to_owned(),
        source,
    })?;
    let mut found: Vec<Noise> = SCENARIOS
        .iter()
        .map(|names| Noise {
            scenario: names[0].to_owned(),
            blocks: Vec::new(),
        })
        .collect();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(n, line)| *n > 0 || *line != HEADER)
    {
        let refused = || NoiseError::Row {
            path: file.to_owned(),
            line: number + 1,
            text: line.to_owned(),
        };
        let (scenario, block) = row(line).ok_or_else(refused)?;
        let noise = found
            .iter_mut()
            .find(|noise| noise.scenario == scenario)
            .ok_or_else(refused)?;
        noise.blocks.push(block);
    }
    enough(found, &file.display().to_string())
}

fn row(line: &str) -> Option<(&str, Block)> {
    let (scenario, rest) = line.split_once(',')?;
    let figures = rest
        .split(',')
        .map(|text| text.parse::<f64>().ok().filter(|figure| figure.is_finite()))
        .collect::<Option<Vec<f64>>>()?;
    let [a50, a90, b50, b90, c50, c90] = *figures.as_slice() else {
        return None;
    };
    Some((scenario, [[a50, a90], [b50, b90], [c50, c90]]))
}

fn enough(noise: Vec<Noise>, origin: &str) -> Result<Vec<Noise>, NoiseError> {
    match noise.iter().find(|noise| noise.blocks.len() < SMALLEST) {
        None => Ok(noise),
        Some(short) => Err(NoiseError::TooFew {
            origin: origin.to_owned(),
            scenario: short.scenario.clone(),
            found: short.blocks.len(),
        }),
    }
}

/// The file's text: one line a block, six decimals (a millionth).
pub fn to_csv(noise: &[Noise]) -> String {
    let mut text = format!("{HEADER}\n");
    for (noise, block) in noise
        .iter()
        .flat_map(|n| n.blocks.iter().map(move |b| (n, b)))
    {
        text += &noise.scenario;
        for deviation in block.iter().flatten() {
            let _ = write!(text, ",{deviation:.6}");
        }
        text.push('\n');
    }
    text
}

/// The deviations in one run's rows; none when it has too few blocks with three of the arms.
fn from_rows(csv: &Path) -> Option<Vec<Block>> {
    let cells = cells(&std::fs::read_to_string(csv).ok()?);
    TRIPLES
        .iter()
        .map(|arms| deviations(&cells, *arms))
        .find(|blocks| blocks.len() >= SMALLEST)
}

type Cells = BTreeMap<usize, BTreeMap<String, [f64; METRICS.len()]>>;

/// Log latency by block and arm: intended time where there is one.
fn cells(csv: &str) -> Cells {
    let mut lines = csv.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let mut cells = Cells::new();
    for line in lines {
        let fields: BTreeMap<&str, &str> = columns.iter().copied().zip(line.split(',')).collect();
        let number = |name: &str| fields.get(name).and_then(|text| text.parse::<f64>().ok());
        let latency = |name: &str| {
            let intended = number(&format!("intended_{name}_us")).filter(|us| *us > 0.0);
            intended
                .or_else(|| number(&format!("{name}_us")))
                .filter(|us| *us > 0.0)
                .map(f64::ln)
        };
        let (Some(block), Some(arm)) = (number("block"), fields.get("arm")) else {
            continue;
        };
        if let [Some(p50), Some(p90)] = METRICS.map(|metric| latency(metric.name)) {
            cells
                .entry(block as usize)
                .or_default()
                .insert((*arm).to_owned(), [p50, p90]);
        }
    }
    cells
}

/// Deviations of three arms from their own medians, in blocks that have all three.
fn deviations(cells: &Cells, arms: [&str; 3]) -> Vec<[[f64; METRICS.len()]; 3]> {
    let mut blocks: Vec<[[f64; METRICS.len()]; 3]> = cells
        .values()
        .filter_map(|block| {
            let [a, b, c] = arms.map(|arm| block.get(arm).copied());
            Some([a?, b?, c?])
        })
        .collect();
    for arm in 0..arms.len() {
        for metric in 0..METRICS.len() {
            let values: Vec<f64> = blocks.iter().map(|block| block[arm][metric]).collect();
            let centre = rank::median(&values).unwrap_or(0.0);
            for block in &mut blocks {
                block[arm][metric] -= centre;
            }
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "block,arm,p50_us,intended_p50_us,p90_us,intended_p90_us\n";

    #[test]
    fn deviations_are_from_each_arms_own_median() {
        let mut csv = CSV.to_owned();
        for block in 0..SMALLEST {
            for (arm, centre) in [("direct", 100.0), ("direct-aa", 110.0), ("kmesh", 50.0)] {
                let p50 = centre * if block == 3 { 2.0 } else { 1.0 };
                csv.push_str(
                    &[
                        &block.to_string(),
                        arm,
                        "1",
                        &p50.to_string(),
                        &p50.to_string(),
                        "0\n",
                    ]
                    .join(","),
                );
            }
        }
        let blocks = deviations(&cells(&csv), TRIPLES[1]);
        assert_eq!(blocks.len(), SMALLEST);
        for (block, cells) in blocks.iter().enumerate() {
            let expected = if block == 3 { 2f64.ln() } else { 0.0 };
            assert!(
                cells
                    .iter()
                    .flatten()
                    .all(|deviation| (deviation - expected).abs() < 1e-12)
            );
        }
    }

    #[test]
    fn a_run_without_three_arms_is_no_source() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("gate-long60");
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join("raw.csv"), format!("{CSV}0,direct,1,1,1,1\n")).unwrap();
        let refused = record(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(
            refused.contains("0 blocks of noise for gate-long60"),
            "{refused}"
        );
    }

    fn some(scenario: &str) -> Noise {
        let block = |n: usize| [[n as f64 / 8.0, -0.5], [0.25, 0.0], [1e-6, 0.125]];
        Noise {
            scenario: scenario.to_owned(),
            blocks: (0..SMALLEST).map(block).collect(),
        }
    }

    #[test]
    fn a_file_gives_back_what_was_recorded_and_refuses_other_lines() {
        let noise: Vec<Noise> = SCENARIOS.iter().map(|names| some(names[0])).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = to_csv(&noise);
        std::fs::write(file.path(), &text).unwrap();
        assert_eq!(read(file.path()).unwrap(), noise);
        for bad in [
            "gate-long60,1,2,3",
            "gate-long60,1,2,3,4,5,NaN",
            "other,0,0,0,0,0,0",
        ] {
            std::fs::write(file.path(), format!("{text}{bad}\n")).unwrap();
            let refused = read(file.path()).unwrap_err().to_string();
            assert!(refused.contains(":38: "), "{refused}");
        }
        std::fs::write(file.path(), to_csv(&noise[..2])).unwrap();
        assert!(matches!(
            read(file.path()),
            Err(NoiseError::TooFew { found: 0, .. })
        ));
    }
}
