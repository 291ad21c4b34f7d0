//! Where the time goes: counts beside the article's, the stacked bar and the waterfall.

use super::figure::figure;
use crate::breakdown::{ArmBreakdown, Breakdown, PARTS};
use crate::report::plot;
use crate::report::profile::article;
use maud::{Markup, html};

/// The breakdown's part of a scenario's section.
pub(super) fn section(breakdown: &Breakdown) -> Markup {
    html! {
        h3 { "Where the time goes" }
        (counts(breakdown))
        (figure(|size| plot::parts(breakdown, size), "CPU time per request by part, from samples of every CPU while the arm was loaded."))
        (figure(|size| plot::waterfall(breakdown, "envoy-both", size), "From no mesh to two sidecars: what each part adds to a request's CPU time."))
        (figure(|size| plot::waterfall(breakdown, "kmesh", size), "From no mesh to the mesh in the kernel. A minus marks a part that is saved."))
        (parts(breakdown))
        @if !breakdown.missing.is_empty() {
            p { "What this kernel does not give:" }
            ul { @for missing in &breakdown.missing { li { (missing.figure) ": " (missing.reason) } } }
        }
        details { summary { "what the parts are, and the command" }
            ul { @for (name, meaning) in PARTS { li { b { (name) } ": " (meaning) } } }
            pre { (breakdown.command.join(" ")) }
        }
    }
}

fn counts(breakdown: &Breakdown) -> Markup {
    let cell =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let article = |arm: &ArmBreakdown| article(&arm.name);
    html! {
        div.scroll { table {
            thead { tr {
                th { "arm" } th.n { "connections" } th.n { "article" } th.n { "traversals/message" } th.n { "article" } th.n { "TCP segments/req" }
                th.n { "context switches/req" } th.n { "system calls/req" } th.n { "copies/req" } th.n { "BPF runs/req" } th.n { "BPF us/req" }
            } }
            tbody { @for arm in &breakdown.arms {
                @let counts = &arm.counts;
                tr {
                    td { (arm.name) }
                    td.n { (cell(counts.connections)) } td.n.soft { (article(arm).0) }
                    td.n { (cell(counts.traversals)) } td.n.soft { (article(arm).1) }
                    td.n { (cell(counts.segments)) } td.n { (cell(counts.context_switches)) } td.n { (cell(counts.syscalls)) }
                    td.n { (cell(counts.copies)) } td.n { (cell(counts.bpf_runs)) } td.n { (cell(counts.bpf_us)) }
                }
            } }
        } }
    }
}

fn parts(breakdown: &Breakdown) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th { "CPU us per request" }
                @for arm in &breakdown.arms { th.n { (arm.name) } }
            } }
            tbody {
                @for (name, _) in PARTS {
                    tr { td { (name) } @for arm in &breakdown.arms { td.n { (format!("{:.2}", arm.part_us(name))) } } }
                }
                tr { td { b { "all" } } @for arm in &breakdown.arms { td.n { b { (format!("{:.2}", arm.total_us())) } } } }
                tr { td { "samples" } @for arm in &breakdown.arms { td.n { (arm.samples) } } }
            }
        } }
    }
}
