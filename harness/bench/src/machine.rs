//! What this machine is, read from `/proc` and `/sys`.

use crate::summary::Env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Describes the machine; `started` is now, `seconds` and `steal` are left for the end of the run.
pub fn describe(envoy: &Path, command: Vec<String>) -> Env {
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        cpuinfo.lines().find_map(|line| {
            line.strip_prefix(name)?
                .split_once(':')
                .map(|(_, value)| value.trim().to_owned())
        })
    };
    Env {
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        cpu: field("model name").unwrap_or_else(|| "unknown".to_owned()),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_mib: memory_mib(&read("/proc/meminfo")),
        governor: governor(),
        virtualised: field("flags")
            .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: commit(),
        envoy: first_line(Command::new(envoy).arg("--version")),
        command,
        started: rfc3339(SystemTime::now()),
        seconds: 0.0,
        steal: 0.0,
        conditions: crate::doctor::conditions(),
    }
}

/// The frequency governor of CPU 0; none on machines that do not scale.
pub fn governor() -> Option<String> {
    let text = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn memory_mib(meminfo: &str) -> u64 {
    meminfo
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kib| kib / 1024)
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(str::to_owned)
}

/// The commit this program was built from; `+` when the checkout it stands in has changes. None in debug builds.
fn commit() -> Option<String> {
    let built = Some(kmesh_cli::COMMIT).filter(|commit| !commit.is_empty())?;
    let mut status = Command::new("git");
    status.arg("-C").arg(crate::binaries::workspace());
    let differs =
        first_line(status.args(["status", "--porcelain", "--untracked-files=no"])).is_some();
    Some(format!("{built}{}", if differs { "+" } else { "" }))
}

/// CPU time since boot, in ticks, all CPUs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    total: u64,
    stolen: u64,
}

impl Ticks {
    /// Reads `/proc/stat`.
    pub fn now() -> Self {
        Self::parse(&read("/proc/stat"))
    }

    fn parse(stat: &str) -> Self {
        /// Fields: user nice system idle iowait irq softirq steal; guest time is part of user.
        const STEAL: usize = 7;
        let first = stat.lines().next().unwrap_or_default();
        let fields: Vec<u64> = first
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        Self {
            total: fields.iter().take(STEAL + 1).sum(),
            stolen: fields.get(STEAL).copied().unwrap_or(0),
        }
    }

    /// Share of CPU time stolen since `earlier`; 0 when no time passed.
    pub fn steal_since(&self, earlier: &Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total);
        self.stolen.saturating_sub(earlier.stolen) as f64 / total.max(1) as f64
    }
}

/// A time as `2026-11-22T21:41:23Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days as i64);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// Days since 1970-01-01 to year, month, day in the Gregorian calendar (Howard Hinnant,
/// "chrono-compatible low-level date algorithms", `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(at(1_795_383_683), "2026-11-22T21:41:23Z");
    }

    #[test]
    fn steal_is_a_share_of_all_time() {
        let before = Ticks::parse("cpu  100 0 50 800 0 0 0 50 7 0\ncpu0 1 2\n");
        let after = Ticks::parse("cpu  150 0 70 820 0 0 0 60 9 0\n");
        assert!((after.steal_since(&before) - 0.1).abs() < 1e-12);
        assert!(before.steal_since(&before).abs() < 1e-12);
    }

    #[test]
    fn this_machine_is_described() {
        let env = describe(Path::new("/nonexistent"), vec!["test".into()]);
        assert!(!env.kernel.is_empty() && env.cpus > 0 && env.memory_mib > 0);
        assert_eq!(env.envoy, None);
    }
}
