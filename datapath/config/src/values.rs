//! The automaton over the values of one header or query parameter when some conditions on it are patterns.

use std::collections::HashMap;

use kmesh_api::limits::NODES_MAX;

use crate::automaton::{Automata, Meaning};
use crate::dfa::{Alphabet, Dfa, rows};
use crate::error::{ConfigError, Place};

/// Adds the automaton over `exact` values with their ids, which become [`Meaning::end`], and `patterns`, of which
/// [`Meaning::pass`] is the set: bit `i` for pattern `i`.
pub(crate) fn automaton(
    automata: &mut Automata,
    place: &Place,
    exact: &HashMap<String, u32>,
    patterns: &[String],
) -> Result<u32, ConfigError> {
    let mut all = patterns.to_vec();
    let mut ids = Vec::with_capacity(exact.len());
    for (text, id) in exact {
        let bytes = text.bytes().map(|byte| format!("(?-u:\\x{byte:02x})"));
        all.push(bytes.collect());
        ids.push(*id);
    }
    let dfa = Dfa::new(&all, Alphabet::Value, NODES_MAX)
        .map_err(|why| place.refuse(format!("these conditions do not fit one automaton: {why}")))?;
    let rows = rows(&dfa, NODES_MAX, |matched| {
        let mut meaning = Meaning::default();
        for pattern in matched {
            match pattern.checked_sub(patterns.len()) {
                None => meaning.pass |= 1 << pattern,
                Some(exact) => meaning.end = ids[exact],
            }
        }
        Ok(meaning)
    })?;
    match rows {
        Some(rows) => automata.add_rows(&rows, place),
        None => Err(place.refuse(format!(
            "these conditions need more automaton nodes than the datapath's limit NODES_MAX, {NODES_MAX}"
        ))),
    }
}
