//! G1: what can be counted instead of timed. Counts do not depend on the machine's mood, so a change of a
//! few percent is a fact, and this is the gate for everything finer than the clock can see.

use super::side::{Side, output};
use super::verdict::{Check, Outcome, Stage};
use crate::bpf::Footprint;
use crate::run::{CLIENT, CallsPerRequest, SERVERS};
use serde::Serialize;
use std::process::Command;

/// The decision core may take this many more instructions, as a share.
const INSTRUCTIONS: f64 = 0.01;
/// The verifier's effort and the programs' size may grow by this share.
const PROGRAMS: f64 = 0.02;
/// Memory of the maps may grow by this share.
const MAPS: f64 = 0.01;
/// Kind of the counts of system calls.
pub const SYSCALLS: &str = "syscalls-per-1000";
/// Calls of client and servers per 1,000 requests may grow by this share.
const CALLS: f64 = 0.01;
/// Those of the daemon may grow by this share: how many events one of its waits brings is a matter of timing.
const DAEMON_CALLS: f64 = 0.10;
/// Calls of the daemon per 1,000 requests that the kernel carries, at most: it looks after its pools a few hundred times a
/// second, and a request that passed through it would be several calls.
const DAEMON_FLOOR: u64 = 100;

/// All kinds of counts, as `--accept` takes them.
pub const KINDS: [&str; 5] = [
    "instructions",
    "map-bytes",
    "program-bytes",
    SYSCALLS,
    "verified-instructions",
];

/// Cases of the `decide_cost` example.
const CASES: [&str; 4] = ["routes-1", "routes-100", "canary", "long-head"];

/// One count on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Count {
    /// Kind of count; `--accept` takes this word.
    pub kind: &'static str,
    /// What was counted: a case, a program, `all`.
    pub of: String,
    /// In the base; none for what it does not have.
    pub base: Option<u64>,
    /// In the head; none for what is gone.
    pub head: Option<u64>,
    /// How much it may grow, as a share.
    pub allowed: f64,
    /// What head may have whatever the base has: growth up to here is none.
    pub floor: u64,
}

impl Count {
    /// Growth as a share; none where one side is missing.
    pub fn growth(&self) -> Option<f64> {
        let (base, head) = (self.base? as f64, self.head? as f64);
        Some(head / base.max(1.0) - 1.0)
    }

    /// Whether it grew by more than it may.
    pub fn grew(&self) -> bool {
        self.head > Some(self.floor) && self.growth().is_some_and(|growth| growth > self.allowed)
    }
}

/// Instructions of the decision core on both sides, by callgrind.
///
/// # Errors
/// What is missing or went wrong, in words.
pub fn instructions(base: &Side, head: &Side) -> Result<Vec<Count>, String> {
    let (Some(of_base), Some(of_head)) = (&base.decide_cost, &head.decide_cost) else {
        let without = if base.decide_cost.is_none() {
            base
        } else {
            head
        };
        return Err(format!(
            "{} has no example decide_cost to count",
            without.title()
        ));
    };
    CASES
        .iter()
        .map(|case| {
            let count = |program: &std::path::Path| {
                let mut command = Command::new("valgrind");
                command
                    .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
                    .arg("--toggle-collect=*decide_many*")
                    .arg(program)
                    .arg(case);
                collected(&mut command)
            };
            Ok(Count {
                kind: "instructions",
                of: (*case).to_owned(),
                base: Some(count(of_base)?),
                head: Some(count(of_head)?),
                allowed: INSTRUCTIONS,
                floor: 0,
            })
        })
        .collect()
}

/// Whether instructions can be counted on this machine.
pub fn has_valgrind() -> bool {
    output("valgrind", Command::new("valgrind").arg("--version")).is_ok()
}

fn collected(command: &mut Command) -> Result<u64, String> {
    let done = command
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        let last = said.lines().last().unwrap_or_default();
        return Err(format!("valgrind: {}: {last}", done.status));
    }
    parse_collected(&said)
        .filter(|count| *count > 0)
        .ok_or_else(|| "valgrind collected nothing inside of decide_many".to_owned())
}

/// `==123== Collected : 4567` on callgrind's stderr.
fn parse_collected(said: &str) -> Option<u64> {
    said.lines()
        .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

/// Verifier effort, sizes and map memory of both sides' daemons.
pub fn footprints(base: &Footprint, head: &Footprint) -> Vec<Count> {
    let mut counts = Vec::new();
    let names: std::collections::BTreeSet<&String> =
        base.programs.keys().chain(head.programs.keys()).collect();
    for name in names {
        let (of_base, of_head) = (base.programs.get(name), head.programs.get(name));
        let mut add = |kind, pick: fn(&crate::bpf::ProgramSize) -> u64| {
            counts.push(Count {
                kind,
                of: name.clone(),
                base: of_base.map(pick),
                head: of_head.map(pick),
                allowed: PROGRAMS,
                floor: 0,
            });
        };
        add("verified-instructions", |size| size.verified_instructions);
        add("program-bytes", |size| size.translated_bytes);
    }
    counts.push(Count {
        kind: "map-bytes",
        of: "all".to_owned(),
        base: Some(base.map_bytes),
        head: Some(head.map_bytes),
        allowed: MAPS,
        floor: 0,
    });
    counts
}

/// System calls per 1,000 requests on both sides, by place, over one kind of connection.
pub fn calls(connection: &str, base: &CallsPerRequest, head: &CallsPerRequest) -> Vec<Count> {
    let places: std::collections::BTreeSet<&String> =
        base.per_1000.keys().chain(head.per_1000.keys()).collect();
    places
        .into_iter()
        .map(|place| {
            let application = matches!(place.as_str(), CLIENT | SERVERS);
            let (allowed, floor) = if application {
                (CALLS, 0)
            } else {
                (DAEMON_CALLS, DAEMON_FLOOR)
            };
            Count {
                kind: SYSCALLS,
                of: format!("{place} ({connection})"),
                base: base.per_1000.get(place).copied(),
                head: head.per_1000.get(place).copied(),
                allowed,
                floor,
            }
        })
        .collect()
}

/// Counts that were taken twice because some grew the first time: what grew only once was timing, and the count that shows
/// it is the one to report. With no `second`, the first.
pub fn twice(first: Vec<Count>, second: &[Count]) -> Vec<Count> {
    let again = |count: Count| {
        let same = second.iter().find(|other| other.of == count.of);
        same.filter(|_| count.grew()).cloned().unwrap_or(count)
    };
    first.into_iter().map(again).collect()
}

/// One check per kind of count. What grew fails, unless its kind is accepted; what is new or gone is said.
pub fn checks(counts: &[Count], accepted: &[String]) -> Vec<Check> {
    let mut kinds: Vec<&'static str> = counts.iter().map(|count| count.kind).collect();
    kinds.dedup();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
        .into_iter()
        .map(|kind| {
            let of_kind: Vec<&Count> = counts.iter().filter(|count| count.kind == kind).collect();
            let grown: Vec<&&Count> = of_kind.iter().filter(|count| count.grew()).collect();
            let outcome = match (grown.is_empty(), accepted.iter().any(|word| word == kind)) {
                (true, _) => Outcome::Pass,
                (false, true) => Outcome::Warn,
                (false, false) => Outcome::Fail,
            };
            let mut said: Vec<String> = grown.iter().map(|count| words(count)).collect();
            if said.is_empty() {
                let largest = of_kind
                    .iter()
                    .filter_map(|count| Some((count.growth()?, *count)))
                    .max_by(|a, b| a.0.total_cmp(&b.0));
                said.extend(largest.map(|(_, count)| format!("at most {}", words(count))));
            }
            said.extend(
                of_kind
                    .iter()
                    .filter_map(|count| match (count.base, count.head) {
                        (None, Some(head)) => Some(format!("{} is new: {head}", count.of)),
                        (Some(base), None) => Some(format!("{} is gone: {base}", count.of)),
                        _ => None,
                    }),
            );
            if outcome == Outcome::Warn {
                said.push(format!("accepted by --accept {kind}"));
            }
            Check::new(Stage::G1, kind, outcome, said.join("; ")).with(&of_kind)
        })
        .collect()
}

fn words(count: &Count) -> String {
    format!(
        "{}: {} -> {} ({:+.2} %, {:.0} % allowed)",
        count.of,
        count.base.unwrap_or(0),
        count.head.unwrap_or(0),
        count.growth().unwrap_or(0.0) * 100.0,
        count.allowed * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::ProgramSize;

    fn footprint(verified: u64, maps: u64) -> Footprint {
        let size = ProgramSize {
            verified_instructions: verified,
            translated_bytes: 800,
            jited_bytes: 500,
        };
        Footprint {
            programs: [("msg_client_request".to_owned(), size)].into(),
            map_bytes: maps,
        }
    }

    fn outcomes(base: &Footprint, head: &Footprint, accepted: &[String]) -> Vec<Outcome> {
        checks(&footprints(base, head), accepted)
            .iter()
            .map(|check| check.outcome)
            .collect()
    }

    #[test]
    fn growth_beyond_the_allowance_fails_unless_accepted() {
        use Outcome::{Fail, Pass, Warn};
        let base = footprint(10_000, 1_000_000);
        let kinds = ["map-bytes", "program-bytes", "verified-instructions"];
        let checks = checks(&footprints(&base, &footprint(10_100, 1_000_000)), &[]);
        assert!(
            checks
                .iter()
                .zip(kinds)
                .all(|(check, kind)| check.name == kind && KINDS.contains(&kind))
        );
        assert_eq!(
            outcomes(&base, &footprint(10_100, 1_000_000), &[]),
            [Pass; 3]
        );
        assert_eq!(
            outcomes(&base, &footprint(10_300, 1_000_000), &[]),
            [Pass, Pass, Fail]
        );
        assert_eq!(
            outcomes(&base, &footprint(9_000, 1_020_000), &[]),
            [Fail, Pass, Pass]
        );
        assert_eq!(
            outcomes(
                &base,
                &footprint(10_300, 1),
                &["verified-instructions".into()]
            ),
            [Pass, Pass, Warn]
        );
    }

    #[test]
    fn a_new_program_is_named_not_failed() {
        let mut head = footprint(10_000, 1);
        head.programs
            .insert("msg_new".into(), ProgramSize::default());
        let checks = checks(&footprints(&footprint(10_000, 1), &head), &[]);
        let said = &checks[2];
        assert_eq!(said.outcome, Outcome::Pass);
        assert!(said.message.contains("msg_new is new"), "{}", said.message);
    }

    #[test]
    fn a_call_too_many_is_a_regression_and_the_daemons_own_work_is_none() {
        use Outcome::{Fail, Pass};
        let of = |client, kmeshd| CallsPerRequest {
            per_1000: [(CLIENT.to_owned(), client), ("kmeshd".to_owned(), kmeshd)].into(),
            requests: 10_000,
        };
        let base = of(3002, 8);
        let outcome = |head| checks(&calls("keep-alive", &base, &head), &[])[0].outcome;
        for (head, expected) in [
            (of(3005, 8), Pass),
            (of(3100, 8), Fail),
            (of(3002, 40), Pass),
            // One request in fifty went through the daemon.
            (of(3002, 120), Fail),
        ] {
            assert_eq!(outcome(head.clone()), expected, "{head:?}");
        }
    }

    #[test]
    fn growth_that_does_not_come_again_is_none() {
        let of = |kmeshd| CallsPerRequest {
            per_1000: [(CLIENT.to_owned(), 11_000), ("kmeshd".to_owned(), kmeshd)].into(),
            requests: 10_000,
        };
        let counted = |head| calls("short-reset", &of(9_500), &of(head));
        let outcome =
            |first, second: &[Count]| checks(&twice(counted(first), second), &[])[0].outcome;
        assert_eq!(outcome(9_900, &[]), Outcome::Pass);
        assert_eq!(outcome(10_600, &counted(9_700)), Outcome::Pass);
        assert_eq!(outcome(10_600, &counted(10_700)), Outcome::Fail);
    }

    #[test]
    fn callgrinds_total() {
        let said = "==1== Events    : Ir\n==1== Collected : 765432\n==1== \n";
        assert_eq!(parse_collected(said), Some(765_432));
        assert_eq!(parse_collected("valgrind: no"), None);
    }
}
