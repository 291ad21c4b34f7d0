//! One self-contained page per results folder: no network, no script, readable at a desk and on a phone, in light
//! and dark. The claim table comes first, then where the mesh loses, then everything behind it.

mod breakdown;
mod figure;
mod scenario;
mod sweeps;
mod top;

use super::stored::Stored;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The page's style; the only styling there is.
const STYLE: &str = include_str!("style.css");

/// The page of these results.
pub fn page(results: &[Stored]) -> String {
    let alone: Vec<&Stored> = results
        .iter()
        .filter(|stored| stored.summary.sweep.is_none())
        .collect();
    let families = sweeps::families(results);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Kmesh datapath: results" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Results: a service mesh in the kernel against sidecars and against no mesh" }
                (top::introduction(results))
                (top::claims(results))
                (top::losses(results))
                (contents(&alone, &families))
                @for family in &families { (sweeps::section(family)) }
                @for stored in &alone { (scenario::section(stored)) }
                (top::environment(results))
            }
        }
    }
    .into_string()
}

fn contents(alone: &[&Stored], families: &[sweeps::Family<'_>]) -> Markup {
    html! {
        nav {
            h2 id="contents" { "Contents" }
            ul {
                @for family in families { li { a href={ "#" (family.name) } { (family.name) } " (sweep)" } }
                @for stored in alone {
                    li { a href={ "#" (stored.summary.scenario) } { (stored.summary.scenario) } }
                }
                li { a href="#environment" { "environment and exact commands" } }
            }
        }
    }
}
