//! A question on one line: what `verify decisions` prints of a disagreement and what `explain` replays.

use std::fmt;

use kmesh_config::{Config, ConfigError, parse};
use serde_json::{Value, json};

use crate::differential::{Case, Question};
use crate::envoy::resources;
use crate::request::Request;

/// Why a text is not a question.
#[derive(Debug, thiserror::Error)]
pub enum ReproducerError {
    /// It is not JSON.
    #[error("the reproducer is not JSON")]
    Syntax(#[source] serde_json::Error),
    /// A field is missing or has another type.
    #[error("the reproducer has no field {0:?} of the right type")]
    Field(&'static str),
    /// Its head is not a request in canonical form.
    #[error("the reproducer's head is not a request in canonical form: {0:?}")]
    Head(String),
    /// Its configuration is not supported.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// One question, its listener alone in a configuration.
#[derive(Clone, Debug)]
pub struct Reproducer {
    /// The configuration and the question.
    pub case: Case,
}

impl Reproducer {
    /// The first question of a case.
    pub fn of(case: &Case) -> Self {
        let mut case = case.clone();
        case.questions.truncate(1);
        if let Some(question) = case.questions.first_mut() {
            case.config.listeners = vec![case.config.listeners.swap_remove(question.listener)];
            question.listener = 0;
        }
        Self { case }
    }

    /// Reads what [`Display`](fmt::Display) writes.
    ///
    /// # Errors
    /// [`ReproducerError`].
    pub fn parse(line: &str) -> Result<Self, ReproducerError> {
        let value: Value = serde_json::from_str(line).map_err(ReproducerError::Syntax)?;
        let field = |name| value.get(name).ok_or(ReproducerError::Field(name));
        let head = field("head")?
            .as_str()
            .ok_or(ReproducerError::Field("head"))?;
        let drawn = field("drawn")?
            .as_u64()
            .and_then(|drawn| u32::try_from(drawn).ok())
            .ok_or(ReproducerError::Field("drawn"))?;
        let config: Config = parse(&field("config")?.to_string(), "reproducer")?;
        let request = Request::parse(head).ok_or_else(|| ReproducerError::Head(head.to_owned()))?;
        if config.listeners.len() != 1 {
            return Err(ReproducerError::Field("config.listeners"));
        }
        let question = Question {
            listener: 0,
            request,
            drawn,
        };
        let questions = vec![question];
        Ok(Self {
            case: Case { config, questions },
        })
    }
}

/// One line of JSON without apostrophes, so that it can stand between two of them in a shell.
impl fmt::Display for Reproducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let question = self.case.questions.first();
        let head = question.map(|q| String::from_utf8_lossy(&q.request.to_bytes()).into_owned());
        let line = json!({
            "config": resources(&self.case.config),
            "head": head,
            "drawn": question.map(|q| q.drawn),
        });
        f.write_str(&line.to_string().replace('\'', r"\u0027"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::{Judges, draw};
    use proptest::test_runner::TestRunner;

    #[test]
    fn what_is_written_is_read_back() {
        let mut runner = TestRunner::deterministic();
        for _ in 0..200 {
            let case = draw(&mut runner, 1).unwrap();
            let written = Reproducer::of(&case);
            let line = written.to_string();
            assert!(!line.contains('\n') && !line.contains('\''), "{line}");
            let read = Reproducer::parse(&line).unwrap();
            let (one, two) = (&written.case.questions[0], &read.case.questions[0]);
            assert_eq!((&one.request, one.drawn), (&two.request, two.drawn));
            assert_eq!(written.case.config.clusters, read.case.config.clusters);
            assert_eq!(read.to_string(), line);
            let said = |case: &Case| Judges::default().ask(std::slice::from_ref(case)).unwrap();
            assert_eq!(said(&written.case), said(&read.case), "{line}");
        }
    }

    #[test]
    fn what_is_not_a_reproducer() {
        let error = |line: &str| Reproducer::parse(line).unwrap_err().to_string();
        assert_eq!(error("x"), "the reproducer is not JSON");
        assert_eq!(
            error("{}"),
            r#"the reproducer has no field "head" of the right type"#
        );
        let line = r#"{"head": "GET /", "drawn": 0, "config": {"listeners": [], "clusters": []}}"#;
        assert!(error(line).contains("canonical form"), "{}", error(line));
    }
}
