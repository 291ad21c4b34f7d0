//! What routes ask about requests besides the path: header names, query parameters and their values, the built-in ones of
//! the framing among them.

use std::collections::HashMap;

use kmesh_api::Image;
use kmesh_api::limits::{NAMES_MAX, NODES_MAX, VALUE_PATTERNS_MAX};
use kmesh_api::route::{HOLDS_ABSENT, HOLDS_MATCH, HOLDS_OTHER, Predicate, name};

use crate::automaton::{Automata, Meaning};
use crate::dfa::{Alphabet, Dfa, check};
use crate::error::{ConfigError, Place};
use crate::model::{HeaderMatch, JOINED_HEADERS, QueryMatch, ValueMatch};
use crate::pattern::expression;
use crate::trie::Trie;
use crate::values::automaton;

/// Values that the framing understands, in lower case: name, value, number.
const BUILT_IN_VALUES: [(u32, &str, u32); 3] = [
    (name::TRANSFER_ENCODING, "chunked", name::VALUE_CHUNKED),
    (name::CONNECTION, "keep-alive", name::VALUE_KEEP_ALIVE),
    (name::CONNECTION, "close", name::VALUE_CLOSE),
];

/// Parts of the request line that can be asked about like headers.
const PSEUDO_HEADERS: [(&str, u32); 3] = [
    (":method", name::METHOD),
    (":path", name::PATH),
    (":authority", name::AUTHORITY),
];

/// What the scheme is asked by: see [`Headers::scheme`].
const SCHEME: &str = ":scheme";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The names and values of an image under construction.
#[derive(Debug)]
pub(crate) struct Headers {
    /// Of headers.
    ids: HashMap<String, u32>,
    /// Of query parameters.
    queries: HashMap<String, u32>,
    /// By name id.
    values: Vec<Values>,
}

/// What is asked about one name's values.
#[derive(Clone, Debug, Default)]
struct Values {
    /// Something is.
    asked: bool,
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
            queries: HashMap::new(),
            values: vec![Values::default(); name::CONFIGURED as usize],
        };
        for (text, id) in name::BUILT_IN {
            headers
                .ids
                .insert(String::from_utf8_lossy(text).into_owned(), id);
        }
        for (text, id) in PSEUDO_HEADERS {
            headers.ids.insert(text.to_owned(), id);
        }
        for (name, value, id) in BUILT_IN_VALUES {
            headers.values[name as usize]
                .exact
                .insert(value.to_owned(), id);
        }
        headers
    }

    /// The id of a header's name, and note that it is asked about.
    pub(crate) fn name(&mut self, header: &str, place: &Place) -> Result<u32, ConfigError> {
        let next = self.values.len() as u32;
        let id = *self.ids.entry(header.to_owned()).or_insert(next);
        self.known(id, place)
    }

    fn known(&mut self, id: u32, place: &Place) -> Result<u32, ConfigError> {
        if id as usize == self.values.len() {
            self.values.push(Values::default());
            let what = "names of headers and query parameters";
            place.within(self.values.len(), what, "NAMES_MAX", NAMES_MAX)?;
        }
        self.values[id as usize].asked = true;
        Ok(id)
    }

    /// Lets the header's values be clusters' names: their ids become the clusters' positions plus one. Must come before
    /// everything else that is asked about the header.
    pub(crate) fn clusters<'c>(
        &mut self,
        header: &str,
        clusters: impl Iterator<Item = &'c str>,
        place: &Place,
    ) -> Result<(), ConfigError> {
        let id = self.name(header, place)?;
        let numbered = clusters.zip(1..).map(|(name, id)| (name.to_owned(), id));
        self.values[id as usize].exact.extend(numbered);
        Ok(())
    }

    /// The predicate that a condition on a header becomes.
    pub(crate) fn predicate(
        &mut self,
        header: &HeaderMatch,
        place: &Place,
    ) -> Result<Predicate, ConfigError> {
        if header.name == SCHEME {
            return self.scheme(header, place);
        }
        let name = self.name(&header.name, place)?;
        let mut predicate = self.condition(name, &header.value, header.ignore_case, place)?;
        let (present, invert) = (header.value == ValueMatch::Present, header.invert);
        predicate.flags = match (present, invert) {
            (true, false) => HOLDS_OTHER | HOLDS_MATCH,
            (true, true) => HOLDS_ABSENT,
            (false, false) => HOLDS_MATCH,
            (false, true) => HOLDS_OTHER,
        };
        if header.missing_is_empty {
            // Envoy, `HeaderUtility::HeaderData`: an absent header is then one that is there and empty.
            let empty = if takes(header, "", place)? {
                HOLDS_MATCH
            } else {
                HOLDS_OTHER
            };
            predicate.flags &= !HOLDS_ABSENT;
            if predicate.flags & empty != 0 {
                predicate.flags |= HOLDS_ABSENT;
            }
        }
        Ok(predicate)
    }

    /// The predicate that a condition on the scheme becomes. It is never absent: it is `https` if the client says so in
    /// `x-forwarded-proto`, which no route can ask about by its name, and else `http`, since nothing is decrypted here.
    ///
    /// Envoy, `ConnectionManagerUtility::mutateRequestHeaders` (`source/common/http/conn_manager_utility.cc`).
    fn scheme(&mut self, header: &HeaderMatch, place: &Place) -> Result<Predicate, ConfigError> {
        let holds = |scheme| match header.value {
            ValueMatch::Present => Ok(!header.invert),
            _ => takes(header, scheme, place).map(|takes| takes != header.invert),
        };
        let (https, http) = (holds("https")?, holds("http")?);
        let name = self.name(FORWARDED_PROTO, place)?;
        let says = ValueMatch::Exact("https".to_owned());
        let mut predicate = self.condition(name, &says, false, place)?;
        if https {
            predicate.flags |= HOLDS_MATCH;
        }
        if http {
            predicate.flags |= HOLDS_OTHER | HOLDS_ABSENT;
        }
        Ok(predicate)
    }

    /// The predicate that a condition on a query parameter becomes.
    pub(crate) fn query(
        &mut self,
        query: &QueryMatch,
        place: &Place,
    ) -> Result<Predicate, ConfigError> {
        let next = self.values.len() as u32;
        let id = *self.queries.entry(query.name.clone()).or_insert(next);
        let id = self.known(id, place)?;
        let mut predicate = self.condition(id, &query.value, query.ignore_case, place)?;
        predicate.flags = match (&query.value, query.invert) {
            (ValueMatch::Present, true) => HOLDS_ABSENT,
            (ValueMatch::Present, false) => HOLDS_OTHER | HOLDS_MATCH,
            _ => HOLDS_MATCH,
        };
        Ok(predicate)
    }

    /// A predicate without flags.
    fn condition(
        &mut self,
        name: u32,
        value: &ValueMatch,
        ignore_case: bool,
        place: &Place,
    ) -> Result<Predicate, ConfigError> {
        let mut predicate = Predicate {
            name,
            ..Predicate::default()
        };
        match value {
            ValueMatch::Present => {}
            ValueMatch::Exact(exact) if !ignore_case => {
                let values = &mut self.values[name as usize].exact;
                let next = values.len() as u32 + 1;
                predicate.value = *values.entry(exact.clone()).or_insert(next);
            }
            value => {
                let expression = expression(value, ignore_case)
                    .and_then(|expression| check(&expression, Alphabet::Value).map(|()| expression))
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
        if !self.queries.is_empty() {
            image.queries_root = ids(automata, place, &self.queries)?;
        }
        // Two schemes are none.
        for name in JOINED_HEADERS.into_iter().chain([FORWARDED_PROTO]) {
            if let Some(id) = self.ids.get(name) {
                image.names[*id as usize].joined = 1;
            }
        }
        let texts: HashMap<u32, (&str, &String)> = self
            .queries
            .iter()
            .map(|(name, id)| (*id, ("query parameter", name)))
            .chain(self.ids.iter().map(|(name, id)| (*id, ("header", name))))
            .collect();
        for ((name, values), id) in image.names.iter_mut().zip(&self.values).zip(0..) {
            if !values.patterns.is_empty() {
                let (kind, text) = texts.get(&id).map_or(("", ""), |(kind, text)| (kind, text));
                let place = &place.resource(kind, text);
                name.values = automaton(automata, place, &values.exact, &values.patterns)?;
            } else if !values.exact.is_empty()
                || (values.asked && (name::METHOD..=name::AUTHORITY).contains(&id))
            {
                // A pseudo header is looked up if it has an automaton, if only one of its beginning.
                name.values = ids(automata, place, &values.exact)?;
            }
        }
        Ok(())
    }
}

/// Whether the condition's value matches `text`.
fn takes(header: &HeaderMatch, text: &str, place: &Place) -> Result<bool, ConfigError> {
    let expression = expression(&header.value, header.ignore_case);
    let dfa = expression.and_then(|expression| Dfa::new(&[expression], Alphabet::Value, NODES_MAX));
    dfa.map(|dfa| dfa.takes(text))
        .map_err(|problem| place.refuse(problem))
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
