//! The regression gate: is head as right and as fast as base?
//!
//! | stage | looks at | ends in |
//! |---|---|---|
//! | G0 | decisions: reference, native code, kernel and real Envoy agree; no wrong answer under load | 2 |
//! | G1 | counts: instructions of a decision, verifier effort, program size, map memory, system calls per request | 1 |
//! | G2 | the clock: base, base again, head and no mesh, live and interleaved; found twice before it counts | 1 or 3 |
//! | G3 | claims: the README's table is what its results folder says | 1 |
//! | G4 | trend of the published ratios | a warning |
//!
//! [`wall`] is the rule of G2, free of I/O, so that [`noise`] can put recorded noise through the very same code
//! and count false alarms; [`live`] feeds it from labs.

pub mod claims;
pub mod counts;
pub mod live;
pub mod noise;
pub mod recorded;
pub mod side;
pub mod trend;
pub mod verdict;
pub mod wall;

use crate::binaries::workspace;
use crate::run::{Interrupt, Options};
use crate::scenario::{Catalogue, Scenario};
use crate::summary::{Env, Status};
use crate::verify;
use indicatif::ProgressBar;
use live::{Live, LiveError};
use side::Side;
use std::path::{Path, PathBuf};
use std::time::Instant;
use verdict::{Check, Outcome, Stage, Verdict};
use wall::{Finding, Judged};

/// Scenarios of G2, below the folder of scenarios.
pub const SCENARIOS: [&str; 3] = [
    "gate/gate-long60.toml",
    "gate/gate-short.toml",
    "gate/gate-canary.toml",
];

/// A delay in head's servers, about half of a request's time: the live self-test.
pub const MUTANT: &str = "delay=60us";

/// A mutant as it is typed: `delay=TIME`, a whole number with its unit.
///
/// # Errors
/// What it should have been.
pub fn mutant(text: &str) -> Result<String, String> {
    let time = text.strip_prefix("delay=").unwrap_or_default();
    let digits = time.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &time[..time.len() - digits.len()];
    let some = number.parse::<u64>().is_ok_and(|number| number > 0);
    if some && ["us", "ms", "s"].contains(&digits) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "not delay=TIME with a time above 0 in us, ms or s, such as {MUTANT}"
    ))
}

/// What to compare.
#[derive(Debug, Clone)]
pub struct Plan {
    /// A folder of programs, a checkout, or a revision.
    pub base: String,
    /// As `base`; none for the checkout of this program.
    pub head: Option<String>,
    /// Stages to run.
    pub stages: Vec<Stage>,
    /// Kinds of counts whose growth is accepted.
    pub accept: Vec<String>,
    /// Response parameters that make head's servers slower.
    pub mutant: Option<String>,
    /// Short cells and few blocks, to try the gate itself.
    pub quick: bool,
    /// Decisions to compare in G0.
    pub cases: u64,
    /// Where results are written.
    pub out: Option<PathBuf>,
    /// The machine and the command.
    pub env: Env,
}

/// Runs the gate.
///
/// # Errors
/// Programs that cannot be built, scenarios that cannot be read, an interrupt. Everything else is a check.
pub fn run(
    plan: &Plan,
    catalogue: &Catalogue,
    interrupt: &Interrupt,
    progress: &ProgressBar,
) -> anyhow::Result<Verdict> {
    let begun = Instant::now();
    let repository = workspace();
    let base = Side::prepare(&plan.base, &repository)?;
    let own = repository.display().to_string();
    let head = Side::prepare(plan.head.as_deref().unwrap_or(&own), &repository)?;
    let mut checks = Vec::new();
    let wants = |stage| plan.stages.contains(&stage);
    if wants(Stage::G0) {
        checks.push(decisions(plan, progress));
    }
    if wants(Stage::G1) {
        checks.extend(instructions(plan, &base, &head));
    }
    if wants(Stage::G1) || wants(Stage::G2) {
        let sides = (&base, &head);
        checks.extend(in_labs(plan, catalogue, sides, interrupt, progress)?);
    }
    if wants(Stage::G3) {
        checks.push(claims::check(head.tree.as_deref().unwrap_or(&repository)));
    }
    if wants(Stage::G4) {
        checks.push(trend::check(&repository.join("results")));
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Verdict::of(base.title(), head.title(), seconds, checks))
}

/// G0, the judges. They are linked into this program: its own decision code is judged, which is head's when
/// head is the checkout that this program was built from.
fn decisions(plan: &Plan, progress: &ProgressBar) -> Check {
    let done = |outcome, message: String| Check::new(Stage::G0, "decisions", outcome, message);
    if plan.head.is_some() {
        return done(
            Outcome::Skipped,
            "head is not the checkout of this program: run its own kmesh-bench verify decisions"
                .to_owned(),
        );
    }
    let options = verify::Options {
        cases: plan.cases,
        seed: 1,
        self_test: false,
        envoy: crate::binaries::Programs::locate().arms.envoy,
    };
    match verify::decisions(&options, progress) {
        Ok(outcome) if outcome.mismatches == 0 => done(
            Outcome::Pass,
            format!(
                "{} decisions, {} agree",
                outcome.compared,
                outcome.judges.join(", ")
            ),
        )
        .with(&outcome),
        Ok(outcome) => done(
            Outcome::Wrong,
            format!(
                "{} of {} decisions differ; the first is on stderr",
                outcome.mismatches, outcome.compared
            ),
        )
        .with(&outcome),
        Err(error) => done(
            Outcome::Unfit,
            format!("the judges cannot be heard: {error:#}"),
        ),
    }
}

/// G1, the decision core under callgrind.
fn instructions(plan: &Plan, base: &Side, head: &Side) -> Vec<Check> {
    let done =
        |outcome, message: String| vec![Check::new(Stage::G1, "instructions", outcome, message)];
    if base.decide_cost.is_none() {
        return done(
            Outcome::Skipped,
            format!("{} has no example decide_cost to count", base.title()),
        );
    }
    if !counts::has_valgrind() {
        return done(
            Outcome::Unfit,
            "valgrind is not installed: apt-get install valgrind".to_owned(),
        );
    }
    match counts::instructions(base, head) {
        Ok(found) => counts::checks(&found, &plan.accept),
        Err(message) => done(Outcome::Unfit, message),
    }
}

/// What needs labs: sizes (G1), the clock and the answers under load (G2, G0).
fn in_labs(
    plan: &Plan,
    catalogue: &Catalogue,
    sides: (&Side, &Side),
    interrupt: &Interrupt,
    progress: &ProgressBar,
) -> anyhow::Result<Vec<Check>> {
    let scenarios = SCENARIOS
        .iter()
        .map(|path| catalogue.load(&catalogue.directory().join(path).display().to_string()))
        .collect::<Result<Vec<Scenario>, _>>()?;
    let options = Options {
        quick: plan.quick,
        env: plan.env.clone(),
    };
    let looks = scenarios[0].design(plan.quick).all_looks();
    let mut live = Live::new(
        scenarios,
        sides,
        plan.mutant.as_deref(),
        (&options, interrupt, progress),
        plan.out.as_deref(),
    );
    let mut checks = Vec::new();
    let clock = plan.stages.contains(&Stage::G2);
    if plan.stages.contains(&Stage::G1) {
        checks.extend(calls(&mut live, &plan.accept)?);
    }
    let judged = if clock {
        let names = live.names();
        wall::police(&mut live, names.len(), &looks)
    } else {
        live.up(0, false).map(|()| Vec::new())
    };
    if plan.stages.contains(&Stage::G1) {
        checks.extend(match &live.footprints {
            Some((base, head)) => counts::checks(&counts::footprints(base, head), &plan.accept),
            None => vec![Check::new(
                Stage::G1,
                "verified-instructions",
                Outcome::Unfit,
                "the kernel lists no programs of the daemons: root needed",
            )],
        });
    }
    match judged {
        Ok(judged) => checks.extend(clock_checks(&live, &judged)),
        Err(LiveError::Run(error @ crate::run::RunError::Interrupted)) => return Err(error.into()),
        Err(error) => checks.push(Check::new(
            Stage::G2,
            "labs",
            Outcome::Unfit,
            format!("{:#}", anyhow::Error::from(error)),
        )),
    }
    Ok(checks)
}

/// System calls per request (G1), before the clock: they need the labs, but no quiet machine.
fn calls(live: &mut Live<'_>, accept: &[String]) -> anyhow::Result<Vec<Check>> {
    match live.calls() {
        Ok(found) => Ok(counts::checks(&found, accept)),
        Err(LiveError::Run(error @ crate::run::RunError::Interrupted)) => Err(error.into()),
        Err(error) => Ok(vec![Check::new(
            Stage::G1,
            counts::SYSCALLS,
            Outcome::Unfit,
            format!("{:#}", anyhow::Error::from(error)),
        )]),
    }
}

/// What the clock said, whether it could be believed, and whether every answer was right.
fn clock_checks(live: &Live<'_>, judged: &[Judged]) -> Vec<Check> {
    let names = live.names();
    let mut checks: Vec<Check> = judged
        .iter()
        .map(|judged| clock_check(&names, judged))
        .collect();
    let wrong: Vec<String> = live
        .sittings
        .iter()
        .flat_map(|sitting| {
            let of =
                |(lane, count): &(String, u64)| format!("{} {lane}: {count}", sitting.scenario);
            sitting.wrong.iter().map(of)
        })
        .collect();
    if !live.sittings.is_empty() {
        checks.push(if wrong.is_empty() {
            Check::new(
                Stage::G0,
                "answers",
                Outcome::Pass,
                "every answer under load was the right one",
            )
        } else {
            let message = format!("wrong answers under load: {}", wrong.join(", "));
            Check::new(Stage::G0, "answers", Outcome::Wrong, message)
        });
    }
    // Unfit twice in a row is unfit; an unfit first attempt was repeated.
    let unfit: Vec<String> = live
        .sittings
        .iter()
        .filter(|sitting| sitting.attempt == 2 && sitting.status == Status::Invalid)
        .map(|sitting| {
            let reasons: Vec<&str> = sitting.reasons.iter().map(|r| r.message.as_str()).collect();
            format!("{}: {}", sitting.scenario, reasons.join(", "))
        })
        .collect();
    if !unfit.is_empty() {
        // A slowdown found by an unfit machine is none.
        for check in &mut checks {
            if check.stage == Stage::G2 && check.outcome == Outcome::Fail {
                check.outcome = Outcome::Unfit;
            }
        }
        // First: it is the reason for whatever the clock left open.
        let machine = Check::new(Stage::G2, "machine", Outcome::Unfit, unfit.join("; "));
        checks.insert(0, machine);
    }
    if let Some(last) = checks.last_mut() {
        *last = last.clone().with(&live.sittings);
    }
    checks
}

fn clock_check(names: &[String], judged: &Judged) -> Check {
    let name = format!("{} {}", names[judged.scenario], judged.metric);
    let last = judged.confirm.unwrap_or(judged.screen);
    let found = format!(
        "head : base {}, {:+.1} us, base : base {}, {} blocks, p {:.3} (Holm)",
        last.ratio, last.added_us.point, last.aa, last.blocks, judged.screen_p_holm
    );
    let promise = judged.promise * 100.0;
    let (outcome, message) = match judged.finding {
        Finding::Slower => (Outcome::Fail, format!("slower, found twice: {found}")),
        Finding::Pass => (Outcome::Pass, format!("no +{promise:.0} %: {found}")),
        Finding::Open => (
            Outcome::Unfit,
            format!("too noisy to exclude +{promise:.0} %: {found}"),
        ),
    };
    Check::new(Stage::G2, &name, outcome, message).with(judged)
}

/// Writes `gate.json` and `gate.md`.
///
/// # Errors
/// Whatever the file system answers.
pub fn write(dir: &Path, verdict: &Verdict) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("gate.json"), serde_json::to_vec_pretty(verdict)?)?;
    std::fs::write(dir.join("gate.md"), verdict.markdown())?;
    Ok(())
}
