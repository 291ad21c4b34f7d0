//! Request logs: read one, and send it again in its order and, in an open loop, with its gaps.
//!
//! Three forms are understood, each line by line:
//! - JSON lines of this project: `{"t": 0.013, "method": "GET", "host": "svc.test", "path": "/a", "headers": {"k": "v"},
//!   "body_bytes": 0, "name": "reader"}`; `t` in seconds from any origin; only `host` is required;
//! - vegeta's JSON targets: `{"method": "GET", "url": "http://svc.test/a", "header": {"k": ["v"]}, "body": "<base64>"}`;
//! - vegeta's text targets: `GET http://svc.test/a`, header lines `K: v`, then an empty line.
//!
//! A log gives the shape of a load, a plan its speed: the gaps are scaled to the offered rate.

use crate::plan::{Replay, RequestClass};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// Why a log cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A line that is none of the forms.
    #[error("line {line}: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Nothing in it.
    #[error("no request in it")]
    Empty,
}

/// One request of a log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    /// Seconds since any origin, if the log says when.
    pub at_s: Option<f64>,
    /// Everything else; its name is the log's, or empty.
    pub method: String,
    /// `Host` header.
    pub host: String,
    /// Request target.
    pub path: String,
    /// Further headers, in order.
    pub headers: Vec<(String, String)>,
    /// Length of the body.
    pub body_bytes: u32,
    /// Kind of request, if the log names it.
    pub name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    t: Option<f64>,
    #[serde(default)]
    method: String,
    host: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body_bytes: u32,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vegeta {
    method: String,
    url: String,
    #[serde(default)]
    header: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    body: String,
}

/// Reads a log of any of the forms; they may even be mixed.
///
/// # Errors
/// The first line that is none of them, or an empty log.
pub fn parse(text: &str) -> Result<Vec<Entry>, ReplayError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut in_target = false;
    for (index, line) in text.lines().enumerate() {
        let refuse = |why: String| ReplayError::Line {
            line: index + 1,
            why,
        };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            in_target = false;
        } else if line.starts_with('{') {
            in_target = false;
            entries.push(json(line).map_err(refuse)?);
        } else if let (true, Some((name, value)), Some(last)) =
            (in_target, line.split_once(':'), entries.last_mut())
        {
            add_header(last, name.trim(), value.trim());
        } else {
            let (method, url) = line
                .split_once(' ')
                .ok_or_else(|| refuse(format!("{line:?} is neither JSON nor METHOD URL")))?;
            entries.push(target(method, url.trim()).map_err(refuse)?);
            in_target = true;
        }
    }
    if entries.is_empty() {
        return Err(ReplayError::Empty);
    }
    Ok(entries)
}

fn json(line: &str) -> Result<Entry, String> {
    let value: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if value.get("url").is_some() {
        let vegeta: Vegeta = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let mut entry = target(&vegeta.method, &vegeta.url)?;
        let body = STANDARD
            .decode(&vegeta.body)
            .map_err(|error| format!("body: {error}"))?;
        entry.body_bytes = u32::try_from(body.len()).map_err(|error| error.to_string())?;
        for (name, values) in &vegeta.header {
            for value in values {
                add_header(&mut entry, name, value);
            }
        }
        return Ok(entry);
    }
    let own: Own = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let or = |text: String, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text
        }
    };
    Ok(Entry {
        at_s: own.t,
        method: or(own.method, "GET"),
        host: own.host,
        path: or(own.path, "/"),
        headers: own.headers.into_iter().collect(),
        body_bytes: own.body_bytes,
        name: own.name,
    })
}

/// `METHOD http://HOST/PATH`; where to connect is the plan's business, so the host becomes the header only.
fn target(method: &str, url: &str) -> Result<Entry, String> {
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| format!("{url:?} is not an http:// address"))?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    let path = match path.chars().next() {
        Some('/') => path.to_owned(),
        _ => format!("/{path}"),
    };
    Ok(Entry {
        method: method.to_owned(),
        host: host.to_owned(),
        path,
        ..Entry::default()
    })
}

/// A `Host` line replaces the address's host, as in vegeta.
fn add_header(entry: &mut Entry, name: &str, value: &str) {
    if name.eq_ignore_ascii_case("host") {
        value.clone_into(&mut entry.host);
    } else {
        entry.headers.push((name.to_owned(), value.to_owned()));
    }
}

/// The kinds of request in a log, and the log as a sequence of them. Requests that are equal but for their time are
/// one kind; a kind without a name is called `request-N`.
pub fn classes(entries: &[Entry]) -> (Vec<RequestClass>, Replay) {
    let mut kinds: Vec<RequestClass> = Vec::new();
    let mut known = HashMap::new();
    let order = entries
        .iter()
        .map(|entry| {
            let key = (
                entry.method.as_str(),
                entry.host.as_str(),
                entry.path.as_str(),
                entry.headers.as_slice(),
                entry.body_bytes,
                entry.name.as_str(),
            );
            *known.entry(key).or_insert_with(|| {
                let index = kinds.len();
                let name = if entry.name.is_empty() {
                    format!("request-{}", index + 1)
                } else if kinds.iter().any(|kind| kind.name == entry.name) {
                    format!("{}-{}", entry.name, index + 1)
                } else {
                    entry.name.clone()
                };
                kinds.push(RequestClass {
                    method: entry.method.clone(),
                    headers: entry.headers.clone(),
                    body_bytes: entry.body_bytes,
                    ..RequestClass::get(name, &entry.host, &entry.path)
                });
                index as u32
            })
        })
        .collect();
    let first = entries.first().and_then(|entry| entry.at_s);
    let times: Option<Vec<f64>> = entries.iter().map(|entry| entry.at_s).collect();
    let due_us = times.map(|times| {
        let first = first.unwrap_or(0.0);
        let mut latest = 0;
        times
            .iter()
            .map(|at| {
                // A log of many writers may step back a little; due times do not.
                latest = latest.max(((at - first) * 1e6).max(0.0) as u64);
                latest
            })
            .collect()
    });
    let replay = Replay {
        order,
        due_us: due_us.unwrap_or_default(),
    };
    (kinds, replay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms_of_one_request() {
        let own = r#"{"host": "svc.test", "path": "/a?b", "headers": {"k": "v"}}"#;
        let vegeta = r#"{"method": "GET", "url": "http://svc.test/a?b", "header": {"k": ["v"]}}"#;
        let text = "GET http://svc.test/a?b\nk: v";
        let entries = parse(&format!("{own}\n{vegeta}\n\n{text}\n")).unwrap();
        assert_eq!(entries.len(), 3);
        assert!(
            entries.iter().all(|entry| *entry == entries[0]),
            "{entries:#?}"
        );
        let (kinds, replay) = classes(&entries);
        assert_eq!((kinds.len(), replay.order), (1, vec![0, 0, 0]));
    }

    #[test]
    fn order_and_gaps_are_kept() {
        let log = "{\"t\": 5.0, \"host\": \"a\"}\n{\"t\": 5.5, \"host\": \"b\"}\n{\"t\": 5.4, \"host\": \"a\"}\n";
        let (kinds, replay) = classes(&parse(log).unwrap());
        assert_eq!(kinds.len(), 2);
        assert_eq!(replay.order, [0, 1, 0]);
        assert_eq!(replay.due_us, [0, 500_000, 500_000]);
    }

    #[test]
    fn a_bad_line_is_named() {
        for (log, expected) in [
            ("GET http://a/\n\nnonsense", "line 3"),
            ("{\"path\": \"/\"}", "missing field `host`"),
            ("GET ftp://a/", "not an http:// address"),
            ("\n# nothing\n", "no request"),
        ] {
            let error = parse(log).unwrap_err().to_string();
            assert!(error.contains(expected), "{log:?}: {error}");
        }
    }
}
