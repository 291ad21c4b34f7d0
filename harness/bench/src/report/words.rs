//! A result as text or Markdown.

use super::claims::claim_rows;
use super::table::Table;
use crate::evaluate::find_ratio;
use crate::summary::{ArmSummary, Ratio, Summary};
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

fn render(table: &Table, format: Format) -> String {
    match format {
        Format::Text => table.text(),
        Format::Markdown => table.markdown(),
    }
}

/// The claim table.
pub fn claim_table(summaries: &[Summary], format: Format) -> String {
    let mut table = Table::new(
        &[
            "article's claim",
            "measured here",
            "scenario",
            "value [95 %]",
            "verdict",
        ],
        3..4,
    );
    for row in claim_rows(summaries) {
        let verdict = match (&row.caveat, row.verdict) {
            (Some(caveat), verdict) => format!("{verdict} ({caveat})"),
            (None, Verdict::NotTested) => "not measured here yet".to_owned(),
            (None, verdict) => verdict.to_string(),
        };
        let value = row
            .value
            .map_or_else(|| "-".to_owned(), |value| value.to_string());
        table.row(vec![row.claim, row.measured, row.scenario, value, verdict]);
    }
    render(&table, format)
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
    let status = format!("{:?}", summary.verdict.status).to_lowercase();
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
            judged.subject, judged.predicate, judged.verdict
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

/// [`compared`] as a table.
pub fn comparison(a: &[Summary], b: &[Summary], format: Format) -> String {
    let mut table = Table::new(&["scenario", "ratio", "A", "B", "B : A", ""], 2..5);
    for line in compared(a, b) {
        table.row(vec![
            line.scenario,
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
