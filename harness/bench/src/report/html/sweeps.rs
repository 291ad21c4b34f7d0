//! Sweeps: one scenario at several values of one key, drawn over that key.

use super::figure::figure;
use super::scenario::{arms, conditions};
use crate::report::plot::{self, Quantity};
use crate::report::stored::Stored;
use crate::scenario::Loop;
use maud::{Markup, html};

/// All points of one sweep, in its order.
pub(super) struct Family<'a> {
    pub(super) name: String,
    key: String,
    points: Vec<&'a Stored>,
}

/// Groups the points of sweeps; results come in the order of `read_all`.
pub(super) fn families(results: &[Stored]) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for stored in results {
        let Some(point) = &stored.summary.sweep else {
            continue;
        };
        match families.iter_mut().find(|family| family.name == point.name) {
            Some(family) => family.points.push(stored),
            None => families.push(Family {
                name: point.name.clone(),
                key: point.key.clone(),
                points: vec![stored],
            }),
        }
    }
    families
}

/// The sweep's section.
pub(super) fn section(family: &Family<'_>) -> Markup {
    let Some(first) = family.points.first().map(|stored| &stored.summary) else {
        return html! {};
    };
    let mut quantities = vec![
        Quantity {
            metric: "p50",
            unit: "p50, microseconds",
        },
        Quantity {
            metric: "p90",
            unit: "p90, microseconds",
        },
    ];
    if first.load.pace == Loop::Closed {
        quantities.push(Quantity {
            metric: "throughput",
            unit: "requests/s",
        });
    }
    quantities.push(Quantity {
        metric: "cpu_us_per_request",
        unit: "CPU us per request",
    });
    html! {
        section {
            h2 id=(family.name) { (family.name) }
            p { (first.title) "." }
            @if !first.reproduces.is_empty() { p.soft { (first.reproduces) } }
            @for quantity in quantities {
                (figure(
                    |size| plot::sweep(&family.name, &family.key, &family.points, quantity, size),
                    "Median over blocks; bands are bootstrap intervals over blocks.",
                ))
            }
            @for stored in &family.points {
                @let summary = &stored.summary;
                details id=(summary.scenario) {
                    summary { (family.key) " = " (stored.sweep_text()) ": " (format!("{:?}", summary.verdict.status).to_lowercase()) }
                    p { (conditions(summary)) }
                    (arms(summary))
                    @for reason in &summary.verdict.reasons { p.not { (reason.code) ": " (reason.message) } }
                }
            }
        }
    }
}
