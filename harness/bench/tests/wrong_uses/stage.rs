//! Where wrong uses are tried: the programs where any user may run them, and files that are wrong.

use crate::table::{As, Use};
use kmesh_bench::binaries::{Programs, workspace};
use nix::unistd::geteuid;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// Of whom nothing is expected but that it is not root.
const NOBODY: u32 = 65_534;

/// Files of the stage; a name ending in `/` is a folder.
const FILES: [(&str, &str); 6] = [
    ("empty/", ""),
    ("clash/kmesh.toml", ""),
    ("names/My.Arm.toml", ""),
    ("broken.toml", "title = \"x\"\nlod = 1\n"),
    ("mistakes.toml", MISTAKES),
    // What a scenario may extend and use is beside it.
    ("resources/", ""),
];

/// Three mistakes in three parts of a scenario.
const MISTAKES: &str = "\
extends = \"SCENARIOS/base/pods-four.toml\"
title = \"x\"
resources = \"SCENARIOS/resources/header-canary.yaml\"
[arms]
run = [\"direct\", \"envoy-bot\"]
[load]
loop = \"closed\"
connections = 0
[split]
v1 = 99
[[traffic]]
name = \"x\"
weight = 1
host = \"svc.test\"
path = \"/\"
";

pub(crate) struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scenarios = workspace().join("scenarios");
        for (name, text) in FILES {
            let path = folder.path().join(name);
            let above = path.parent().filter(|_| !name.ends_with('/'));
            fs::create_dir_all(above.unwrap_or(&path)).unwrap();
            if above.is_some() {
                let text = text.replace("SCENARIOS", &scenarios.display().to_string());
                fs::write(&path, text).unwrap();
            }
        }
        let all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), all).unwrap();
        let beside = Programs::locate().arms.kmeshd;
        for program in ["kmeshd", "kmeshctl", "netns-lab"] {
            let built = beside.with_file_name(program);
            fs::copy(&built, folder.path().join(program)).unwrap_or_else(|error| {
                panic!("{}: {error}: build the workspace first", built.display())
            });
        }
        let bench = env!("CARGO_BIN_EXE_kmesh-bench");
        fs::copy(bench, folder.path().join("kmesh-bench")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Tries it; none for what needs root where the test has none.
    pub(crate) fn run(&self, wrong: &Use) -> Option<Output> {
        let root = geteuid().is_root();
        let mut command = Command::new(self.path().join(&wrong.program));
        command.args(&wrong.words).current_dir(workspace());
        command.env("KMESH_SCENARIOS", workspace().join("scenarios"));
        command.envs(wrong.variable.clone());
        match wrong.who {
            As::Root if !root => return None,
            As::Nobody if root => {
                command.uid(NOBODY);
            }
            As::Full => {
                command.stdout(File::create("/dev/full").unwrap());
            }
            As::Anyone | As::Root | As::Nobody => {}
        }
        Some(command.output().unwrap())
    }
}
