//! The automaton over one header's values when some conditions on it are patterns.

use std::collections::HashMap;
use std::error::Error;

use kmesh_api::limits::NODES_MAX;
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

use crate::automaton::{Automata, Meaning};
use crate::error::{ConfigError, Place};

/// Memory that building one automaton may take, bytes: far more than one that fits the tables needs.
const BUILD_MAX: usize = 32 << 20;

/// Whether `expression` is one at all.
pub(crate) fn check(expression: &str) -> Result<(), String> {
    let built = thompson::NFA::compiler()
        .syntax(syntax::Config::new().utf8(false))
        .configure(
            thompson::Config::new()
                .utf8(false)
                .nfa_size_limit(Some(BUILD_MAX)),
        )
        .build(expression);
    match built {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("is not a regular expression: {}", cause(&error))),
    }
}

/// An error with what it comes from, on one line.
fn cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    text.lines().last().unwrap_or_default().trim().to_owned()
}

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
    let limits = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(StartKind::Anchored)
        .dfa_size_limit(Some(BUILD_MAX))
        .determinize_size_limit(Some(BUILD_MAX));
    let refuse =
        |why: String| place.refuse(format!("these conditions do not fit one automaton: {why}"));
    let dfa = dense::Builder::new()
        .configure(limits)
        .syntax(syntax::Config::new().utf8(false))
        .thompson(thompson::Config::new().utf8(false))
        .build_many(&all)
        .map_err(|error| refuse(cause(&error)))?;
    let begin = dfa
        .start_state(&start::Config::new().anchored(Anchored::Yes))
        .map_err(|error| refuse(error.to_string()))?;
    // State 0 is the beginning and nothing else: nobody comes back to it, so that being there means an empty value.
    let mut states = vec![begin];
    let mut numbers: HashMap<StateID, usize> = HashMap::new();
    let mut rows: Vec<(Meaning, Vec<(u8, usize)>)> = Vec::new();
    while rows.len() < states.len() {
        let state = states[rows.len()];
        let mut row = Vec::new();
        for byte in (0..=u8::MAX).filter(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f) {
            let next = dfa.next_state(state, byte);
            if dfa.is_dead_state(next) {
                continue;
            }
            let number = *numbers.entry(next).or_insert_with(|| {
                states.push(next);
                states.len() - 1
            });
            row.push((byte, number));
        }
        place.within(states.len(), "automaton nodes", "NODES_MAX", NODES_MAX)?;
        let mut meaning = Meaning::default();
        let end = dfa.next_eoi_state(state);
        if dfa.is_match_state(end) {
            for i in 0..dfa.match_len(end) {
                let pattern = dfa.match_pattern(end, i).as_usize();
                match pattern.checked_sub(patterns.len()) {
                    None => meaning.pass |= 1 << pattern,
                    Some(exact) => meaning.end = ids[exact],
                }
            }
        }
        rows.push((meaning, row));
    }
    automata.add_rows(&rows, place)
}
