//! The folder of the daemon's sockets and locks: nobody but its user gets in.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Why a folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made or looked at.
    #[error("cannot make folder {path}")]
    Make {
        /// The folder.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others get in.
    #[error(
        "{path} belongs to user {owner} and has mode {mode:o}, wanted is a folder of user {own} with mode 700"
    )]
    Open {
        /// The folder.
        path: String,
        /// Its owner.
        owner: u32,
        /// Its permissions.
        mode: u32,
        /// The daemon's user.
        own: u32,
    },
}

/// Makes the folder `path` for this user alone, or checks that it is.
///
/// # Errors
/// [`FolderError`].
pub fn own(path: PathBuf) -> Result<PathBuf, FolderError> {
    let unusable = |source| FolderError::Make {
        path: path.display().to_string(),
        source,
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(unusable)?;
    let metadata = fs::symlink_metadata(&path).map_err(unusable)?;
    let own = nix::unistd::geteuid().as_raw();
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if !metadata.is_dir() || owner != own || mode & 0o077 != 0 {
        return Err(FolderError::Open {
            path: path.display().to_string(),
            owner,
            mode,
            own,
        });
    }
    Ok(path)
}

/// The folder of locks in the folder `run_dir`.
///
/// # Errors
/// [`FolderError`].
pub fn locks(run_dir: &Path) -> Result<PathBuf, FolderError> {
    own(own(run_dir.to_owned())?.join("locks"))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_folder_is_made_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let made = own(folder.path().join("a/b")).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().mode() & 0o777, 0o700);
        assert_eq!(own(made.clone()).unwrap(), made, "it may be there");
    }

    #[test]
    fn a_folder_that_others_get_into_or_a_link_to_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let made = own(folder.path().join("a")).unwrap();
        symlink(&made, folder.path().join("link")).unwrap();
        assert!(own(folder.path().join("link")).is_err());
        fs::set_permissions(&made, Permissions::from_mode(0o755)).unwrap();
        let said = own(made).unwrap_err().to_string();
        assert!(said.contains("mode 755"), "{said}");
    }
}
