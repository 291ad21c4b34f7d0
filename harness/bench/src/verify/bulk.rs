//! Large bodies: what stalled readers cost in memory, and how fast 16 MiB travel.

use kmesh_streams::ceiling::ceiling;
use kmesh_streams::lab::CheckError;
use kmesh_streams::memory::{self, Footprint};
use kmesh_streams::throughput::{self, Throughput};
use serde::Serialize;

use crate::binaries::Programs;
use crate::summary::Status;

/// Bytes of a body.
const LENGTH: u64 = 16 << 20;
/// Most memory against plain TCP.
const MEMORY_CEILING: f64 = 1.5;
/// Least throughput against no mesh.
const THROUGHPUT_FLOOR: f64 = 0.9;
/// What everything is compared with.
const REFERENCE: &str = "direct";

/// What came of it; the object on stdout.
#[derive(Clone, Debug, Serialize)]
pub struct BulkOutcome {
    /// Memory of the stalled readers, `direct` first.
    pub memory: Vec<Footprint>,
    /// Memory of each arm as a multiple of that of `direct`.
    pub memory_ratios: Vec<(String, f64)>,
    /// Throughput of each arm and direction.
    pub throughput: Vec<Throughput>,
    /// What a relay that only copies reaches here; judges nothing.
    pub ceiling: Option<Throughput>,
}

impl BulkOutcome {
    /// Whether all of it is within bounds.
    pub fn status(&self) -> Status {
        if self.memory.iter().any(|arm| !arm.found.wrong.is_empty()) {
            return Status::Wrong;
        }
        let memory = self
            .memory_ratios
            .iter()
            .all(|(_, ratio)| *ratio <= MEMORY_CEILING);
        let throughput = self
            .throughput
            .iter()
            .all(|arm| arm.ratio.point >= THROUGHPUT_FLOOR);
        if memory && throughput {
            Status::Held
        } else {
            Status::Missed
        }
    }
}

/// Measures. Figures also go to stderr as they come.
///
/// # Errors
/// If an arm can't be brought up, or a client can't do its work in it.
pub fn bulk(
    readers: usize,
    rounds: usize,
    arms: &[String],
    programs: &Programs,
) -> Result<BulkOutcome, CheckError> {
    let options = super::options(programs);
    let reference = REFERENCE.to_owned();
    let mut memory = Vec::new();
    for arm in [&reference].into_iter().chain(arms).filter(|_| readers > 0) {
        let footprint = memory::footprint(arm, readers, LENGTH, &options)?;
        eprintln!(
            "{arm}: {readers} stalled readers cost {} MB (TCP {} MB, daemons {} MB)",
            footprint.cost >> 20,
            (footprint.peak.tcp - footprint.before.tcp.min(footprint.peak.tcp)) >> 20,
            footprint.peak.daemons >> 20
        );
        memory.push(footprint);
    }
    let plain = memory.first().map_or(1.0, |first| first.cost.max(1) as f64);
    let memory_ratios = memory
        .iter()
        .skip(1)
        .map(|arm| (arm.arm.clone(), arm.cost as f64 / plain))
        .collect();
    let mut throughput = Vec::new();
    for arm in arms.iter().filter(|_| rounds > 0) {
        for line in throughput::compare(arm, REFERENCE, LENGTH, rounds, &options)? {
            eprintln!(
                "{arm}: 16 MiB {}: {:.3} [{:.3}, {:.3}] of {REFERENCE}",
                line.direction, line.ratio.point, line.ratio.lo, line.ratio.hi
            );
            throughput.push(line);
        }
    }
    let ceiling = if rounds > 0 {
        Some(ceiling(LENGTH, rounds)?)
    } else {
        None
    };
    if let Some(copy) = &ceiling {
        eprintln!(
            "a relay that only copies, download: {:.3} [{:.3}, {:.3}] of one connection",
            copy.ratio.point, copy.ratio.lo, copy.ratio.hi
        );
    }
    Ok(BulkOutcome {
        memory,
        memory_ratios,
        throughput,
        ceiling,
    })
}
