//! The regular expressions on the paths of one virtual host, as one automaton beside the tree of the literal patterns.
//!
//! Patterns that ignore case are expressions here, too: a tree would need a branch for every spelling.

use kmesh_api::limits::EXPRESSION_STATES_MAX;

use crate::automaton::{Automata, Meaning};
use crate::candidates::{Candidates, merge};
use crate::dfa::{Alphabet, Dfa, check, rows};
use crate::error::{ConfigError, Place};
use crate::model::{PathMatch, RouteRule, ValueMatch};
use crate::pattern::expression;

/// An expression and the routes that have it.
#[derive(Debug)]
struct Owned {
    expression: String,
    /// In the configuration's words.
    written: String,
    /// Of the first route.
    place: Place,
    routes: Vec<u32>,
}

/// The expressions of a virtual host, in route order.
#[derive(Debug)]
pub(crate) struct Expressions {
    all: Vec<Owned>,
    /// States that the automaton may have.
    most: usize,
}

impl Expressions {
    /// No expressions yet.
    pub(crate) fn new() -> Self {
        Self {
            all: Vec::new(),
            most: EXPRESSION_STATES_MAX,
        }
    }

    /// Adds the route if its path is an expression; `false` if it is a literal pattern.
    pub(crate) fn take(
        &mut self,
        route: &RouteRule,
        number: u32,
        place: &Place,
    ) -> Result<bool, ConfigError> {
        let fold = route.ignore_case;
        let (field, written) = match &route.path {
            PathMatch::Regex(text) => ("match.safe_regex", text),
            PathMatch::Exact(text) if fold => ("match.path", text),
            PathMatch::Prefix(text) if fold => ("match.prefix", text),
            PathMatch::Separated(text) if fold => ("match.path_separated_prefix", text),
            _ => return Ok(false),
        };
        let text = written.clone();
        let place = place.field(field);
        let refuse = |problem| place.refuse(format!("{written:?}: {problem}"));
        let mut expression = match &route.path {
            PathMatch::Regex(_) => expression(&ValueMatch::Regex(text), false),
            PathMatch::Prefix(_) => expression(&ValueMatch::Prefix(text), true),
            PathMatch::Exact(_) | PathMatch::Separated(_) => {
                expression(&ValueMatch::Exact(text), true)
            }
        }
        .map_err(refuse)?;
        if let PathMatch::Separated(_) = &route.path {
            expression.push_str("(?:/(?s-u:.)*)?");
        }
        check(&expression, Alphabet::Path).map_err(refuse)?;
        match self
            .all
            .iter_mut()
            .find(|owned| owned.expression == expression)
        {
            Some(owned) => owned.routes.push(number),
            None => self.all.push(Owned {
                expression,
                written: written.clone(),
                place,
                routes: vec![number],
            }),
        }
        Ok(true)
    }

    /// Builds the automaton; returns its root, 0 if there is no expression.
    pub(crate) fn store(
        &self,
        automata: &mut Automata,
        candidates: &mut Candidates,
        place: &Place,
        always: impl Fn(u32) -> bool,
    ) -> Result<u32, ConfigError> {
        if self.all.is_empty() {
            return Ok(0);
        }
        let Some(dfa) = self.built(self.all.len()) else {
            return Err(self.too_many());
        };
        let rows = rows(&dfa, self.most, |matched| {
            let mut routes: Vec<u32> = Vec::new();
            for &i in matched {
                routes.extend_from_slice(&self.all[i].routes);
            }
            let end = candidates.list(&merge(&routes, &[], &always), place)?;
            Ok(Meaning { end, pass: 0 })
        })?;
        match rows {
            Some(rows) => automata.add_rows(&rows, place),
            None => Err(self.too_many()),
        }
    }

    /// The automaton of the first `count` expressions; `None` if it is too large to build.
    fn built(&self, count: usize) -> Option<Dfa> {
        let texts: Vec<String> = self.all[..count]
            .iter()
            .map(|owned| owned.expression.clone())
            .collect();
        Dfa::new(&texts, Alphabet::Path, self.most).ok()
    }

    /// Names the expression with which the automaton becomes too large.
    fn too_many(&self) -> ConfigError {
        let fits = |count: usize| {
            let meaning = |_: &[usize]| Ok(Meaning::default());
            let rows = self
                .built(count)
                .and_then(|dfa| rows(&dfa, self.most, meaning).ok());
            matches!(rows, Some(Some(_)))
        };
        // `low` fit (none do) and `high` do not.
        let (mut low, mut high) = (0, self.all.len());
        while high - low > 1 {
            let middle = low.midpoint(high);
            if fits(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        let Owned { written, place, .. } = &self.all[high - 1];
        ConfigError::Limit {
            place: place.clone(),
            needed: format!(
                "too many automaton states for {written:?} beside the {low} expressions before it in its virtual host"
            ),
            limit: "EXPRESSION_STATES_MAX",
            most: self.most,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RouteAction;

    /// Expressions whose product explodes are refused by the name of the one that is too much.
    #[test]
    fn the_expression_that_is_too_much_is_named() {
        let mut expressions = Expressions::new();
        expressions.most = 256;
        let place = Place::document("test");
        // After an `a` anywhere, which of the next 9 characters were an `a` takes a state of its own.
        for (text, i) in ["/a", "/b.*", "/.*a.{9}", "/c"].into_iter().zip(0..) {
            let path = PathMatch::Regex(text.to_owned());
            let route = RouteRule::to(path, RouteAction::Cluster(String::new()));
            assert!(
                expressions
                    .take(&route, i, &place.item(i as usize))
                    .unwrap()
            );
        }
        let stored = expressions.store(
            &mut Automata::new(),
            &mut Candidates::default(),
            &place,
            |_| false,
        );
        assert_eq!(
            stored.unwrap_err().to_string(),
            "test: [2].match.safe_regex: needs too many automaton states for \"/.*a.{9}\" beside the 2 expressions before \
             it in its virtual host, the datapath's limit EXPRESSION_STATES_MAX is 256"
        );
    }
}
