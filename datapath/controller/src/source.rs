//! Where the configuration comes from: a file, or a control plane.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kmesh_config::Document;
use kmesh_xds::Settings;
use tokio::sync::watch;

use crate::control_plane::ControlPlane;
use crate::follow::{self, Followed};
use crate::pods::PodSpec;

/// Largest configuration file that is read, bytes. One that needs all tables is a tenth of it.
pub const CONFIG_MAX: u64 = 64 << 20;

/// How the source is named on the command line.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Envoy v3 resources (YAML).
    File(PathBuf),
    /// An ADS server.
    ControlPlane(Settings),
}

impl fmt::Display for Origin {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(to),
            Self::ControlPlane(settings) => settings.uri.fmt(to),
        }
    }
}

/// A source that is read.
pub enum Source {
    /// See [`Origin::File`].
    File(PathBuf),
    /// See [`Origin::ControlPlane`].
    ControlPlane(Box<ControlPlane>),
}

/// Says when a source changed.
pub enum Changes {
    /// The file.
    File(Box<Followed>),
    /// Counts what was served.
    ControlPlane(watch::Receiver<u64>),
}

impl Source {
    /// The source at its origin.
    ///
    /// # Errors
    /// If nobody can speak to the control plane.
    pub fn new(origin: &Origin) -> Result<Self> {
        Ok(match origin {
            Origin::File(path) => Self::File(path.clone()),
            Origin::ControlPlane(settings) => {
                Self::ControlPlane(Box::new(ControlPlane::new(settings.clone())?))
            }
        })
    }

    /// Its changes from now on; whoever changes `asked` has a file read again.
    pub fn changes(&self, asked: watch::Receiver<u64>) -> Changes {
        match self {
            Self::File(path) => Changes::File(Box::new(Followed::new(path, asked))),
            Self::ControlPlane(plane) => Changes::ControlPlane(plane.changes()),
        }
    }

    /// Asks for what these pods are to have, and waits for it, but not longer than `patience`; `false` if nobody has to be asked.
    pub async fn speak_for(&self, pods: &BTreeMap<String, PodSpec>, patience: Duration) -> bool {
        match self {
            Self::File(_) => false,
            Self::ControlPlane(plane) => {
                plane.speak_for(pods, patience).await;
                true
            }
        }
    }

    /// What it says now.
    ///
    /// # Errors
    /// If a file cannot be read, or is no configuration.
    pub fn read(&self) -> Result<Document> {
        match self {
            Self::File(path) => {
                let origin = path.display().to_string();
                let text = follow::read(path, CONFIG_MAX)?;
                let text =
                    String::from_utf8(text).with_context(|| format!("{origin} is not UTF-8"))?;
                let tree = kmesh_config::resource::tree(&text, &origin)?;
                whole(Document::of(&origin, &tree))
            }
            Self::ControlPlane(plane) => Ok(Document {
                resources: plane.resources(),
                answers: Vec::new(),
            }),
        }
    }

    /// Why it is not followed at present.
    pub fn complaints(&self) -> Vec<String> {
        match self {
            Self::File(_) => Vec::new(),
            Self::ControlPlane(plane) => plane.complaints(),
        }
    }
}

/// A document that holds no resource because of a mistake of its own is none: what was in force is not given up for it.
fn whole(mut document: Document) -> Result<Document> {
    if document.resources.is_empty() {
        let refused = document
            .answers
            .iter_mut()
            .flat_map(|answer| answer.refused.drain(..));
        if let Some(error) = refused.into_iter().next() {
            return Err(error.into());
        }
    }
    Ok(document)
}

impl fmt::Display for Source {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(to),
            Self::ControlPlane(plane) => plane.uri().fmt(to),
        }
    }
}

impl Changes {
    /// Waits for the next one.
    pub async fn next(&mut self) {
        match self {
            Self::File(file) => file.changed().await,
            Self::ControlPlane(served) => {
                if served.changed().await.is_err() {
                    // The source is gone, and the daemon with it.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// The source could not be read, which may have nothing to do with it: a file counts as changed when it is looked at next.
    pub fn try_again(&mut self) {
        if let Self::File(file) = self {
            file.try_again();
        }
    }
}
