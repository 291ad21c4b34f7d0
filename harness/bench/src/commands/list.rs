//! `list`: the scenarios there are, all or those of a pattern, and the arms.

use crate::arms;
use crate::cli::Format;
use crate::report::{self, Table};
use crate::scenario::{Catalogue, Scenario};
use kmesh_cli::exit::Failure;
use kmesh_cli::say;
use wildmatch::WildMatch;

/// Prints the list.
pub(super) fn list(
    catalogue: &Catalogue,
    pattern: Option<&str>,
    format: Format,
) -> anyhow::Result<u8> {
    let mut table = Table::new(&["scenario", "arms", "points", "what it is"], 1..3);
    for name in chosen(catalogue, pattern)? {
        let scenarios = catalogue.look(&name)?;
        let points = scenarios.len();
        let Some(scenario) = scenarios.into_iter().next() else {
            continue;
        };
        let scenario = Scenario { name, ..scenario };
        if format == Format::Json {
            let line = serde_json::json!({ "scenario": scenario.name, "title": scenario.title, "reproduces": scenario.reproduces, "arms": scenario.arms.run, "points": points });
            say(&format!("{line}\n"))?;
        }
        table.row(vec![
            scenario.name,
            scenario.arms.run.len().to_string(),
            points.to_string(),
            scenario.title,
        ]);
    }
    say(&match format {
        Format::Json => String::new(),
        Format::Markdown => table.markdown(),
        Format::Text => report::fit(&format!(
            "{}\narms: {}\n",
            table.text(),
            arms::names().join(", ")
        )),
    })?;
    Ok(0)
}

/// The names that the pattern fits, or all.
fn chosen(catalogue: &Catalogue, pattern: Option<&str>) -> anyhow::Result<Vec<String>> {
    let names = catalogue.names()?;
    if names.is_empty() {
        return Err(Failure::usage(format!(
            "no scenario in {}: name another folder with --scenarios",
            catalogue.directory().display()
        ))
        .into());
    }
    let Some(pattern) = pattern else {
        return Ok(names);
    };
    let found: Vec<String> = names
        .iter()
        .filter(|name| fits(pattern, name))
        .cloned()
        .collect();
    if found.is_empty() {
        let known = names.iter().map(String::as_str);
        return Err(kmesh_cli::unknown("scenario like", pattern, known).into());
    }
    Ok(found)
}

/// Whether the pattern fits the whole name; one without wildcards, a part of it.
fn fits(pattern: &str, name: &str) -> bool {
    if pattern.contains(['*', '?']) {
        WildMatch::new(pattern).matches(name)
    } else {
        name.contains(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_fits_and_a_wildcard_fits_the_whole() {
        for (pattern, fit) in [
            ("long", true),
            ("http-*", true),
            ("*60", true),
            ("http-lb-long6?", true),
            ("long*", false),
            ("short", false),
        ] {
            assert_eq!(fits(pattern, "http-lb-long60"), fit, "{pattern}");
        }
    }
}
