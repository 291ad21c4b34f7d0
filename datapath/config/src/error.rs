//! Why a configuration is refused: always with the file, the resource and the field.

use std::path::PathBuf;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not YAML.
    #[error("{origin}: is not YAML")]
    Syntax {
        /// The file.
        origin: String,
        /// What the parser said.
        source: serde_yaml_ng::Error,
    },
    /// A field's value is wrong, or the datapath cannot do what it asks for.
    #[error("{place}: {}{problem}", value.as_ref().map_or(String::new(), |value| format!("{value}: ")))]
    Field {
        /// File, resource and field.
        place: Place,
        /// The value, if it is short enough to be shown.
        value: Option<Box<str>>,
        /// What is wrong with it.
        problem: String,
    },
    /// All of the configuration together cannot be used.
    #[error("{message}")]
    Whole {
        /// Why.
        message: String,
    },
    /// The configuration is larger than the tables.
    #[error("{place}: needs {needed}, the datapath's limit {limit} is {most}")]
    Limit {
        /// File, resource and perhaps field.
        place: Place,
        /// What is needed and how many of it, such as `17000 routes`.
        needed: String,
        /// The name in `kmesh_api::limits`.
        limit: &'static str,
        /// Its value.
        most: usize,
    },
}

impl ConfigError {
    /// One error that says what several say.
    pub(crate) fn all(errors: &[Self]) -> Self {
        let words = errors.iter().map(|error| {
            let cause = std::error::Error::source(error);
            cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
        });
        let message = words.collect::<Vec<_>>().join("; ");
        Self::Whole { message }
    }

    /// Where it is, if it is about a place in the configuration.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Field { place, .. } | Self::Limit { place, .. } => Some(place),
            Self::Read { .. } | Self::Syntax { .. } | Self::Whole { .. } => None,
        }
    }
}

/// A place in a configuration: `FILE: KIND "NAME": field.list[3].field`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub origin: String,
    /// The resource, such as `listener "web"`; empty for the document itself.
    pub resource: String,
    /// Path of the field within the resource; empty for the resource as a whole.
    pub field: String,
}

impl Place {
    /// The document itself.
    pub(crate) fn document(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            resource: String::new(),
            field: String::new(),
        }
    }

    /// A resource as a whole.
    pub(crate) fn resource(&self, kind: &str, name: &str) -> Self {
        let resource = format!("{kind} {name:?}");
        Self {
            origin: self.origin.clone(),
            resource,
            field: String::new(),
        }
    }

    /// Whether it belongs to the resource at `other`.
    pub(crate) fn is_in(&self, other: &Self) -> bool {
        !self.resource.is_empty() && self.resource == other.resource
    }

    /// A field of this place.
    pub(crate) fn field(&self, name: &str) -> Self {
        let dot = if self.field.is_empty() { "" } else { "." };
        Self {
            field: format!("{}{dot}{name}", self.field),
            ..self.clone()
        }
    }

    /// An element of this list.
    pub(crate) fn item(&self, index: usize) -> Self {
        Self {
            field: format!("{}[{index}]", self.field),
            ..self.clone()
        }
    }

    /// An error about this place.
    pub(crate) fn refuse(&self, problem: impl Into<String>) -> ConfigError {
        self.refuse_value(None, problem)
    }

    /// An error about the value at this place.
    pub(crate) fn refuse_value(
        &self,
        value: Option<String>,
        problem: impl Into<String>,
    ) -> ConfigError {
        ConfigError::Field {
            place: self.clone(),
            value: value.map(String::into_boxed_str),
            problem: problem.into(),
        }
    }

    /// An error about a limit that this place exceeds, unless it does not.
    pub(crate) fn within(
        &self,
        count: usize,
        what: &str,
        limit: &'static str,
        most: usize,
    ) -> Result<(), ConfigError> {
        if count <= most {
            return Ok(());
        }
        let needed = format!("{count} {what}");
        Err(ConfigError::Limit {
            place: self.clone(),
            needed,
            limit,
            most,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.origin)?;
        for part in [&self.resource, &self.field] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        Ok(())
    }
}
