//! What becomes of a configuration, for people and for programs: resource by resource, and the share of routes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use kmesh_api::Reason;
use kmesh_api::cluster::NO_CLUSTER;
use kmesh_api::listener::CLASS_OPAQUE;
use kmesh_api::route::ACTION_CLUSTER;
use serde::Serialize;
use serde_json::Value;

use crate::class::Classes;
use crate::compile::Compiled;
use crate::error::ConfigError;
use crate::identities::Identities;
use crate::inert::{Effect, Inert};
use crate::model::{Config, ListenerConfig};
use crate::names::LocalAnswer;
use crate::resource::{Answer, Document, Kind, Resource, tree};
use crate::store::Store;

/// What becomes of a configuration.
#[derive(Debug, Serialize)]
pub struct Report {
    /// By resource, in their order.
    pub resources: Vec<Line>,
    /// By route.
    pub routes: Routes,
    /// Why nothing of it can be used, if that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unusable: Option<String>,
}

/// What becomes of a resource.
#[derive(Debug, Serialize)]
pub struct Line {
    /// The file.
    pub origin: String,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// `taken` or `refused`.
    pub answer: &'static str,
    /// How many routes stand in it or lead to it.
    pub routes: usize,
    /// What is wrong with it.
    pub refused: Vec<Refusal>,
    /// What it names that is not there.
    pub waits_for: Vec<(Kind, String)>,
    /// What changes nothing.
    pub inert: Vec<Inert>,
}

/// One mistake, or one thing that the datapath cannot do.
#[derive(Debug, Serialize)]
pub struct Refusal {
    /// The path of the field within its resource; empty for the resource as a whole.
    pub field: String,
    /// The value, if it is short enough to be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is wrong with it.
    pub cause: String,
}

/// Who serves how many routes.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Routes {
    /// The kernel.
    pub kernel: usize,
    /// User space, by the reason that requests will be counted under.
    pub user_space: BTreeMap<&'static str, usize>,
    /// Nobody: their resource is refused.
    pub refused: usize,
}

impl Report {
    /// Reads files that together are one configuration.
    ///
    /// # Errors
    /// [`ConfigError`] if a file cannot be read or is not YAML; one about all such files.
    pub fn of_files(files: &[PathBuf]) -> Result<Self, ConfigError> {
        let (mut documents, mut errors) = (Vec::new(), Vec::new());
        for path in files {
            let origin = path.display().to_string();
            match crate::text(path).and_then(|text| tree(&text, &origin)) {
                Ok(value) => documents.push((origin.clone(), Document::of(&origin, &value))),
                Err(error) => errors.push(error),
            }
        }
        match errors.len() {
            0 => Ok(Self::of(documents)),
            1 => Err(errors.remove(0)),
            _ => Err(ConfigError::all(&errors)),
        }
    }

    /// What becomes of documents, each with its name, that together are one configuration.
    pub fn of(documents: Vec<(String, Document)>) -> Self {
        let origin: Vec<&str> = documents
            .iter()
            .map(|(origin, _)| origin.as_str())
            .collect();
        let origin = origin.join(" ");
        let mut lines = Vec::new();
        let mut resources: Vec<Resource> = Vec::new();
        let mut origins = Vec::new();
        for (name, document) in documents {
            lines.extend(
                document
                    .answers
                    .into_iter()
                    .map(|answer| Line::of(&name, answer)),
            );
            origins.extend(document.resources.iter().map(|_| name.clone()));
            resources.extend(document.resources);
        }
        let mut store = Store::default();
        store.replace(&origin, resources.clone());
        let applied = store.apply(&mut Identities::default(), Classes::default());
        let mut routes = Routes::default();
        let mut unusable = None;
        match applied {
            Ok(applied) => {
                routes.count(&applied.config, &applied.compiled);
                for ((answer, resource), origin) in
                    applied.answers.into_iter().zip(&resources).zip(origins)
                {
                    let own = routes_in(&resource.value);
                    if !answer.refused.is_empty() {
                        routes.refused += own;
                    }
                    let mut line = Line::of(&origin, answer);
                    line.routes = own;
                    if line.kind == Kind::Cluster {
                        line.routes = leading_to(&applied.config, &line.name);
                    }
                    lines.push(line);
                }
            }
            Err(error) => unusable = Some(error.to_string()),
        }
        lines.retain(|line| {
            line.kind != Kind::Document || !line.inert.is_empty() || line.answer == REFUSED
        });
        Self {
            resources: lines,
            routes,
            unusable,
        }
    }

    /// What holds routes back, by field and cause: how many routes stand in resources that are refused for it, or lead to them. Most first.
    pub fn obstacles(&self) -> Vec<(String, usize)> {
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for line in &self.resources {
            let causes = line.refused.iter().map(|refusal| {
                let field = without_indices(&refusal.field);
                format!("{} {field}: {}", line.kind.word(), refusal.cause)
            });
            let causes: std::collections::BTreeSet<String> = causes.collect();
            for cause in causes {
                *found.entry(cause).or_default() += line.routes;
            }
        }
        let mut found: Vec<(String, usize)> = found.into_iter().collect();
        found.sort_by_key(|(_, routes)| std::cmp::Reverse(*routes));
        found
    }

    /// The number of resources that are refused; all count as one if nothing can be used.
    pub fn refused(&self) -> usize {
        let refused = self.resources.iter().filter(|line| line.answer == REFUSED);
        refused.count() + usize::from(self.unusable.is_some())
    }
}

const REFUSED: &str = "refused";

impl Line {
    fn of(origin: &str, answer: Answer) -> Self {
        Self {
            origin: origin.to_owned(),
            kind: answer.kind,
            answer: if answer.refused.is_empty() {
                "taken"
            } else {
                REFUSED
            },
            name: answer.name,
            routes: 0,
            refused: answer.refused.into_iter().map(Refusal::of).collect(),
            waits_for: answer.waits_for,
            inert: answer.inert,
        }
    }
}

impl Refusal {
    fn of(error: ConfigError) -> Self {
        match error {
            ConfigError::Field {
                place,
                value,
                problem,
            } => Self {
                field: place.field,
                value: value.map(String::from),
                cause: problem,
            },
            error => Self {
                field: error
                    .place()
                    .map_or(String::new(), |place| place.field.clone()),
                value: None,
                cause: error.to_string(),
            },
        }
    }
}

impl Routes {
    fn count(&mut self, config: &Config, compiled: &Compiled) {
        // All of a listener's requests go one way where its connections do.
        for (listener, compiled) in config.listeners.iter().zip(&compiled.image.listeners) {
            if compiled.class == CLASS_OPAQUE {
                let hosts = listener.virtual_hosts().iter();
                self.kernel += hosts.map(|host| host.routes.len()).sum::<usize>();
            }
        }
        for (route, name) in compiled.image.routes.iter().zip(&compiled.names.routes) {
            let reason = match (&name.answer, Reason::from_number(route.passed)) {
                (Some(LocalAnswer::Redirect(..)), _) => Some(Reason::Redirect),
                (Some(LocalAnswer::Direct(_)), _) => Some(Reason::DirectResponse),
                _ if route.action == ACTION_CLUSTER && route.target == NO_CLUSTER => {
                    Some(Reason::NoCluster)
                }
                (None, Some(reason)) if route.passed != 0 => Some(reason),
                _ => None,
            };
            match reason {
                Some(reason) => *self.user_space.entry(reason.name()).or_default() += 1,
                None => self.kernel += 1,
            }
        }
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.kernel + self.user_space.values().sum::<usize>() + self.refused
    }
}

/// How many accepted routes may lead to a cluster.
fn leading_to(config: &Config, cluster: &str) -> usize {
    let hosts = config
        .listeners
        .iter()
        .flat_map(ListenerConfig::virtual_hosts);
    let routes = hosts.flat_map(|host| &host.routes);
    routes
        .filter(|route| route.action.clusters().any(|name| name == cluster))
        .count()
}

/// How many routes stand in a resource.
fn routes_in(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match value {
                Value::Array(routes) if name == "routes" => routes.len(),
                value => routes_in(value),
            })
            .sum(),
        Value::Array(values) => values.iter().map(routes_in).sum(),
        _ => 0,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.resources {
            if line.answer == REFUSED {
                writeln!(f, "refused {} {:?}", line.kind.word(), line.name)?;
                for refusal in &line.refused {
                    let value = refusal.value.iter().map(|value| format!("{value}: "));
                    let field = Some(&refusal.field).filter(|field| !field.is_empty());
                    let field = field.map(|field| format!("{field}: "));
                    let head: String = field.into_iter().chain(value).collect();
                    writeln!(f, "    {head}{}", refusal.cause)?;
                }
            }
        }
        let taken = |kind: Kind| {
            let of_kind = self.resources.iter().filter(move |line| line.kind == kind);
            let taken = of_kind
                .clone()
                .filter(|line| line.answer != REFUSED)
                .count();
            (taken, of_kind.count())
        };
        for kind in Kind::TYPED {
            let (taken, all) = taken(kind);
            if all > 0 {
                writeln!(
                    f,
                    "{:24} {taken} of {all} taken",
                    format!("{}s", kind.word())
                )?;
            }
        }
        for line in &self.resources {
            for (kind, name) in &line.waits_for {
                writeln!(
                    f,
                    "{:24} {} {:?} waits for {} {name:?}",
                    "",
                    line.kind.word(),
                    line.name,
                    kind.word()
                )?;
            }
        }
        let all = self.routes.total();
        writeln!(
            f,
            "{:24} {} of {all} served by the kernel",
            "routes", self.routes.kernel
        )?;
        for (reason, count) in &self.routes.user_space {
            writeln!(f, "{:24} {count} by user space: {reason}", "")?;
        }
        if self.routes.refused > 0 {
            writeln!(f, "{:24} {} refused", "", self.routes.refused)?;
        }
        let mut fields: BTreeMap<(Effect, &str), BTreeMap<String, usize>> = BTreeMap::new();
        for inert in self.resources.iter().flat_map(|line| &line.inert) {
            let by_name = fields
                .entry((inert.why.effect, inert.why.because))
                .or_default();
            *by_name.entry(without_indices(&inert.field)).or_default() += 1;
        }
        for ((effect, because), by_name) in fields {
            let title = match effect {
                Effect::Same => "inert",
                Effect::NotDone => "not done",
            };
            writeln!(f, "{title:24} {because}")?;
            for (field, count) in by_name {
                writeln!(f, "{:24} {count} x {field}", "")?;
            }
        }
        match &self.unusable {
            Some(unusable) => writeln!(f, "unusable: {unusable}"),
            None => Ok(()),
        }
    }
}

/// A field's path with `[]` for every index.
pub(crate) fn without_indices(field: &str) -> String {
    let mut parts = field.split('[');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push('[');
        text.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    text
}
