//! Reading: the chain of `extends`, merging, and the catalogue of a directory.

use super::source::{Place, Source};
use super::{Scenario, ScenarioError, generate, sweep};
use std::path::{Path, PathBuf};

/// Loads and checks one scenario file; of a sweep, its first point.
///
/// # Errors
/// A [`ScenarioError`] naming file, line and column.
pub fn load(path: &Path) -> Result<Scenario, ScenarioError> {
    load_all(path)?
        .into_iter()
        .next()
        .ok_or_else(|| ScenarioError::Unknown {
            name: path.display().to_string(),
            directory: path.to_owned(),
            known: Vec::new(),
        })
}

/// Loads and checks all scenarios of a file, one or the points of its sweep, and writes the configurations that they generate.
///
/// # Errors
/// As [`load`].
pub fn load_all(path: &Path) -> Result<Vec<Scenario>, ScenarioError> {
    let scenarios = read_all(path)?;
    for scenario in &scenarios {
        generate::settle(scenario).map_err(|source| ScenarioError::Cache {
            path: scenario.resources.clone(),
            source,
        })?;
    }
    Ok(scenarios)
}

/// As [`load_all`], and writes nothing: such scenarios can be looked at, not run.
///
/// # Errors
/// As [`load`].
pub fn read_all(path: &Path) -> Result<Vec<Scenario>, ScenarioError> {
    let chain = read_chain(path)?;
    let mut merged = toml::Table::new();
    for source in chain.iter().rev() {
        merge(&mut merged, own_table(source)?);
    }
    if let Some(stem) = path.file_stem().filter(|_| !merged.contains_key("name")) {
        let stem = stem.to_string_lossy().into_owned();
        merged.insert("name".to_owned(), stem.into());
    }
    sweep::expand(&merged, &chain)
}

/// A merged table as a scenario.
pub(super) fn parse_merged(
    merged: toml::Table,
    chain: &[Source],
) -> Result<Scenario, ScenarioError> {
    merged.try_into().map_err(|error| at_top(chain, &error))
}

/// Reads `path` and what it extends, most derived first. Each file must be valid on its own as far
/// as it goes, so that a wrong key or type is reported where it stands.
fn read_chain(path: &Path) -> Result<Vec<Source>, ScenarioError> {
    let mut chain: Vec<Source> = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let text = std::fs::read_to_string(&path).map_err(|source| ScenarioError::Read {
            path: path.clone(),
            source,
        })?;
        let source = Source { path, text };
        let own: Scenario =
            toml::from_str(&source.text).map_err(|error| syntax(&source, &error))?;
        next = own.extends.map(|base| sibling(&source.path, &base));
        chain.push(source);
        if let Some(target) = next
            .as_ref()
            .filter(|target| chain.iter().any(|seen| seen.path == **target))
        {
            let place = super::source::locate(&chain[chain.len() - 1..], &["extends"]);
            return Err(ScenarioError::Cycle {
                place,
                target: target.clone(),
            });
        }
    }
    Ok(chain)
}

/// One file's table, with relative paths made absolute while it is still known which file they are relative to.
fn own_table(source: &Source) -> Result<toml::Table, ScenarioError> {
    let mut table: toml::Table =
        toml::from_str(&source.text).map_err(|error| syntax(source, &error))?;
    if let Some(toml::Value::String(resources)) = table.get_mut("resources") {
        *resources = sibling(&source.path, Path::new(resources))
            .display()
            .to_string();
    }
    let swapped = table
        .get_mut("swap")
        .and_then(|swap| swap.get_mut("resources"))
        .and_then(toml::Value::as_array_mut);
    for resources in swapped.into_iter().flatten() {
        if let toml::Value::String(path) = resources {
            *path = sibling(&source.path, Path::new(path)).display().to_string();
        }
    }
    let replay = table
        .get_mut("load")
        .and_then(|load| load.get_mut("replay"));
    if let Some(toml::Value::String(log)) = replay {
        *log = sibling(&source.path, Path::new(log)).display().to_string();
    }
    Ok(table)
}

fn sibling(file: &Path, relative: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new(".")).join(relative)
}

/// Tables are merged key by key; anything else is replaced.
pub(super) fn merge(base: &mut toml::Table, derived: toml::Table) {
    for (key, value) in derived {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn syntax(source: &Source, error: &toml::de::Error) -> ScenarioError {
    let place = source.place(error.span().map_or(0, |span| span.start));
    ScenarioError::Syntax {
        place,
        message: one_line(error),
    }
}

fn at_top(chain: &[Source], error: &toml::de::Error) -> ScenarioError {
    let place = chain.first().map_or_else(
        || Place {
            path: PathBuf::new(),
            line: 1,
            column: 1,
        },
        |source| source.place(0),
    );
    ScenarioError::Syntax {
        place,
        message: one_line(error),
    }
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().trim().replace('\n', ", ")
}

/// The scenarios of a directory.
#[derive(Debug, Clone)]
pub struct Catalogue {
    directory: PathBuf,
}

impl Catalogue {
    /// The scenarios in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Names of all scenarios, sorted. Files that only serve as a base (no `name` and no `title`) are left out.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn names(&self) -> Result<Vec<String>, ScenarioError> {
        let unreadable = |source| ScenarioError::Folder {
            directory: self.directory.clone(),
            source,
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let is_toml = path
                .extension()
                .is_some_and(|extension| extension == "toml");
            if !is_toml {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(|source| ScenarioError::Read {
                path: path.clone(),
                source,
            })?;
            // A broken file is listed too: loading it then says what is wrong.
            let is_base = text
                .parse::<toml::Table>()
                .is_ok_and(|table| !table.contains_key("name") && !table.contains_key("title"));
            if let (false, Some(stem)) = (is_base, path.file_stem()) {
                names.push(stem.to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Loads a scenario by name, or by path when `name` ends in `.toml`; of a sweep, its first point.
    ///
    /// # Errors
    /// Unknown names list the known ones; otherwise as [`load`].
    pub fn load(&self, name: &str) -> Result<Scenario, ScenarioError> {
        let found = self.load_all(name)?.into_iter().next();
        found.ok_or_else(|| self.unknown(name))
    }

    /// Loads all scenarios that a name stands for: a scenario, all points of a sweep (`sweep-conns`), or one of them
    /// (`sweep-conns.64`).
    ///
    /// # Errors
    /// As [`Catalogue::load`].
    pub fn load_all(&self, name: &str) -> Result<Vec<Scenario>, ScenarioError> {
        if Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            return load_all(Path::new(name));
        }
        let file = |stem: &str| self.directory.join(format!("{stem}.toml"));
        if file(name).is_file() {
            return load_all(&file(name));
        }
        let family = name.split_once('.').map_or(name, |(family, _)| family);
        if !file(family).is_file() {
            return Err(self.unknown(name));
        }
        let mut points = load_all(&file(family))?;
        points.retain(|point| point.name == name);
        if points.is_empty() {
            return Err(self.unknown(name));
        }
        Ok(points)
    }

    /// All scenarios of the file of one of [`Catalogue::names`], to be looked at; writes nothing.
    ///
    /// # Errors
    /// As [`Catalogue::load`].
    pub fn look(&self, name: &str) -> Result<Vec<Scenario>, ScenarioError> {
        read_all(&self.directory.join(format!("{name}.toml")))
    }

    /// Loads all that `names` stand for, in their order.
    ///
    /// # Errors
    /// As [`Catalogue::load_all`], for all of them at once.
    pub fn load_each(&self, names: &[String]) -> Result<Vec<Scenario>, ScenarioError> {
        let (mut scenarios, mut errors) = (Vec::new(), Vec::new());
        for name in names {
            match self.load_all(name) {
                Ok(found) => scenarios.extend(found),
                Err(error) => errors.push(error),
            }
        }
        ScenarioError::of_all(errors).map_or(Ok(scenarios), Err)
    }

    fn unknown(&self, name: &str) -> ScenarioError {
        if Path::new(name).is_dir() {
            return ScenarioError::IsFolder(name.into());
        }
        match self.names() {
            Ok(known) => ScenarioError::Unknown {
                name: name.to_owned(),
                directory: self.directory.clone(),
                known,
            },
            Err(unreadable) => unreadable,
        }
    }
}
