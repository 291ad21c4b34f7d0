//! Was the run fit, was every decision right, did the expectations hold?

use crate::evaluate::{Figures, find_ratio};
use crate::record::{Record, metric};
use crate::scenario::{Bound, Fit, Loop, Scenario, Subject};
use crate::summary::{ArmSummary, Judged, Outcome, Ratio, Reason, Status, Summary};
use kmesh_stats::{Interval, Verdict, health};
use std::collections::BTreeMap;

/// A split is wrong when a group's share is further from its weight than this many standard
/// deviations: chance does that once in two million groups.
const SPLIT_SIGMAS: f64 = 5.0;

/// Judges the figures of one scenario.
pub fn judge(
    scenario: &Scenario,
    record: &Record,
    figures: &Figures,
    steal: f64,
) -> (Vec<Judged>, Outcome) {
    let judged: Vec<Judged> = scenario
        .expectations
        .iter()
        .map(|expectation| {
            let value = value_of(&expectation.subject, &figures.arms, &figures.ratios);
            Judged {
                subject: expectation.subject.to_string(),
                predicate: expectation.predicate.to_string(),
                value,
                verdict: value.map_or(Verdict::NotTested, |value| {
                    expectation.predicate.judge(&value)
                }),
            }
        })
        .collect();
    let wrong = wrong_reasons(scenario, figures);
    let unfit = unfit_reasons(&scenario.fit, scenario, record, figures, steal);
    let missed: Vec<Reason> = judged
        .iter()
        .filter(|j| j.verdict == Verdict::NotHeld)
        .map(missed_reason)
        .collect();
    let open: Vec<Reason> = judged
        .iter()
        .filter(|j| j.verdict == Verdict::Undecided)
        .map(undecided_reason)
        .collect();
    let status = if !wrong.is_empty() {
        Status::Wrong
    } else if !unfit.is_empty() {
        Status::Invalid
    } else if !missed.is_empty() {
        Status::Missed
    } else if !open.is_empty() {
        Status::Undecided
    } else {
        Status::Held
    };
    let reasons = [wrong, unfit, missed, open].concat();
    (
        judged,
        Outcome {
            status,
            exit_code: status.exit_code(),
            reasons,
        },
    )
}

fn reason(code: &str, message: String) -> Reason {
    Reason {
        code: code.to_owned(),
        message,
    }
}

fn missed_reason(judged: &Judged) -> Reason {
    let found = judged
        .value
        .map_or_else(String::new, |value| format!(", found {value}"));
    reason(
        "expectation",
        format!("{} {} expected{found}", judged.subject, judged.predicate),
    )
}

fn undecided_reason(judged: &Judged) -> Reason {
    let found = judged
        .value
        .map_or_else(String::new, |value| format!(": {value} reaches both sides"));
    reason(
        "undecided",
        format!(
            "{} {} is left open by the data{found}; more blocks or a quieter machine would decide it",
            judged.subject, judged.predicate
        ),
    )
}

/// The value of a subject in a stored summary, `None` when it was not measured.
pub fn value_in_summary(subject: &Subject, summary: &Summary) -> Option<Interval> {
    value_of(subject, &summary.arms, &summary.ratios)
}

/// The value of an expectation's subject, `None` when its arms were not run or it was not measured.
fn value_of(subject: &Subject, arms: &[ArmSummary], ratios: &[Ratio]) -> Option<Interval> {
    let exactly = |value: f64| Interval {
        point: value,
        lo: value,
        hi: value,
    };
    match subject {
        Subject::Ratio {
            num,
            den,
            metric,
            bound,
        } => {
            let interval = find_ratio(ratios, metric, num, den)?.interval;
            Some(match bound {
                Bound::Whole => interval,
                Bound::Point => exactly(interval.point),
                Bound::Lo => exactly(interval.lo),
                Bound::Hi => exactly(interval.hi),
            })
        }
        Subject::Arm { arm, field } => {
            let arm = arms.iter().find(|candidate| candidate.name == *arm)?;
            arm_field(arm, field).map(exactly)
        }
        Subject::Total { field } => {
            let values: Vec<f64> = arms
                .iter()
                .filter_map(|arm| arm_field(arm, field))
                .collect();
            Some(exactly(values.iter().sum()))
        }
    }
}

fn arm_field(arm: &ArmSummary, field: &str) -> Option<f64> {
    match field {
        "kernel_share" => arm.kernel_share,
        "shortcut_share" => arm.shortcut_share,
        "achieved_rps" => Some(arm.achieved_rps),
        "errors" => Some(arm.errors as f64),
        "wrong_decisions" => Some(arm.wrong_decisions as f64),
        "connections_per_client" => arm.connections_per_client,
        _ => None,
    }
}

fn wrong_reasons(scenario: &Scenario, figures: &Figures) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for arm in &figures.arms {
        if arm.wrong_decisions > 0 {
            let example = arm
                .examples
                .first()
                .map_or_else(String::new, |example| format!(", for example {example}"));
            reasons.push(reason(
                "wrong-decisions",
                format!(
                    "{}: {} wrong answers of {}{example}",
                    arm.name, arm.wrong_decisions, arm.sent
                ),
            ));
        }
        if arm.decides {
            reasons.extend(split_reason(scenario, arm));
        }
    }
    reasons
}

/// Compares the shares of the server groups with the weights.
fn split_reason(scenario: &Scenario, arm: &ArmSummary) -> Option<Reason> {
    let total: u64 = arm.served_by.values().sum();
    if scenario.split.is_empty() || total == 0 {
        return None;
    }
    let mut groups: BTreeMap<&str, u64> = BTreeMap::new();
    for (server, answers) in &arm.served_by {
        *groups
            .entry(scenario.group_of(server).unwrap_or("unknown"))
            .or_default() += answers;
    }
    scenario.split.iter().find_map(|(group, percent)| {
        let expected = percent / 100.0;
        let share = groups.get(group.as_str()).copied().unwrap_or(0) as f64 / total as f64;
        let sigma = (expected * (1.0 - expected) / total as f64).sqrt();
        ((share - expected).abs() > SPLIT_SIGMAS * sigma).then(|| {
            reason("split", format!("{}: {:.3} % of {total} answers came from {group}, {percent} % expected; chance explains +-{:.3}", arm.name, share * 100.0, SPLIT_SIGMAS * sigma * 100.0))
        })
    })
}

fn unfit_reasons(
    fit: &Fit,
    scenario: &Scenario,
    record: &Record,
    figures: &Figures,
    steal: f64,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let open = scenario.load.pace == Loop::Open;
    let gated = if open { "p50" } else { "throughput" };
    for aa in figures.aa.iter().filter(|aa| aa.metric == gated) {
        let excess = health::aa_excess(&aa.interval);
        if excess > fit.aa_excess {
            reasons.push(reason("aa", format!("the two identical arms differ: {} of {} to {} is {}, which misses 1 by {:.1} %", aa.metric, aa.num, aa.den, aa.interval, excess * 100.0)));
        }
    }
    if steal > fit.steal {
        reasons.push(reason(
            "steal",
            format!(
                "the hypervisor took {:.1} % of the CPU time, {:.1} % allowed",
                steal * 100.0,
                fit.steal * 100.0
            ),
        ));
    }
    let reference = &scenario.arms.reference;
    let values: Vec<f64> = record
        .of(reference)
        .filter_map(|row| metric(row, gated))
        .collect();
    if let Ok(drift) = health::drift(&values)
        && drift.abs() > fit.drift
    {
        reasons.push(reason("drift", format!("{gated} of {reference} moved by {:+.0} % from the first to the last third, {:.0} % allowed", drift * 100.0, fit.drift * 100.0)));
    }
    if open {
        reasons.extend(generator_reasons(fit, reference, record));
    }
    reasons
}

/// The generator must keep its own schedule; judged on the reference arm, whose path adds nothing.
fn generator_reasons(fit: &Fit, reference: &str, record: &Record) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some(lag) = record
        .merged
        .get(reference)
        .and_then(|merged| merged.lag.quantile_us(0.99))
        && lag > fit.lag_p99_us
    {
        reasons.push(reason(
            "lag",
            format!(
                "the generator was late by {lag:.0} us (p99, {reference}), {:.0} allowed",
                fit.lag_p99_us
            ),
        ));
    }
    let (sent, dropped) = record
        .of(reference)
        .fold((0, 0), |(s, d), row| (s + row.sent, d + row.dropped));
    let rate = sent as f64 / ((sent + dropped).max(1)) as f64;
    if rate < fit.send_rate {
        reasons.push(reason(
            "send-rate",
            format!(
                "only {:.1} % of the due requests were sent ({reference}), {:.0} % needed",
                rate * 100.0,
                fit.send_rate * 100.0
            ),
        ));
    }
    reasons
}
