//! Sweeps: one file, a list of values, as many scenarios. Each point is an ordinary scenario named `SWEEP.POINT`, so that
//! it can be run, judged and stored like any other; all points that need the same lab share it.

use super::load::{merge, parse_merged};
use super::source::{Source, locate};
use super::{Scenario, ScenarioError};
use crate::summary::SweepPoint;
use serde::Deserialize;

/// What changes from point to point.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sweep {
    /// The key whose value changes, with dots (`load.connections`, `traffic.0.response_bytes`); with `points`, words for
    /// the axis.
    pub key: String,
    /// Its values.
    pub values: Vec<toml::Value>,
    /// Points that change more than one key.
    pub points: Vec<Point>,
}

/// One point that changes any keys.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Point {
    /// Its name on the axis and in the scenario's name: letters, digits, `-` and `_`.
    pub label: String,
    /// Keys that this point overrides, as in `extends`; in arrays of tables (`traffic`, `server`) entry by entry.
    pub set: toml::Table,
}

/// The scenarios of a merged file: itself, or one per point of its sweep.
pub(super) fn expand(
    merged: &toml::Table,
    chain: &[Source],
) -> Result<Vec<Scenario>, ScenarioError> {
    let plain = parse_merged(merged.clone(), chain)?;
    let Some(sweep) = plain.sweep.clone() else {
        return Ok(vec![super::checked(plain, chain)?]);
    };
    if sweep.values.is_empty() == sweep.points.is_empty() {
        return Err(refusal(chain, &["sweep"], "needs either values or points"));
    }
    if sweep.key.is_empty() {
        return Err(refusal(
            chain,
            &["sweep"],
            "key is missing: say what changes",
        ));
    }
    let tables = if sweep.points.is_empty() {
        of_values(&sweep, merged, chain)?
    } else {
        of_points(&sweep, merged)
    };
    let mut scenarios: Vec<Scenario> = Vec::new();
    for (position, (label, table)) in tables.into_iter().enumerate() {
        let place = if sweep.points.is_empty() {
            "values"
        } else {
            "points"
        };
        let usable = !label.is_empty()
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if !usable
            || scenarios
                .iter()
                .any(|known| known.point.as_ref().is_some_and(|p| p.value == label))
        {
            let message =
                format!("{label:?} is not a name of its own made of letters, digits, '-' and '_'");
            return Err(refusal(chain, &["sweep", place], &message));
        }
        // What is wrong with a point is wrong in the list that made it.
        let one_in_list = |error: ScenarioError| match error {
            ScenarioError::Value { key, message, .. } => ScenarioError::Value {
                place: locate(chain, &["sweep", place]),
                key: format!("sweep point {label}: {key}"),
                message,
            },
            other => other,
        };
        let in_list = |error: ScenarioError| match error {
            ScenarioError::Several(errors) => {
                ScenarioError::Several(errors.into_iter().map(one_in_list).collect())
            }
            one => one_in_list(one),
        };
        let mut scenario = parse_merged(table, chain)
            .and_then(|s| super::checked(s, chain))
            .map_err(in_list)?;
        scenario.point = Some(SweepPoint {
            name: scenario.name.clone(),
            key: sweep.key.clone(),
            value: label.clone(),
            position,
        });
        scenario.name = format!("{}.{label}", scenario.name);
        scenarios.push(scenario);
    }
    Ok(scenarios)
}

fn refusal(chain: &[Source], keys: &[&str], message: &str) -> ScenarioError {
    ScenarioError::Value {
        place: locate(chain, keys),
        key: keys.join("."),
        message: message.to_owned(),
    }
}

fn of_values(
    sweep: &Sweep,
    merged: &toml::Table,
    chain: &[Source],
) -> Result<Vec<(String, toml::Table)>, ScenarioError> {
    sweep
        .values
        .iter()
        .map(|value| {
            let mut table = merged.clone();
            if !set(&mut table, &sweep.key, value) {
                let message = format!("{:?} leads to no table of this scenario", sweep.key);
                return Err(refusal(chain, &["sweep", "key"], &message));
            }
            Ok((label(value), table))
        })
        .collect()
}

fn of_points(sweep: &Sweep, merged: &toml::Table) -> Vec<(String, toml::Table)> {
    sweep
        .points
        .iter()
        .map(|point| {
            let mut table = merged.clone();
            overlay(&mut table, &point.set);
            (point.label.clone(), table)
        })
        .collect()
}

/// As `extends`, but an array of tables is changed entry by entry, so that a point need not repeat all of a request.
fn overlay(base: &mut toml::Table, above: &toml::Table) {
    for (key, value) in above {
        match (base.get_mut(key), value) {
            (Some(toml::Value::Array(below)), toml::Value::Array(changes))
                if changes.iter().all(toml::Value::is_table) && changes.len() <= below.len() =>
            {
                for (entry, change) in below.iter_mut().zip(changes) {
                    if let (toml::Value::Table(entry), toml::Value::Table(change)) = (entry, change)
                    {
                        overlay(entry, change);
                    }
                }
            }
            _ => merge(base, [(key.clone(), value.clone())].into_iter().collect()),
        }
    }
}

/// Sets the value at a dotted path; numbers index arrays. False when a parent is missing.
fn set(table: &mut toml::Table, path: &str, value: &toml::Value) -> bool {
    let Some((parents, last)) = path.rsplit_once('.') else {
        table.insert(path.to_owned(), value.clone());
        return true;
    };
    let mut parents = parents.split('.');
    let Some(mut place) = parents.next().and_then(|first| table.get_mut(first)) else {
        return false;
    };
    for parent in parents {
        let child = match place {
            toml::Value::Table(table) => table.get_mut(parent),
            toml::Value::Array(items) => parent.parse().ok().and_then(|i: usize| items.get_mut(i)),
            _ => None,
        };
        match child {
            Some(child) => place = child,
            None => return false,
        }
    }
    match place {
        toml::Value::Table(table) => {
            table.insert(last.to_owned(), value.clone());
            true
        }
        _ => false,
    }
}

fn label(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.replace(['%', '/', '.', ' '], "-"),
        toml::Value::Float(number) => number.to_string().replace('.', "_"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotted_path_reaches_into_arrays() {
        let mut table: toml::Table =
            toml::from_str("[[traffic]]\npath = '/'\n[load]\nx = 1").unwrap();
        assert!(set(&mut table, "traffic.0.path", &"/a".into()));
        assert!(set(&mut table, "load.connections", &7.into()));
        assert!(!set(&mut table, "traffic.1.path", &"/a".into()));
        assert_eq!(table["traffic"][0]["path"].as_str(), Some("/a"));
        assert_eq!(table["load"]["connections"].as_integer(), Some(7));
    }

    #[test]
    fn a_point_changes_entries_of_arrays_not_the_array() {
        let mut table: toml::Table =
            toml::from_str("[[traffic]]\npath = '/'\nhost = 'h'\nheaders = { a = '1' }").unwrap();
        let above: toml::Table = toml::from_str("[[traffic]]\nheaders = { b = '2' }").unwrap();
        overlay(&mut table, &above);
        assert_eq!(table["traffic"][0]["host"].as_str(), Some("h"));
        assert_eq!(table["traffic"][0]["headers"]["a"].as_str(), Some("1"));
        assert_eq!(table["traffic"][0]["headers"]["b"].as_str(), Some("2"));
    }
}
