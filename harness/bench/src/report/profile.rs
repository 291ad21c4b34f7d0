//! A breakdown as text or Markdown, the article's numbers beside the measured ones.

use super::table::Table;
use super::words::{Format, render};
use crate::breakdown::{Breakdown, PARTS};
use std::fmt::Write as _;

/// The article's connections and stack traversals of an arm that it speaks of.
pub(super) fn article(arm: &str) -> (&'static str, &'static str) {
    match arm {
        "direct" | "direct-aa" => ("1", "2"),
        "envoy-both" => ("3", "6"),
        _ => ("", ""),
    }
}

/// Counts and parts of every arm, and what is missing.
pub fn breakdown_tables(breakdown: &Breakdown, format: Format) -> String {
    let cell =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let mut counts = Table::new(
        &[
            "arm",
            "connections",
            "article",
            "traversals/message",
            "article",
            "segments/req",
            "switches/req",
            "syscalls/req",
            "copies/req",
            "BPF runs/req",
            "BPF us/req",
            "CPU us/req",
        ],
        1..12,
    );
    let mut parts = Table::new(
        &std::iter::once("arm")
            .chain(PARTS.iter().map(|(name, _)| *name))
            .chain(["samples"])
            .collect::<Vec<_>>(),
        1..PARTS.len() + 2,
    );
    for arm in &breakdown.arms {
        let count = &arm.counts;
        let (connections, traversals) = article(&arm.name);
        counts.row(vec![
            arm.name.clone(),
            cell(count.connections),
            connections.to_owned(),
            cell(count.traversals),
            traversals.to_owned(),
            cell(count.segments),
            cell(count.context_switches),
            cell(count.syscalls),
            cell(count.copies),
            cell(count.bpf_runs),
            cell(count.bpf_us),
            format!("{:.1}", arm.places.values().sum::<f64>()),
        ]);
        let mut row = vec![arm.name.clone()];
        row.extend(
            PARTS
                .iter()
                .map(|(name, _)| format!("{:.2}", arm.part_us(name))),
        );
        row.push(arm.samples.to_string());
        parts.row(row);
    }
    let mut text = format!(
        "{}: per request; a message is half of an exchange\n\n{}\nmicroseconds of CPU per request by part\n\n{}",
        breakdown.scenario,
        render(&counts, format),
        render(&parts, format)
    );
    for missing in &breakdown.missing {
        let _ = writeln!(text, "missing: {}: {}", missing.figure, missing.reason);
    }
    text
}
