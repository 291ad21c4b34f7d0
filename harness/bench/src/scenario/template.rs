//! `kmesh-bench new`: a commented scenario to begin with.

use kmesh_cli::exit::Failure;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// The file as it stands, with `NAME` for the scenario's name.
const TEMPLATE: &str = include_str!("template.toml");

/// Writes `DIRECTORY/NAME.toml`; an existing file is never touched.
///
/// # Errors
/// A [`Failure`]: a name that can be none, a file that is there, or one that cannot be written.
pub fn create(directory: &Path, name: &str) -> Result<PathBuf, Failure> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || !name.chars().all(plain) || name.starts_with('-') {
        return Err(Failure::usage(format!(
            "{name:?} can be no scenario's name: use lower-case letters, digits and -"
        )));
    }
    let path = directory.join(format!("{name}.toml"));
    let text = TEMPLATE.replace("NAME", name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => Ok(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::usage(format!(
            "{} is there already: choose another name",
            path.display()
        ))),
        Err(error) => Err(Failure::output(format!(
            "{}: cannot be written: {error}",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Catalogue;

    #[test]
    fn what_is_written_is_a_scenario_and_is_never_written_over() {
        let ours = crate::binaries::scenario_directory();
        let folder = tempfile::tempdir().unwrap();
        for below in ["base", "resources", "defaults.toml"] {
            std::os::unix::fs::symlink(ours.join(below), folder.path().join(below)).unwrap();
        }
        let path = create(folder.path(), "my-canary").unwrap();
        let scenario = Catalogue::new(folder.path()).load("my-canary").unwrap();
        assert_eq!(scenario.name, "my-canary");
        assert_eq!(scenario.traffic.len(), 2);
        let again = create(folder.path(), "my-canary").unwrap_err();
        assert!(
            again.message.contains(&path.display().to_string()),
            "{again}"
        );
        assert_eq!(create(folder.path(), "../x").unwrap_err().code, 4);
        assert_eq!(
            create(&folder.path().join("none"), "x").unwrap_err().code,
            5
        );
    }
}
