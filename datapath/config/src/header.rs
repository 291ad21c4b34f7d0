//! Header names and the values that routes ask about: the built-in ones of the framing and the configuration's own.

use std::collections::HashMap;

use kmesh_api::Image;
use kmesh_api::limits::{NAMES_MAX, VALUE_PATTERNS_MAX};
use kmesh_api::route::{PREDICATE_INVERT, PREDICATE_PRESENT, Predicate, name};

use crate::automaton::{Automata, Meaning};
use crate::error::{ConfigError, Place};
use crate::model::{HeaderMatch, JOINED_HEADERS, ValueMatch};
use crate::pattern::expression;
use crate::trie::Trie;
use crate::values::{automaton, check};

/// Values that the framing understands, in lower case: name, value, number.
const BUILT_IN_VALUES: [(u32, &str, u32); 3] = [
    (name::TRANSFER_ENCODING, "chunked", name::VALUE_CHUNKED),
    (name::CONNECTION, "keep-alive", name::VALUE_KEEP_ALIVE),
    (name::CONNECTION, "close", name::VALUE_CLOSE),
];

/// The names and values of an image under construction.
#[derive(Debug)]
pub(crate) struct Headers {
    ids: HashMap<String, u32>,
    /// By name id.
    values: Vec<Values>,
}

/// What is asked about one header's values.
#[derive(Clone, Debug, Default)]
struct Values {
    /// With their ids.
    exact: HashMap<String, u32>,
    /// Regular expressions, by their bit.
    patterns: Vec<String>,
}

impl Headers {
    /// The built-in names and values.
    pub(crate) fn new() -> Self {
        let mut headers = Self {
            ids: HashMap::new(),
            values: vec![Values::default(); name::CONFIGURED as usize],
        };
        for (text, id) in name::BUILT_IN {
            headers
                .ids
                .insert(String::from_utf8_lossy(text).into_owned(), id);
        }
        for (name, value, id) in BUILT_IN_VALUES {
            headers.values[name as usize]
                .exact
                .insert(value.to_owned(), id);
        }
        headers
    }

    /// The predicate that a condition becomes.
    pub(crate) fn predicate(
        &mut self,
        header: &HeaderMatch,
        place: &Place,
    ) -> Result<Predicate, ConfigError> {
        let next = self.values.len() as u32;
        let name = *self.ids.entry(header.name.clone()).or_insert(next);
        if name == next {
            self.values.push(Values::default());
            place.within(self.values.len(), "header names", "NAMES_MAX", NAMES_MAX)?;
        }
        let mut predicate = Predicate {
            name,
            flags: if header.invert { PREDICATE_INVERT } else { 0 },
            ..Predicate::default()
        };
        match &header.value {
            ValueMatch::Present => predicate.flags |= PREDICATE_PRESENT,
            ValueMatch::Exact(exact) if !header.ignore_case => {
                let values = &mut self.values[name as usize].exact;
                let next = values.len() as u32 + 1;
                predicate.value = *values.entry(exact.clone()).or_insert(next);
            }
            value => {
                let expression = expression(value, header.ignore_case)
                    .and_then(|expression| check(&expression).map(|()| expression))
                    .map_err(|problem| place.refuse(problem))?;
                let patterns = &mut self.values[name as usize].patterns;
                let known = patterns.iter().position(|pattern| *pattern == expression);
                let at = known.unwrap_or(patterns.len());
                if known.is_none() {
                    patterns.push(expression);
                    let what = "patterns on one header";
                    place.within(
                        patterns.len(),
                        what,
                        "VALUE_PATTERNS_MAX",
                        VALUE_PATTERNS_MAX,
                    )?;
                }
                predicate.patterns = 1 << at;
            }
        }
        Ok(predicate)
    }

    /// Builds the automata.
    pub(crate) fn store(
        self,
        image: &mut Image,
        automata: &mut Automata,
        place: &Place,
    ) -> Result<(), ConfigError> {
        image.names_root = ids(automata, place, &self.ids)?;
        for name in JOINED_HEADERS {
            if let Some(id) = self.ids.get(name) {
                image.names[*id as usize].joined = 1;
            }
        }
        let texts: HashMap<u32, &String> = self.ids.iter().map(|(name, id)| (*id, name)).collect();
        for ((name, values), id) in image.names.iter_mut().zip(&self.values).zip(0..) {
            if !values.patterns.is_empty() {
                let text = texts.get(&id).map_or("", |text| text.as_str());
                let place = &place.resource("header", text);
                name.values = automaton(automata, place, &values.exact, &values.patterns)?;
            } else if !values.exact.is_empty() {
                name.values = ids(automata, place, &values.exact)?;
            }
        }
        Ok(())
    }
}

fn ids(
    automata: &mut Automata,
    place: &Place,
    texts: &HashMap<String, u32>,
) -> Result<u32, ConfigError> {
    let mut trie = Trie::new();
    for (text, id) in texts {
        *trie.at(text.bytes()) = *id;
    }
    automata.add(&trie, place, (), |id: &u32, ()| {
        Ok((Meaning { end: *id, pass: 0 }, ()))
    })
}
