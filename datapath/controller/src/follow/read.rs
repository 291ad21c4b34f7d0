//! Reading a file that may be anything by now.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// What the system says.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A pipe, a device, a directory.
    #[error("{path} is {kind} instead of a regular file")]
    Kind {
        /// The file.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// Too much of it.
    #[error("{path} has more than {most} bytes")]
    Large {
        /// The file.
        path: String,
        /// The limit.
        most: u64,
    },
    /// Anybody may write to it.
    #[error("{path} has mode {mode:o}: anybody may write to it; chmod o-w")]
    Writable {
        /// The file.
        path: String,
        /// Its permissions.
        mode: u32,
    },
}

/// Reads a regular file of at most `most` bytes that not everybody may write to. Never waits for a writer.
///
/// # Errors
/// [`FileError`].
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    let name = || path.display().to_string();
    let unreadable = |source| FileError::Read {
        path: name(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        let kind = metadata.file_type();
        let kind = match () {
            () if kind.is_fifo() => "a pipe",
            () if kind.is_dir() => "a directory",
            () if kind.is_char_device() || kind.is_block_device() => "a device",
            () => "something",
        };
        return Err(FileError::Kind { path: name(), kind });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Err(FileError::Writable { path: name(), mode });
    }
    if metadata.len() > most {
        return Err(FileError::Large { path: name(), most });
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    let read = file.take(most + 1).read_to_end(&mut bytes);
    read.map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(FileError::Large { path: name(), most });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn what_is_no_ordinary_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        for (path, wanted) in [
            (pipe.as_path(), "is a pipe"),
            (folder.path(), "is a directory"),
            (Path::new("/dev/zero"), "is a device"),
            (Path::new("/nonexistent/file"), "cannot read"),
        ] {
            let error = read(path, 10).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_refused_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, [7; 10]).unwrap();
        assert_eq!(read(&path, 10).unwrap(), [7; 10]);
        assert!(matches!(read(&path, 9), Err(FileError::Large { .. })));
    }

    #[test]
    fn a_file_that_anybody_may_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "x").unwrap();
        for (mode, good) in [(0o600, true), (0o664, true), (0o666, false), (0o602, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path, 10).is_ok(), good, "{mode:o}");
        }
    }
}
