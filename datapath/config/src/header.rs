//! Header names and the values that routes ask about: the built-in ones of the framing and the configuration's own.

use std::collections::HashMap;

use kmesh_api::Image;
use kmesh_api::limits::NAMES_MAX;
use kmesh_api::route::{Predicate, name};

use crate::automaton::{Automata, Meaning};
use crate::error::{ConfigError, Place};
use crate::model::{HeaderMatch, JOINED_HEADERS};
use crate::trie::Trie;

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
    /// By name id: the values with their ids.
    values: Vec<HashMap<String, u32>>,
}

impl Headers {
    /// The built-in names and values.
    pub(crate) fn new() -> Self {
        let mut headers = Self {
            ids: HashMap::new(),
            values: vec![HashMap::new(); name::CONFIGURED as usize],
        };
        for (text, id) in name::BUILT_IN {
            headers
                .ids
                .insert(String::from_utf8_lossy(text).into_owned(), id);
        }
        for (name, value, id) in BUILT_IN_VALUES {
            headers.values[name as usize].insert(value.to_owned(), id);
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
            self.values.push(HashMap::new());
            place.within(self.values.len(), "header names", "NAMES_MAX", NAMES_MAX)?;
        }
        let values = &mut self.values[name as usize];
        let next = values.len() as u32 + 1;
        let value = *values.entry(header.exact.clone()).or_insert(next);
        Ok(Predicate { name, value })
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
        for (name, values) in image.names.iter_mut().zip(&self.values) {
            if !values.is_empty() {
                name.values = ids(automata, place, values)?;
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
