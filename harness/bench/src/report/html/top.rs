//! The top of the page: how to read it, the claim table, the losses; and its end, the environment.

use crate::report::claims::claim_rows_of;
use crate::report::losses as lost;
use crate::report::stored::Stored;
use crate::report::words::{ClaimLine, claim_lines};
use crate::summary::{Env, Status, Summary};
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Which machine, and how the figures were made.
pub(super) fn introduction(results: &[Stored]) -> Markup {
    let quick = results.iter().any(|stored| stored.summary.quick);
    let unfit: Vec<&str> = results
        .iter()
        .map(|stored| &stored.summary)
        .filter(|summary| matches!(summary.verdict.status, Status::Invalid | Status::Wrong))
        .map(|summary| summary.scenario.as_str())
        .collect();
    html! {
        @if let Some(first) = results.first() {
            p.soft {
                "Made " (first.summary.env.started) " on " (first.summary.env.cpu) ", " (first.summary.env.cpus) " CPUs ("
                (if first.summary.env.virtualised { "virtual machine" } else { "bare metal" }) "), kernel "
                (first.summary.env.kernel) ", commit " (first.summary.env.commit.as_deref().unwrap_or("unknown")) "."
            }
        }
        p {
            "All arms of a scenario were alive at once and measured in interleaved blocks; a ratio compares two arms within each "
            "block, its interval comes from resampling blocks, and an identical twin of the reference (A/A) sizes the noise. "
            "Latency in an open loop counts from the moment a request was due. Every answer was checked: sender, request, bytes."
        }
        @if quick { p.undecided { "Some scenarios were run with --quick: intervals are wide, and nothing here is a verdict." } }
        @if !unfit.is_empty() { p.not { "Not fit for a verdict: " (unfit.join(", ")) ". The reasons stand in each section." } }
    }
}

/// The article's claims beside these results.
pub(super) fn claims(results: &[Stored]) -> Markup {
    let lines = claim_lines(&claim_rows_of(results));
    html! {
        h2 id="claims" { "What the article claims, and what was measured" }
        div.scroll {
            table.cards {
                thead { tr {
                    th { "claim" } th { "article" } th { "measured here" } th.n { "closed loop" } th.n { "open loop" } th { "verdict" } th { "scenario" }
                } }
                tbody { @for line in &lines { (claim(line, results)) } }
            }
        }
        p.soft {
            "Closed loop: as fast as answers come. Open loop: a rate that every arm can carry. In brackets the 95 % interval; a claim is held "
            "or refuted only if the whole interval says so."
        }
    }
}

fn claim(line: &ClaimLine, results: &[Stored]) -> Markup {
    let known = |name: &str| results.iter().any(|stored| stored.summary.scenario == name);
    html! {
        tr {
            td data-head="claim" { (line.claim) }
            td data-head="article" { (line.figure) }
            td data-head="measured" { (line.measured) }
            td.n data-head="closed loop" { (line.closed) }
            td.n data-head="open loop" { (line.open) }
            td data-head="verdict" class=(verdict_class(&line.verdict)) { (line.verdict) }
            td data-head="scenario" {
                span {
                    @for (i, name) in line.scenarios.iter().enumerate() {
                        @if i > 0 { ", " }
                        @if known(name) { a href={ "#" (name) } { (name) } } @else { (name) }
                    }
                }
            }
        }
    }
}

/// Colour of a verdict; one refuted loop colours the line.
pub(super) fn verdict_class(verdict: &str) -> &'static str {
    if verdict.contains("not held") || verdict.contains("wrong") {
        "not"
    } else if verdict.starts_with("held") {
        "held"
    } else {
        "undecided"
    }
}

/// Every comparison that goes against the mesh.
pub(super) fn losses(results: &[Stored]) -> Markup {
    let summaries: Vec<Summary> = results
        .iter()
        .map(|stored| stored.summary.clone())
        .collect();
    let found = lost(&summaries);
    html! {
        h2 id="losses" { "Where the mesh loses" }
        @if found.is_empty() {
            p { "No comparison in these results goes against the mesh." }
        } @else {
            p { "Every comparison whose whole interval goes against an arm of ours, against sidecars first:" }
            div.scroll {
                table.cards {
                    thead { tr { th { "scenario" } th { "what" } th { "against" } th { "metric" } th.n { "ratio [95 %]" } th.n { "worse by" } } }
                    tbody {
                        @for loss in &found {
                            tr {
                                td data-head="scenario" { (loss.scenario) }
                                td data-head="what" { (loss.arm) }
                                td data-head="against" { (loss.against) }
                                td data-head="metric" { (loss.metric) }
                                td.n data-head="ratio" { (loss.ratio) }
                                td.n data-head="worse by" { (format!("{:.2}x", loss.factor)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Machines and exact commands; scenarios of one command share an entry.
pub(super) fn environment(results: &[Stored]) -> Markup {
    let mut commands: BTreeMap<String, Vec<&Summary>> = BTreeMap::new();
    for stored in results {
        commands
            .entry(stored.summary.env.command.join(" "))
            .or_default()
            .push(&stored.summary);
    }
    html! {
        h2 id="environment" { "Environment and exact commands" }
        @for (command, summaries) in &commands {
            pre { (command) }
            p.soft { (summaries.iter().map(|summary| summary.scenario.as_str()).collect::<Vec<_>>().join(", ")) }
            @if let Some(first) = summaries.first() { (machine(&first.env)) }
        }
        p { "This page from the stored figures: " code { "kmesh-bench report DIR --write" } ". Raw rows are in " code { "SCENARIO/raw.csv" }
            ", merged histograms in " code { "SCENARIO/histograms.hlog" } " (HdrHistogram's log, which its viewers open)." }
    }
}

fn machine(env: &Env) -> Markup {
    let facts: [(&str, String); 9] = [
        ("kernel", env.kernel.clone()),
        ("CPU", format!("{} x {}", env.cpus, env.cpu)),
        (
            "virtual",
            if env.virtualised {
                "yes".into()
            } else {
                "no".into()
            },
        ),
        (
            "governor",
            env.governor.clone().unwrap_or_else(|| "none".into()),
        ),
        ("memory", format!("{} MiB", env.memory_mib)),
        (
            "Envoy",
            env.envoy.clone().unwrap_or_else(|| "not there".into()),
        ),
        (
            "commit",
            env.commit.clone().unwrap_or_else(|| "unknown".into()),
        ),
        ("started", env.started.clone()),
        (
            "steal, largest share",
            format!("{:.2} %", env.steal * 100.0),
        ),
    ];
    html! {
        div.scroll { table { tbody { @for (name, value) in &facts { tr { th { (name) } td { (value) } } } } } }
    }
}
