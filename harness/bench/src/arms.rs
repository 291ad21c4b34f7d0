//! Which arms there are: the built-in ones, and one for each description in `scenarios/arms` (or the folder `KMESH_ARMS` names).

use crate::binaries::scenario_directory;
use crate::run::RunError;
use crate::scenario::Scenario;
use kmesh_cli::exit::Failure;
use kmesh_dataplanes::{Arm, External, NAMES};
use std::collections::BTreeSet;
use std::env;
use std::path::PathBuf;

/// Where descriptions are looked for.
fn folder() -> PathBuf {
    env::var_os("KMESH_ARMS")
        .filter(|value| !value.is_empty())
        .map_or_else(|| scenario_directory().join("arms"), PathBuf::from)
}

fn description(name: &str) -> Option<PathBuf> {
    // A name is a file's name, never a way out of the folder. One that can be no arm's is refused when its file is read.
    let plain = !name.is_empty() && !name.contains('/');
    let path = folder().join(format!("{name}.toml"));
    (plain && path.is_file()).then_some(path)
}

/// Names of the described arms, sorted.
pub fn described() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}

/// All names, the built-in ones first.
pub fn names() -> Vec<String> {
    let built_in = NAMES.iter().map(|&name| name.to_owned());
    built_in.chain(described()).collect()
}

/// What to say of a name that is no arm's.
pub fn unknown(name: &str) -> String {
    let names = names();
    kmesh_cli::unknown("arm", name, names.iter().map(String::as_str)).message
}

/// Refuses names that are no arm's, all of them at once.
///
/// # Errors
/// [`RunError::UnknownArm`] for one; a [`Failure`] that names all for several, or a description of a built-in arm's name.
pub fn check(asked: &[String]) -> anyhow::Result<()> {
    if let Some(name) = NAMES.iter().find(|name| description(name).is_some()) {
        return Err(Failure::usage(format!(
            "{} describes an arm {name}, and that is the name of a built-in one: give the file another name",
            folder().join(format!("{name}.toml")).display()
        ))
        .into());
    }
    let wrong: Vec<&String> = asked.iter().filter(|name| !is_known(name)).collect();
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => Err(RunError::UnknownArm((*one).clone()).into()),
        several => {
            let words: Vec<String> = several.iter().map(|name| unknown(name)).collect();
            Err(Failure::usage(words.join("; ")).into())
        }
    }
}

/// Whether there is an arm of this name; a broken description counts.
pub fn is_known(name: &str) -> bool {
    NAMES.contains(&name) || description(name).is_some()
}

/// The arm of this name.
///
/// # Errors
/// No such arm, or a broken description.
pub fn find(name: &str) -> Result<Box<dyn Arm>, RunError> {
    if let Some(arm) = kmesh_dataplanes::arm(name) {
        return Ok(arm);
    }
    match description(name) {
        Some(path) => Ok(Box::new(External::read(&path)?)),
        None => Err(RunError::UnknownArm(name.to_owned())),
    }
}

/// What `--arms` leaves unjudged, a line for each scenario (one for all points of a sweep): the expectations whose arms are left out.
pub fn unjudged(scenarios: &[Scenario], only: &[String]) -> BTreeSet<String> {
    let left_out = |scenario: &Scenario| {
        let left_out = |arm: &&String| !only.is_empty() && !only.contains(arm);
        let subjects = scenario.expectations.iter().map(|one| &one.subject);
        let lost: Vec<String> = subjects
            .filter(|subject| subject.arms().iter().any(left_out))
            .map(ToString::to_string)
            .collect();
        (!lost.is_empty()).then(|| {
            let (name, lost) = (scenario.family(), lost.join(", "));
            format!("{name}: not judged, because --arms leaves out an arm of it: {lost}")
        })
    };
    scenarios.iter().filter_map(left_out).collect()
}

/// Adds the described arms among `only` to every scenario, and takes out those whose programs are not on this machine, with a word on
/// stderr.
///
/// # Errors
/// An unknown name among `only`, or a broken description.
pub fn choose(scenarios: &mut [Scenario], only: &[String]) -> anyhow::Result<()> {
    check(only)?;
    for name in only {
        if description(name).is_some() {
            for scenario in scenarios.iter_mut() {
                if !scenario.arms.run.contains(name) {
                    scenario.arms.run.push(name.clone());
                }
            }
        }
    }
    let has = |scenario: &&mut Scenario| scenario.arms.run.iter().any(|arm| only.contains(arm));
    if let Some(scenario) = scenarios.iter_mut().find(|s| !only.is_empty() && !has(s)) {
        return Err(Failure::usage(format!(
            "{} has none of the arms {}: it has {}",
            scenario.name,
            only.join(", "),
            scenario.arms.run.join(", ")
        ))
        .into());
    }
    let wanted = |name: &String| only.is_empty() || only.contains(name);
    let mut asked: Vec<String> = scenarios
        .iter()
        .flat_map(|scenario| scenario.arms.run.clone())
        .filter(|name| wanted(name))
        .collect();
    asked.sort();
    asked.dedup();
    for name in asked {
        let Some(path) = description(&name).filter(|_| !NAMES.contains(&name.as_str())) else {
            continue;
        };
        if let Some(missing) = External::read(&path)?.missing() {
            eprintln!("arm {name} is left out: {missing}");
            for scenario in scenarios.iter_mut() {
                scenario.arms.run.retain(|arm| *arm != name);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Catalogue;

    #[test]
    fn what_arms_that_are_left_out_leave_unjudged_is_said() {
        let canary = Catalogue::new(scenario_directory())
            .load("header-canary")
            .unwrap();
        let scenarios = [canary];
        let said = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|&arm| arm.to_owned()).collect();
            unjudged(&scenarios, &only).pop_first()
        };
        let line = said(&["direct", "kmesh"]).unwrap();
        assert!(
            line.contains("header-canary") && line.contains("ratio(envoy-both,kmesh).p50"),
            "{line}"
        );
        assert!(!line.contains("kernel_share"), "{line}");
        assert_eq!(said(&["direct", "envoy-both", "kmesh"]), None);
        assert_eq!(said(&[]), None);
    }
}
