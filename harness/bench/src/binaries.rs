//! Where our own programs are: beside this one, or where `KMESH_BIN_DIR` says.

use kmesh_dataplanes::Binaries;
use std::env;
use std::path::{Path, PathBuf};

/// All programs a run needs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The load generator.
    pub load: PathBuf,
    /// The stream checker's server.
    pub streams_server: PathBuf,
    /// The stream checker's client.
    pub streams_client: PathBuf,
    /// What the arms start.
    pub arms: Binaries,
}

impl Programs {
    /// Looks for the programs; whether they exist is `doctor`'s business, and the arms'.
    pub fn locate() -> Self {
        let mut arms = Binaries::locate(&workspace());
        let folder = env::var_os("KMESH_BIN_DIR")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from);
        if let Some(folder) = &folder {
            arms.origin = folder.join("kmesh-origin");
            arms.kmeshd = folder.join("kmeshd");
        }
        let ours = |name: &str| {
            folder
                .as_ref()
                .map_or_else(|| sibling(name), |folder| folder.join(name))
        };
        Self {
            load: ours("kmesh-load"),
            streams_server: ours("kmesh-streams-server"),
            streams_client: ours("kmesh-streams-client"),
            arms,
        }
    }
}

/// The root of the checkout this program was built from.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// The scenarios of the checkout, or `scenarios` in the current directory for a program that was moved.
pub fn scenario_directory() -> PathBuf {
    let built = workspace().join("scenarios");
    if built.is_dir() {
        built
    } else {
        PathBuf::from("scenarios")
    }
}

/// `target/release/NAME` for `target/release/kmesh-bench` and for `target/release/deps/some-test-1234`.
fn sibling(name: &str) -> PathBuf {
    let own = env::current_exe().unwrap_or_default();
    let mut folders = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name));
    folders
        .find(|path| path.is_file())
        .unwrap_or_else(|| own.with_file_name(name))
}
