//! A result as text or Markdown.

use super::claims::{ClaimRow, claim_rows};
use super::losses::Loss;
use super::table::Table;
use crate::evaluate::find_ratio;
use crate::summary::{ArmSummary, Ratio, Status, Summary};
use kmesh_stats::{Interval, Verdict};
use serde::Serialize;
use std::fmt::Write as _;

/// How tables are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Padded columns.
    Text,
    /// Pipes.
    Markdown,
}

pub(super) fn render(table: &Table, format: Format) -> String {
    match format {
        Format::Text => table.text(),
        Format::Markdown => table.markdown(),
    }
}

/// The claim table of summaries alone.
pub fn claim_table(summaries: &[Summary], format: Format) -> String {
    claims_as_table(&claim_rows(summaries), format)
}

/// The claim table: one line per claim, closed and open loop side by side.
pub fn claims_as_table(rows: &[ClaimRow], format: Format) -> String {
    let mut table = Table::new(
        &[
            "article's claim",
            "article",
            "measured here",
            "closed loop [95 %]",
            "open loop [95 %]",
            "verdict",
            "scenario",
        ],
        3..5,
    );
    for line in claim_lines(rows) {
        table.row(vec![
            line.claim,
            line.figure,
            line.measured,
            line.closed,
            line.open,
            line.verdict,
            line.scenarios.join(", "),
        ]);
    }
    render(&table, format)
}

/// One claim with its answers of both loops in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimLine {
    /// The article's claim.
    pub claim: String,
    /// The article's figure.
    pub figure: String,
    /// What was measured.
    pub measured: String,
    /// Value in a closed loop, or a count.
    pub closed: String,
    /// Value in an open loop.
    pub open: String,
    /// Verdicts, one word when the loops agree.
    pub verdict: String,
    /// Scenarios that were asked.
    pub scenarios: Vec<String>,
}

/// Rows of one claim become one line.
pub fn claim_lines(rows: &[ClaimRow]) -> Vec<ClaimLine> {
    rows.chunk_by(|a, b| a.claim == b.claim && a.measured == b.measured)
        .filter_map(|answers| {
            let first = answers.first()?;
            let value = |pace: &[&str]| {
                answers
                    .iter()
                    .find(|row| pace.contains(&row.pace.as_str()))
                    .and_then(|row| row.value)
                    .map_or_else(|| "-".to_owned(), |value| value.to_string())
            };
            let mut scenarios: Vec<String> = Vec::new();
            for row in answers {
                if !scenarios.contains(&row.scenario) {
                    scenarios.push(row.scenario.clone());
                }
            }
            Some(ClaimLine {
                claim: first.claim.clone(),
                figure: first.figure.clone(),
                measured: first.measured.clone(),
                closed: value(&["closed", "count"]),
                open: value(&["open"]),
                verdict: verdict_words(answers),
                scenarios,
            })
        })
        .collect()
}

fn verdict_words(answers: &[ClaimRow]) -> String {
    let word = |row: &ClaimRow| match (&row.caveat, row.verdict) {
        (Some(caveat), verdict) => format!("{} ({caveat})", verdict_word(verdict, row.quick)),
        (None, Verdict::NotTested) => "not measured here yet".to_owned(),
        (None, verdict) => verdict_word(verdict, row.quick),
    };
    let words: Vec<String> = answers.iter().map(word).collect();
    match words.split_first() {
        Some((first, rest)) if rest.iter().all(|other| other == first) => first.clone(),
        _ => answers
            .iter()
            .zip(&words)
            .map(|(row, word)| format!("{}: {word}", row.pace))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// A verdict in a word; a quick run gives none, it says what a full one might.
fn verdict_word(verdict: Verdict, quick: bool) -> String {
    match verdict {
        Verdict::Held if quick => "would hold".to_owned(),
        Verdict::NotHeld if quick => "would not hold".to_owned(),
        verdict => verdict.to_string(),
    }
}

/// Where the mesh loses, one line each, worst first; a sentence when nothing is lost.
pub fn loss_lines(found: &[Loss], format: Format) -> String {
    if found.is_empty() {
        return "No comparison in these results goes against the mesh.\n".to_owned();
    }
    let bullet = match format {
        Format::Text => "  ",
        Format::Markdown => "- ",
    };
    let mut text = String::new();
    for loss in found {
        let _ = writeln!(text, "{bullet}{}: {}", loss.scenario, loss.words);
    }
    text
}

/// One scenario: the arms, the ratios against reference and baseline, the verdict.
pub fn scenario_report(summary: &Summary, format: Format) -> String {
    let mut text = match format {
        Format::Text => format!("{}: {}\n", summary.scenario, summary.title),
        Format::Markdown => format!("### {}\n\n{}\n\n", summary.scenario, summary.title),
    };
    let offered = summary.load.offered_rps.map_or_else(
        || "closed loop".to_owned(),
        |rps| {
            format!(
                "open loop at {rps:.0} requests/s ({})",
                summary.load.rate_basis
            )
        },
    );
    let _ = writeln!(
        text,
        "{} connections ({}), {offered}; {} blocks of {} ms per arm{}\n",
        summary.load.connections,
        summary.load.connection,
        summary.design.blocks,
        summary.design.cell_ms,
        if summary.quick {
            ", quick: intervals are wide"
        } else {
            ""
        },
    );
    text += &render(&arms_table(summary), format);
    text.push('\n');
    text += &restart_lines(summary, format);
    text += &verdict_lines(summary, format);
    text
}

fn arms_table(summary: &Summary) -> Table {
    let basis = &summary.load.latency_basis;
    let p50 = format!("p50 us ({basis})");
    let mut table = Table::new(
        &[
            "arm",
            "requests/s",
            &p50,
            "p90",
            "p99",
            "CPU us/req",
            "in kernel",
            "conns",
            "errors",
            "wrong",
            "rps : direct",
            "p50 : direct",
            "rps : envoy-both",
        ],
        1..13,
    );
    for arm in &summary.arms {
        let shown = if basis == "intended" {
            arm.intended_us.unwrap_or(arm.latency_us)
        } else {
            arm.latency_us
        };
        table.row(vec![
            arm.name.clone(),
            format!("{:.0}", arm.achieved_rps),
            format!("{:.1}", shown.p50),
            format!("{:.1}", shown.p90),
            format!("{:.1}", shown.p99),
            arm.cpu_us_per_request
                .map_or_else(|| "-".into(), |cpu| format!("{cpu:.1}")),
            arm.kernel_share
                .map_or_else(|| "-".into(), |share| format!("{:.2} %", share * 100.0)),
            arm.connections_per_client
                .map_or_else(|| "-".into(), |connections| format!("{connections:.1}")),
            arm.errors.to_string(),
            if arm.decides {
                arm.wrong_decisions.to_string()
            } else {
                format!("{} (any server)", arm.wrong_decisions)
            },
            ratio_cell(summary, arm, "throughput", "direct"),
            ratio_cell(summary, arm, "p50", "direct"),
            ratio_cell(summary, arm, "throughput", "envoy-both"),
        ]);
    }
    table
}

/// One line per arm of a scenario with restarts; nothing for any other.
fn restart_lines(summary: &Summary, format: Format) -> String {
    let mut table = Table::new(
        &[
            "arm",
            "restarts",
            "ready after ms",
            "failed per cell",
            "slowest answer ms",
        ],
        1..5,
    );
    let optional =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    for arm in &summary.arms {
        if let Some(restarts) = &arm.restarts {
            table.row(vec![
                arm.name.clone(),
                restarts.count.to_string(),
                optional(restarts.ready_ms),
                format!("{:.1}", restarts.failed_per_cell),
                optional(restarts.peak_ms),
            ]);
        }
    }
    if table.is_empty() {
        return String::new();
    }
    render(&table, format) + "\n"
}

fn ratio_cell(summary: &Summary, arm: &ArmSummary, metric: &str, den: &str) -> String {
    let all: Vec<Ratio> = summary.ratios.iter().chain(&summary.aa).cloned().collect();
    find_ratio(&all, metric, &arm.name, den)
        .map_or_else(String::new, |ratio| ratio.interval.to_string())
}

fn verdict_lines(summary: &Summary, format: Format) -> String {
    let bullet = match format {
        Format::Text => "  ",
        Format::Markdown => "- ",
    };
    let status = match summary.verdict.status {
        Status::Held if summary.quick => "would hold".to_owned(),
        Status::Missed if summary.quick => "would miss".to_owned(),
        status => format!("{status:?}").to_lowercase(),
    };
    let mut text = format!(
        "verdict: {status}\n{}",
        if format == Format::Markdown { "\n" } else { "" }
    );
    for judged in &summary.expectations {
        let value = judged
            .value
            .map_or_else(|| "no data".to_owned(), |value| value.to_string());
        let _ = writeln!(
            text,
            "{bullet}{} {}: {value}, {}",
            judged.subject,
            judged.predicate,
            verdict_word(judged.verdict, summary.quick)
        );
    }
    for reason in &summary.verdict.reasons {
        let _ = writeln!(text, "{bullet}{}: {}", reason.code, reason.message);
    }
    text
}

/// One ratio in two results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The scenario.
    pub scenario: String,
    /// The metric.
    pub metric: String,
    /// Arm above the line.
    pub num: String,
    /// Arm below the line.
    pub den: String,
    /// In the first result.
    pub a: Interval,
    /// In the second result.
    pub b: Interval,
    /// The intervals do not overlap.
    pub apart: bool,
}

/// Two results ratio by ratio: ratios survive a change of machine, microseconds do not.
pub fn compared(a: &[Summary], b: &[Summary]) -> Vec<Compared> {
    let mut lines = Vec::new();
    for before in a {
        let Some(after) = b.iter().find(|after| after.scenario == before.scenario) else {
            continue;
        };
        for old in &before.ratios {
            let Some(new) = find_ratio(&after.ratios, &old.metric, &old.num, &old.den) else {
                continue;
            };
            lines.push(Compared {
                scenario: before.scenario.clone(),
                metric: old.metric.clone(),
                num: old.num.clone(),
                den: old.den.clone(),
                a: old.interval,
                b: new.interval,
                apart: new.interval.lo > old.interval.hi || new.interval.hi < old.interval.lo,
            });
        }
    }
    lines
}

/// Ratios of two results as a table.
pub fn comparison(lines: &[Compared], format: Format) -> String {
    let mut table = Table::new(&["scenario", "ratio", "A", "B", "B : A", ""], 2..5);
    for line in lines {
        table.row(vec![
            line.scenario.clone(),
            format!("{} {} : {}", line.metric, line.num, line.den),
            line.a.to_string(),
            line.b.to_string(),
            format!("{:.3}", line.b.point / line.a.point),
            if line.apart {
                "intervals apart".into()
            } else {
                String::new()
            },
        ]);
    }
    if table.is_empty() {
        return "the two results have no scenario with a common ratio\n".to_owned();
    }
    render(&table, format)
}
