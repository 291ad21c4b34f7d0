//! The two programs that a gate compares, built.

use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The example that runs the decision core alone, for callgrind.
const DECIDE_COST: &str = "decide_cost";

/// Why there is no program to compare.
#[derive(Debug, thiserror::Error)]
pub enum SideError {
    /// Neither a folder nor a commit.
    #[error(
        "{what:?} is neither a folder with kmeshd in it, nor a checkout, nor a revision of {repository}"
    )]
    Unknown {
        /// As given.
        what: String,
        /// Where it was looked up.
        repository: PathBuf,
    },
    /// A command did not succeed.
    #[error("{what}: {command} failed: {said}")]
    Command {
        /// What was being prepared.
        what: String,
        /// The command.
        command: String,
        /// The end of what it said.
        said: String,
    },
    /// The file system.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
}

/// One side: programs, and the tree they were built from.
#[derive(Debug)]
pub struct Side {
    /// As given on the command line.
    pub what: String,
    /// The commit, if there is one.
    pub revision: Option<String>,
    /// Folder of its programs.
    pub bin: PathBuf,
    /// Its sources; none for a folder of programs.
    pub tree: Option<PathBuf>,
    /// `decide_cost`, if the sources have it.
    pub decide_cost: Option<PathBuf>,
    /// Removes the worktree.
    _worktree: Option<Worktree>,
}

impl Side {
    /// Finds or builds the programs of `what`: a folder that holds `kmeshd`, a checkout, or a revision
    /// of `repository`, which is checked out into a folder of its own below `.cache/gate` (with a target
    /// directory that stays, so that the second gate builds only what changed).
    ///
    /// # Errors
    /// [`SideError`].
    pub fn prepare(what: &str, repository: &Path) -> Result<Self, SideError> {
        let folder = Path::new(what);
        if folder.join("kmeshd").is_file() {
            return Ok(Self {
                what: what.to_owned(),
                revision: None,
                bin: absolute(folder)?,
                tree: None,
                decide_cost: None,
                _worktree: None,
            });
        }
        if folder.join("Cargo.toml").is_file() {
            let tree = absolute(folder)?;
            // The checkout this program belongs to is built where its own programs are.
            let own = tree == repository;
            let target = own
                .then(|| std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from))
                .flatten()
                .unwrap_or_else(|| tree.join("target"));
            return Self::build(what, tree, &target, None);
        }
        let commit = format!("{what}^{{commit}}");
        let revision = output(
            what,
            git(repository).args(["rev-parse", "--verify", "--quiet", &commit]),
        )
        .map_err(|_| SideError::Unknown {
            what: what.to_owned(),
            repository: repository.to_owned(),
        })?;
        let cache = repository.join(".cache/gate");
        let worktree = Worktree::add(what, repository, &cache, &revision)?;
        let tree = worktree.path.clone();
        Self::build(what, tree, &cache.join("target"), Some(worktree))
    }

    fn build(
        what: &str,
        tree: PathBuf,
        target: &Path,
        worktree: Option<Worktree>,
    ) -> Result<Self, SideError> {
        eprintln!("gate: building {what}");
        let cargo = |arguments: &[&str]| {
            let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
            command
                .current_dir(&tree)
                .env("CARGO_TARGET_DIR", target)
                .args(["build", "--locked", "--release"])
                .args(arguments);
            output(what, &mut command)
        };
        cargo(&[
            "--bins",
            "-p",
            "kmesh-controller",
            "-p",
            "kmesh-origin",
            "-p",
            "kmesh-load",
        ])?;
        let source = format!("harness/oracle/examples/{DECIDE_COST}.rs");
        let decide_cost = if tree.join(source).is_file() {
            cargo(&["-p", "kmesh-oracle", "--example", DECIDE_COST])?;
            Some(target.join("release/examples").join(DECIDE_COST))
        } else {
            None
        };
        Ok(Self {
            what: what.to_owned(),
            revision: output(what, git(&tree).args(["rev-parse", "--short=12", "HEAD"])).ok(),
            bin: target.join("release"),
            tree: Some(tree),
            decide_cost,
            _worktree: worktree,
        })
    }

    /// How it is called in reports.
    pub fn title(&self) -> String {
        match &self.revision {
            Some(revision) if *revision != self.what => format!("{} ({revision})", self.what),
            _ => self.what.clone(),
        }
    }
}

/// A checkout that goes when dropped.
#[derive(Debug)]
struct Worktree {
    repository: PathBuf,
    path: PathBuf,
    /// Removed after git has let go of what is in it.
    _folder: TempDir,
}

impl Worktree {
    fn add(what: &str, repository: &Path, cache: &Path, revision: &str) -> Result<Self, SideError> {
        let io = |source| SideError::Io {
            what: format!("a worktree below {}", cache.display()),
            source,
        };
        std::fs::create_dir_all(cache).map_err(io)?;
        // One that a killed gate left behind.
        output(what, git(repository).args(["worktree", "prune"]))?;
        let folder = tempfile::Builder::new()
            .prefix("worktree-")
            .tempdir_in(cache)
            .map_err(io)?;
        let path = folder.path().join("tree");
        output(
            what,
            git(repository)
                .args(["worktree", "add", "--detach", "--quiet"])
                .arg(&path)
                .arg(revision),
        )?;
        Ok(Self {
            repository: repository.to_owned(),
            path,
            _folder: folder,
        })
    }
}

impl Drop for Worktree {
    fn drop(&mut self) {
        // Should it fail, the next gate prunes it.
        let _ = output(
            "worktree",
            git(&self.repository)
                .args(["worktree", "remove", "--force"])
                .arg(&self.path),
        );
    }
}

fn git(tree: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(tree);
    command
}

fn absolute(path: &Path) -> Result<PathBuf, SideError> {
    path.canonicalize().map_err(|source| SideError::Io {
        what: path.display().to_string(),
        source,
    })
}

/// Runs a command and returns what it wrote to stdout, trimmed.
pub(super) fn output(what: &str, command: &mut Command) -> Result<String, SideError> {
    const LAST_LINES: usize = 12;
    let failed = |command: &Command, said: String| SideError::Command {
        what: what.to_owned(),
        command: format!("{command:?}").replace('"', ""),
        said,
    };
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return Err(failed(command, error.to_string())),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    Err(failed(command, last))
}
