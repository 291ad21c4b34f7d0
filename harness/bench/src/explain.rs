//! `explain`: why a request goes where it goes, by the datapath's own decisions; for a reproducer, by every judge.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use kmesh_explain::{Explanation, explain as why, head, listener};
use kmesh_oracle::Reproducer;
use kmesh_oracle::differential::{Judges, agree};
use kmesh_oracle::kernel::Kernel;
use serde::Serialize;

use crate::cli::Explain;
use crate::exit::UsageError;

/// An explanation and, of a reproducer, who says what.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Why.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// What each judge says, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub judges: BTreeMap<&'static str, String>,
    /// Whether they agree.
    agreed: bool,
}

impl Explained {
    /// Whether the judges agree; true if none was asked.
    pub fn agreed(&self) -> bool {
        self.agreed
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.explanation)?;
        for (judge, said) in &self.judges {
            writeln!(f, "{judge:<13} says {said}")?;
        }
        Ok(())
    }
}

/// Explains what the options ask for; `envoy` is the program that judges reproducers if it is there.
///
/// # Errors
/// [`UsageError`] if the request or the configuration is not one; otherwise why a judge cannot be heard.
pub fn explain(options: &Explain, envoy: &Path) -> anyhow::Result<Explained> {
    let text = options.request.trim();
    if text.starts_with('{') {
        return replay(text, options, envoy);
    }
    let usage = |error: &dyn fmt::Display| UsageError(error.to_string());
    let file = options.config.as_deref();
    let file = file.ok_or_else(|| usage(&"a request needs --config FILE to be explained by"))?;
    let config = kmesh_config::read(file)
        .map_err(|error| UsageError(kmesh_cli::of_error(&anyhow::Error::new(error))))?;
    let position = listener(&config, options.listener.as_deref()).map_err(|error| usage(&error))?;
    let head = head(text).map_err(|error| usage(&error))?;
    let dice = (!options.dice.is_empty()).then_some(options.dice.as_slice());
    Ok(Explained {
        explanation: why(&config, position, &head, dice)?,
        judges: BTreeMap::new(),
        agreed: true,
    })
}

fn replay(text: &str, options: &Explain, envoy: &Path) -> anyhow::Result<Explained> {
    let usage = |problem: &dyn fmt::Display| UsageError(problem.to_string());
    if options.config.is_some() {
        return Err(usage(&"a reproducer brings its own configuration; leave --config out").into());
    }
    let case = Reproducer::parse(text).map_err(|error| usage(&error))?.case;
    let question = case
        .questions
        .first()
        .context("a reproducer asks one question")?;
    let mut judges = Judges {
        envoy: envoy.is_file().then(|| envoy.to_owned()),
        // Needs root; the other judges do without.
        kernel: Kernel::load().ok(),
        mutant: None,
    };
    let said = judges.ask(std::slice::from_ref(&case))?;
    let said = said
        .into_iter()
        .flatten()
        .next()
        .context("no judge said anything")?;
    let drawn = [question.drawn];
    let dice = if options.dice.is_empty() {
        &drawn[..]
    } else {
        &options.dice
    };
    let head = question.request.to_bytes();
    Ok(Explained {
        explanation: why(&case.config, question.listener, &head, Some(dice))?,
        agreed: agree(&case, question, &said),
        judges: said
            .iter()
            .map(|(judge, said)| (*judge, said.to_string()))
            .collect(),
    })
}
