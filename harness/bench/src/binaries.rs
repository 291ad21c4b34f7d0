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
    /// The attacker of `verify isolation`, and its victim.
    pub attacker: PathBuf,
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
            attacker: ours("kmesh-attacker"),
            arms,
        }
    }
}

/// What tells the folder that everything else is found from.
const MARK: &str = "scenarios/defaults.toml";

/// The nearest folder with our scenarios: from the current one upwards, then from this program's upwards; the current one
/// if there is none.
pub fn workspace() -> PathBuf {
    let starts = [env::current_dir(), env::current_exe()];
    starts
        .iter()
        .flatten()
        .flat_map(|start| start.ancestors())
        .find(|folder| folder.join(MARK).is_file())
        .unwrap_or(Path::new("."))
        .to_owned()
}

/// The scenarios in [`workspace`].
pub fn scenario_directory() -> PathBuf {
    workspace().join("scenarios")
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
