//! One scenario: its arms, drawings, ratios, and what became of its expectations.

use super::breakdown;
use super::figure::figure;
use super::top::verdict_class;
use crate::report::plot;
use crate::report::stored::Stored;
use crate::scenario::Loop;
use crate::summary::{ArmSummary, Ratio, Summary};
use maud::{Markup, html};

/// The scenario's section.
pub(super) fn section(stored: &Stored) -> Markup {
    let (summary, record) = (&stored.summary, &stored.record);
    html! {
        section {
            h2 id=(summary.scenario) { (summary.scenario) }
            p { (summary.title) "." }
            @if !summary.reproduces.is_empty() { p.soft { (summary.reproduces) } }
            p { (conditions(summary)) }
            (arms(summary))
            (verdict(summary))
            (figure(|size| plot::spectrum(summary, record, size), "Latency by percentile, all blocks merged. Lower is better."))
            (figure(|size| plot::forest(summary, size), "Paired ratios with their intervals. For rps more is better, for the rest less."))
            (figure(|size| plot::cpu(summary, size), "CPU time of generator, servers, sidecars and daemons per answered request."))
            (figure(|size| plot::blocks(summary, record, size), "The run in the order it was measured: drift and disturbances would show here."))
            (figure(|size| plot::aa(summary, record, size), "Two identical arms. The band is the interval of all blocks; what lies inside is noise."))
            @if let Some(breakdown) = &stored.breakdown { (breakdown::section(breakdown)) }
            (ratios(summary))
        }
    }
}

/// How it was loaded, in a sentence.
pub(super) fn conditions(summary: &Summary) -> String {
    let load = &summary.load;
    let pace = match (load.pace, load.offered_rps) {
        (Loop::Open, Some(rate)) => {
            format!("open loop at {rate:.0} requests/s ({})", load.rate_basis)
        }
        _ => "closed loop".to_owned(),
    };
    format!(
        "{} connections ({}), {pace}; {} blocks of {} ms per arm{}.",
        load.connections,
        load.connection,
        summary.design.blocks,
        summary.design.cell_ms,
        if summary.quick { " (quick)" } else { "" }
    )
}

/// The arms' figures.
pub(super) fn arms(summary: &Summary) -> Markup {
    let optional = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    html! {
        div.scroll { table {
            thead { tr {
                th { "arm" } th.n { "requests/s" } th.n { "p50 us" } th.n { "p90" } th.n { "p99" } th.n { "p99.9" } th.n { "service p99" }
                th.n { "CPU us/req" } th.n { "in kernel" } th.n { "connections" } th.n { "errors" } th.n { "dropped" } th.n { "wrong" }
            } }
            tbody { @for arm in &summary.arms {
                @let shown = shown(summary, arm);
                tr {
                    td { (arm.name) }
                    td.n { (format!("{:.0}", arm.achieved_rps)) }
                    td.n { (format!("{:.1}", shown.p50)) }
                    td.n { (format!("{:.1}", shown.p90)) }
                    td.n { (format!("{:.1}", shown.p99)) }
                    td.n { (format!("{:.1}", shown.p999)) }
                    td.n { (format!("{:.1}", arm.latency_us.p99)) }
                    td.n { (optional(arm.cpu_us_per_request, 1)) }
                    td.n { (arm.kernel_share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0))) }
                    td.n { (optional(arm.connections_per_client, 1)) }
                    td.n { (arm.errors) }
                    td.n { (arm.dropped) }
                    td.n { (arm.wrong_decisions) }
                }
            } }
        } }
        @if summary.arms.iter().any(|arm| arm.restarts.is_some()) {
            div.scroll { table {
                thead { tr {
                    th { "arm" } th.n { "restarts" } th.n { "ready after ms" } th.n { "failed per cell" } th.n { "slowest answer ms" }
                } }
                tbody { @for arm in &summary.arms { @if let Some(restarts) = &arm.restarts { tr {
                    td { (arm.name) }
                    td.n { (restarts.count) }
                    td.n { (optional(restarts.ready_ms, 1)) }
                    td.n { (format!("{:.1}", restarts.failed_per_cell)) }
                    td.n { (optional(restarts.peak_ms, 1)) }
                } } } }
            } }
        }
        p.soft { "Latency in " (summary.load.latency_basis) " time; service p99 beside it shows what waiting would have hidden." }
    }
}

fn shown(summary: &Summary, arm: &ArmSummary) -> crate::summary::Percentiles {
    if summary.load.latency_basis == "intended" {
        arm.intended_us.unwrap_or(arm.latency_us)
    } else {
        arm.latency_us
    }
}

fn verdict(summary: &Summary) -> Markup {
    let status = format!("{:?}", summary.verdict.status).to_lowercase();
    html! {
        p { "Verdict: " span class=(if status == "held" { "held" } else if status == "invalid" { "undecided" } else { "not" }) { (status) } }
        ul {
            @for judged in &summary.expectations {
                @let word = judged.verdict.to_string();
                li {
                    code { (judged.subject) " " (judged.predicate) } ": "
                    (judged.value.map_or_else(|| "no data".to_owned(), |value| value.to_string())) ", "
                    span class=(verdict_class(&word)) { (word) }
                }
            }
            @for reason in &summary.verdict.reasons { li.not { (reason.code) ": " (reason.message) } }
        }
        @for arm in summary.arms.iter().filter(|arm| !arm.examples.is_empty() || !arm.fallback.is_empty()) {
            details {
                summary { (arm.name) ": what was not finished in the kernel, and examples" }
                ul {
                    @for (reason, count) in &arm.fallback { li { (count) " requests: " (reason) } }
                    @for example in &arm.examples { li { code { (example) } } }
                }
            }
        }
    }
}

fn ratios(summary: &Summary) -> Markup {
    let row = |ratio: &Ratio| {
        html! {
            tr {
                td { (ratio.metric) } td { (ratio.num) " : " (ratio.den) } td.n { (ratio.interval) }
                td.n { (format!("{:.4}", ratio.p)) } td.n { (format!("{:.3}", ratio.hodges_lehmann)) } td.n { (ratio.blocks) }
            }
        }
    };
    html! {
        details {
            summary { "all ratios, and added latency" }
            div.scroll { table {
                thead { tr { th { "metric" } th { "arms" } th.n { "ratio [interval]" } th.n { "p" } th.n { "Hodges-Lehmann" } th.n { "blocks" } } }
                tbody { @for ratio in summary.ratios.iter().chain(&summary.aa) { (row(ratio)) } }
            } }
            div.scroll { table {
                thead { tr { th { "metric" } th { "arms" } th.n { "added us [interval]" } } }
                tbody { @for added in &summary.added_us {
                    tr { td { (added.metric) } td { (added.arm) " - " (added.reference) } td.n { (added.interval) } }
                } }
            } }
        }
    }
}
