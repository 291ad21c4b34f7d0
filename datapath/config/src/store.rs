//! The resources that are in use: the newest of each, or the last one that was accepted.
//!
//! One owner, no I/O: whoever has a source tells it what came, and gets what is to be applied.

use std::sync::Arc;

use serde_json::Value;

use crate::class::Classes;
use crate::compile::{Compiled, compile};
use crate::envoy::{Loaded, load, note};
use crate::error::ConfigError;
use crate::identities::Identities;
use crate::model::Config;
use crate::resource::{Answer, Kind, Resource};

/// The resources of one configuration.
#[derive(Debug, Default)]
pub struct Store {
    origin: String,
    held: Vec<Held>,
}

/// One resource.
#[derive(Debug)]
struct Held {
    /// As it came last.
    newest: Resource,
    /// As it was accepted last, if it ever was.
    good: Option<Arc<Value>>,
}

/// A configuration to apply.
pub struct Applied {
    /// What is accepted of it.
    pub config: Config,
    /// The same as tables.
    pub compiled: Compiled,
    /// What became of each resource, in their order.
    pub answers: Vec<Answer>,
}

impl Store {
    /// Takes these resources for all there are; `origin` names them in messages. Names are unique within a kind.
    pub fn replace(&mut self, origin: &str, resources: Vec<Resource>) {
        origin.clone_into(&mut self.origin);
        let mut before = std::mem::take(&mut self.held);
        self.held = resources
            .into_iter()
            .map(|newest| {
                let same = before
                    .iter_mut()
                    .find(|held| held.is(newest.kind, &newest.name));
                let good = same.and_then(|held| held.good.take());
                Held { newest, good }
            })
            .collect();
    }

    /// Takes a new version of a resource, or a new resource.
    pub fn put(&mut self, resource: Resource) {
        let same = (self.held.iter_mut()).find(|held| held.is(resource.kind, &resource.name));
        match same {
            Some(held) => held.newest = resource,
            None => self.held.push(Held {
                newest: resource,
                good: None,
            }),
        }
    }

    /// Forgets a resource.
    pub fn remove(&mut self, kind: Kind, name: &str) {
        self.held.retain(|held| !held.is(kind, name));
    }

    /// The configuration that the resources make: each in its newest version, or in its last good one if that is refused, or left
    /// out (a listener stays closed) if there is none. What is applied becomes the last good version.
    ///
    /// # Errors
    /// [`ConfigError::Limit`] if all of it together does not fit; nothing changes then.
    pub fn apply(
        &mut self,
        identities: &mut Identities,
        classes: Classes,
    ) -> Result<Applied, ConfigError> {
        // By resource: why its newest version is not used, if it is not, and what to use instead.
        let mut chosen: Vec<Resource> = self.held.iter().map(|held| held.newest.clone()).collect();
        let mut answers: Vec<Option<Answer>> = self.held.iter().map(|_| None).collect();
        loop {
            let mut loaded = load(&self.origin, &chosen);
            // Each round ends, or takes an older version of a resource that was refused, of which there is one.
            if self.step_back(&mut chosen, &mut answers, &mut loaded.answers) {
                continue;
            }
            match compile(&loaded.config, identities, classes) {
                Ok(compiled) => return Ok(self.settle(loaded, chosen, answers, compiled)),
                Err(error) => {
                    let message = error.to_string();
                    if !note(&mut loaded.answers, &chosen, &self.origin, vec![error]) {
                        return Err(ConfigError::Whole { message });
                    }
                    if !self.step_back(&mut chosen, &mut answers, &mut loaded.answers) {
                        Self::leave_out(&mut chosen, &mut answers, loaded.answers);
                    }
                }
            }
        }
    }

    /// Takes the last good version of what was refused in its newest; whether there was any.
    fn step_back(
        &self,
        chosen: &mut [Resource],
        answers: &mut [Option<Answer>],
        found: &mut [Answer],
    ) -> bool {
        let mut any = false;
        for (at, held) in self.held.iter().enumerate() {
            if found[at].refused.is_empty() || answers[at].is_some() {
                continue;
            }
            let Some(good) = held
                .good
                .as_ref()
                .filter(|good| **good != held.newest.value || held.newest.refusal.is_some())
            else {
                continue;
            };
            let kind = found[at].kind;
            let name = found[at].name.clone();
            answers[at] = Some(Answer {
                kind,
                name,
                inert: std::mem::take(&mut found[at].inert),
                refused: std::mem::take(&mut found[at].refused),
                waits_for: std::mem::take(&mut found[at].waits_for),
                kept: true,
            });
            chosen[at].value = Arc::clone(good);
            chosen[at].refusal = None;
            any = true;
        }
        any
    }

    /// Replaces what only the compiler refused, and has no other version, by what is refused at once.
    fn leave_out(chosen: &mut [Resource], answers: &mut [Option<Answer>], found: Vec<Answer>) {
        for (at, answer) in found.into_iter().enumerate() {
            if !answer.refused.is_empty() && chosen[at].refusal.is_none() {
                chosen[at].refusal = Some("does not compile".to_owned());
                answers[at].get_or_insert(answer).kept = false;
            }
        }
    }

    fn settle(
        &mut self,
        loaded: Loaded,
        chosen: Vec<Resource>,
        answers: Vec<Option<Answer>>,
        compiled: Compiled,
    ) -> Applied {
        let answers: Vec<Answer> = answers
            .into_iter()
            .zip(loaded.answers)
            .map(|(earlier, last)| earlier.unwrap_or(last))
            .collect();
        for ((held, chosen), answer) in self.held.iter_mut().zip(chosen).zip(&answers) {
            held.good = if answer.refused.is_empty() || answer.kept {
                Some(chosen.value)
            } else {
                None
            };
        }
        Applied {
            config: loaded.config,
            compiled,
            answers,
        }
    }
}

impl Held {
    fn is(&self, kind: Kind, name: &str) -> bool {
        self.newest.kind == kind && self.newest.name == name
    }
}
