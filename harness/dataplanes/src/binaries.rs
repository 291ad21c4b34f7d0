//! Where the programs that arms run are found.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Paths of the programs. A missing one is reported by the arm that needs it, not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// `kmesh-origin`, the server in the pods.
    pub origin: PathBuf,
    /// `kmeshd`, the datapath under test.
    pub kmeshd: PathBuf,
    /// The real Envoy.
    pub envoy: PathBuf,
    /// `nft`, which loads nftables rules.
    pub nft: PathBuf,
}

impl Binaries {
    /// Our own programs beside the running one (or one folder up, for tests and benches), Envoy where `ci/setup.sh` puts
    /// it below `workspace`, the rest in `PATH`. `KMESH_ORIGIN`, `KMESHD`, `KMESH_ENVOY` and `KMESH_NFT` override.
    pub fn locate(workspace: &Path) -> Self {
        Self {
            origin: overridden("KMESH_ORIGIN").unwrap_or_else(|| sibling("kmesh-origin")),
            kmeshd: overridden("KMESHD").unwrap_or_else(|| sibling("kmeshd")),
            envoy: overridden("KMESH_ENVOY")
                .unwrap_or_else(|| workspace.join(".cache/envoy/envoy")),
            nft: overridden("KMESH_NFT").unwrap_or_else(|| in_path("nft")),
        }
    }
}

fn overridden(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// `target/release/NAME` for `target/release/kmesh-bench` and for `target/release/deps/some-test-1234`.
fn sibling(name: &str) -> PathBuf {
    let own = env::current_exe().unwrap_or_default();
    let folders = own.ancestors().skip(1).take(2);
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| own.with_file_name(name))
}

fn in_path(name: &str) -> PathBuf {
    // `nft` is in /usr/sbin, which is not in everybody's PATH.
    let path = env::var_os("PATH").unwrap_or_default();
    let folders =
        env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}
