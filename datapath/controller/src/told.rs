//! What `kmeshd run` was told, looked at before anything is loaded: everything that cannot be is reported at once.

use std::path::Path;

use kmesh_cli::exit::Failure;
use kmesh_probe::client;

use crate::admin::DAEMON;
use crate::daemon::{Options, PODS_FILE_MAX};
use crate::enrolment::List;
use crate::follow;
use crate::source::{CONFIG_MAX, Origin};

/// Largest file of certificates or of a token that is read, bytes.
const SECRET_MAX: u64 = 1 << 20;

/// Says what of a command line can never run.
///
/// # Errors
/// One [`Failure`] about all of it.
pub fn check(options: &Options) -> Result<(), Failure> {
    let found = [
        name(&options.run_dir, &options.name),
        run_dir(&options.run_dir),
        origin(&options.config),
        pods(&options.pods),
    ];
    let wrong: Vec<String> = found.into_iter().filter_map(Result::err).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(wrong.join("; ")))
}

/// Whether a daemon can have this name.
///
/// # Errors
/// Why not.
pub fn name(run_dir: &Path, name: &str) -> Result<(), String> {
    client::socket(run_dir, name, DAEMON)
        .map(drop)
        .map_err(|error| format!("{error}; give --name a word"))
}

fn run_dir(folder: &Path) -> Result<(), String> {
    let above = folder.ancestors().find(|path| path.exists());
    match above {
        Some(path) if !path.is_dir() => Err(format!(
            "{} can be no folder, because {} is none; name another one with --run-dir",
            folder.display(),
            path.display()
        )),
        _ => Ok(()),
    }
}

fn origin(origin: &Origin) -> Result<(), String> {
    match origin {
        Origin::File(file) => readable(file, CONFIG_MAX, "Envoy v3 resources").map(drop),
        Origin::ControlPlane(settings) => {
            settings.check().map_err(|error| error.to_string())?;
            let files = [(&settings.ca, "certificates"), (&settings.token, "a token")];
            for (file, what) in files {
                if let Some(file) = file {
                    readable(file, SECRET_MAX, what)?;
                }
            }
            Ok(())
        }
    }
}

fn readable(file: &Path, most: u64, what: &str) -> Result<Vec<u8>, String> {
    follow::read(file, most).map_err(|error| {
        let error = kmesh_cli::of_error(&anyhow::Error::new(error));
        format!("{error}; name a file of {what}")
    })
}

fn pods(file: &Path) -> Result<(), String> {
    let text = readable(file, PODS_FILE_MAX, "pods")?;
    List::parse(&text).map(drop).map_err(|error| {
        let file = file.display();
        format!("{file}: not a list of pods with name, netns and cgroup: {error}")
    })
}
