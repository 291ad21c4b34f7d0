//! Regular expressions as one deterministic automaton, and that automaton as rows of the tables.

use std::collections::HashMap;
use std::error::Error;

use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

use crate::automaton::{Meaning, Row};
use crate::error::ConfigError;

/// Memory that a state may take while the automaton is built, bytes: a row for 128 classes of bytes.
const STATE_MEMORY: usize = 512;
/// Memory that an expression may take before that, bytes.
const NFA_MAX: usize = 32 << 20;

/// The bytes that texts are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// A header value: UTF-8 for the expressions' sake, tabs and whatever is printed.
    Value,
    /// A path: the scanner takes visible ASCII only, without `#` and `?`.
    Path,
}

impl Alphabet {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Value => byte == b'\t' || byte >= b' ' && byte != 0x7f,
            Self::Path => byte > b' ' && byte < 0x7f && byte != b'#' && byte != b'?',
        }
    }

    fn syntax(self) -> syntax::Config {
        // A character of a path is a byte; saying so keeps the automaton small.
        syntax::Config::new()
            .utf8(false)
            .unicode(self == Self::Value)
    }
}

/// An automaton that knows which of several expressions match all of a text.
pub(crate) struct Dfa {
    dense: dense::DFA<Vec<u32>>,
    begin: StateID,
    alphabet: Alphabet,
}

impl Dfa {
    /// Builds it with memory for about that many states, or says why it cannot be built.
    pub(crate) fn new(
        expressions: &[String],
        alphabet: Alphabet,
        most: usize,
    ) -> Result<Self, String> {
        let memory = most * STATE_MEMORY;
        let limits = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .accelerate(false)
            .dfa_size_limit(Some(memory))
            .determinize_size_limit(Some(memory));
        let dense = dense::Builder::new()
            .configure(limits)
            .syntax(alphabet.syntax())
            .thompson(nfa())
            .build_many(expressions)
            .map_err(|error| cause(&error))?;
        let begin = dense
            .start_state(&start::Config::new().anchored(Anchored::Yes))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            dense,
            begin,
            alphabet,
        })
    }

    /// Whether an expression matches all of `text`.
    pub(crate) fn takes(&self, text: &str) -> bool {
        let last = text
            .bytes()
            .fold(self.begin, |state, byte| self.dense.next_state(state, byte));
        self.dense.is_match_state(self.dense.next_eoi_state(last))
    }
}

fn nfa() -> thompson::Config {
    thompson::Config::new()
        .utf8(false)
        .nfa_size_limit(Some(NFA_MAX))
}

/// Whether `expression` is one at all.
pub(crate) fn check(expression: &str, alphabet: Alphabet) -> Result<(), String> {
    let built = thompson::NFA::compiler()
        .syntax(alphabet.syntax())
        .configure(nfa())
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

/// The automaton's states, the first its beginning, `None` if they are more than `most`; `meaning` turns the numbers of the
/// expressions that match where a text ends into what the state means.
pub(crate) fn rows(
    dfa: &Dfa,
    most: usize,
    mut meaning: impl FnMut(&[usize]) -> Result<Meaning, ConfigError>,
) -> Result<Option<Vec<Row>>, ConfigError> {
    let alphabet: Vec<u8> = (0..=u8::MAX)
        .filter(|byte| dfa.alphabet.has(*byte))
        .collect();
    // State 0 is the beginning and nothing else: nobody comes back to it, so that being there means an empty text.
    let mut states = vec![dfa.begin];
    let mut numbers: HashMap<StateID, usize> = HashMap::new();
    let mut rows = Vec::new();
    let mut matched = Vec::new();
    while rows.len() < states.len() {
        if states.len() > most {
            return Ok(None);
        }
        let state = states[rows.len()];
        let mut next = Vec::with_capacity(alphabet.len());
        for &byte in &alphabet {
            let to = dfa.dense.next_state(state, byte);
            let number = (!dfa.dense.is_dead_state(to)).then(|| {
                *numbers.entry(to).or_insert_with(|| {
                    states.push(to);
                    states.len() - 1
                })
            });
            next.push((byte, number));
        }
        let other = most_frequent(&next);
        next.retain(|(_, to)| *to != other);
        let end = dfa.dense.next_eoi_state(state);
        matched.clear();
        if dfa.dense.is_match_state(end) {
            let patterns = 0..dfa.dense.match_len(end);
            matched.extend(patterns.map(|i| dfa.dense.match_pattern(end, i).as_usize()));
        }
        rows.push(Row {
            meaning: meaning(&matched)?,
            other,
            exceptions: next,
        });
    }
    Ok(Some(rows))
}

fn most_frequent(next: &[(u8, Option<usize>)]) -> Option<usize> {
    let mut counts: HashMap<Option<usize>, usize> = HashMap::new();
    for (_, to) in next {
        *counts.entry(*to).or_default() += 1;
    }
    // Equal counts: nowhere before somewhere, low numbers first, so that equal configurations give equal tables.
    let best = counts
        .into_iter()
        .max_by_key(|(to, count)| (*count, std::cmp::Reverse(*to)));
    best.and_then(|(to, _)| to)
}
