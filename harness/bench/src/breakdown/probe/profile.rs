//! Samples of every CPU's clock with kernel frames, while one arm is loaded.
//!
//! The software clock needs no hardware counters. Its interrupt waits while interrupts are off, so that time in such
//! sections counts for the function that turned them on again: usually the next one of the same part.

use super::category::category;
use super::symbols::Symbols;
use super::tasks::{Role, Task};
use perf_event::data::Record;
use perf_event::events::Software;
use perf_event::{Builder, SampleFlag, Sampler};
use std::collections::{BTreeMap, HashMap};
use std::io;

/// Time between two samples of one CPU, nanoseconds.
pub const PERIOD_NS: u64 = 250_000;
/// Frames kept of a sample: enough to reach the system call from the device.
const DEPTH: u16 = 32;
/// Bytes of ring buffer for each CPU: some seconds of samples at full depth.
const BUFFER: usize = 8 << 20;
/// Lowest address of the kernel's half.
const KERNEL: u64 = 1 << 63;
/// Markers in a call chain (`PERF_CONTEXT_*`) lie above this.
const MARKERS: u64 = u64::MAX - 4096;

/// A running profiler.
pub struct Profile {
    cpus: Vec<Sampler>,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile")
            .field("cpus", &self.cpus.len())
            .finish()
    }
}

/// Samples by part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    /// Samples of the arm by part.
    pub parts: BTreeMap<&'static str, u64>,
    /// Samples of anything else that is not idle.
    pub foreign: u64,
    /// Samples that the ring buffer had no room for.
    pub lost: u64,
}

impl Profile {
    /// Starts on all CPUs.
    ///
    /// # Errors
    /// The kernel's refusal, for example by `kernel.perf_event_paranoid`.
    pub fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism()?.get();
        let mut cpus = Vec::new();
        for cpu in 0..count {
            let mut builder = Builder::new(Software::CPU_CLOCK);
            builder
                .any_pid()
                .one_cpu(cpu)
                .include_kernel()
                .sample_period(PERIOD_NS)
                // With user frames: perf-event-data cannot read a chain that is empty for want of kernel frames.
                .sample(SampleFlag::IP | SampleFlag::TID | SampleFlag::CALLCHAIN)
                .sample_max_stack(DEPTH);
            cpus.push(builder.build()?.sampled(BUFFER)?);
        }
        for cpu in &mut cpus {
            cpu.enable()?;
        }
        Ok(Self { cpus })
    }

    /// Stops and sorts the samples. `tasks` are the arm's threads; the kernel's own threads and work on idle CPUs
    /// count for it too, since no other arm is loaded.
    ///
    /// # Errors
    /// The kernel's refusal to stop.
    pub fn finish(mut self, tasks: &[Task], symbols: &Symbols) -> io::Result<Samples> {
        let roles: HashMap<u32, Role> = tasks.iter().map(|task| (task.tid, task.role)).collect();
        let mut samples = Samples::default();
        for cpu in &mut self.cpus {
            cpu.disable()?;
        }
        for cpu in &mut self.cpus {
            while let Some(record) = cpu.next_record() {
                match record.parse_record() {
                    Ok(Record::Sample(sample)) => {
                        let chain = sample.callchain().unwrap_or_default();
                        samples.add(
                            sample.ip().unwrap_or(0),
                            chain,
                            sample.tid().unwrap_or(0),
                            &roles,
                            symbols,
                        );
                    }
                    Ok(Record::Lost(lost)) => samples.lost += lost.lost,
                    Ok(_) => {}
                    Err(_) => samples.lost += 1,
                }
            }
        }
        Ok(samples)
    }
}

impl Samples {
    fn add(
        &mut self,
        ip: u64,
        chain: &[u64],
        tid: u32,
        roles: &HashMap<u32, Role>,
        symbols: &Symbols,
    ) {
        let role = roles.get(&tid).copied();
        if role.is_none() && !kernel_thread(tid) {
            self.foreign += 1;
            return;
        }
        let part = if ip < KERNEL {
            match role {
                Some(Role::Application) => Some("application"),
                Some(Role::DataPlane) => Some("governance"),
                None => None,
            }
        } else {
            let frames = chain
                .iter()
                .filter(|frame| **frame < MARKERS && **frame >= KERNEL)
                .map(|frame| symbols.name(*frame));
            category(std::iter::once(symbols.name(ip)).chain(frames))
        };
        if let Some(part) = part {
            *self.parts.entry(part).or_default() += 1;
        }
    }

    /// All samples of the arm.
    pub fn total(&self) -> u64 {
        self.parts.values().sum()
    }
}

/// The idle task, or a `ksoftirqd` that does the stack's work.
fn kernel_thread(tid: u32) -> bool {
    tid == 0
        || std::fs::read_to_string(format!("/proc/{tid}/comm"))
            .is_ok_and(|name| name.starts_with("ksoftirqd/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_code_counts_by_whose_it_is() {
        let roles = HashMap::from([(1, Role::Application), (2, Role::DataPlane)]);
        let mut samples = Samples::default();
        let symbols = Symbols::default();
        for tid in [1, 2, 2, u32::MAX] {
            samples.add(0x1000, &[], tid, &roles, &symbols);
        }
        assert_eq!(samples.parts["application"], 1);
        assert_eq!(samples.parts["governance"], 2);
        assert_eq!((samples.foreign, samples.total()), (1, 3));
    }
}
