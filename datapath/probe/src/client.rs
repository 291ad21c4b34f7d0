//! Asking a running daemon for its status: HTTP over a Unix socket in a folder that only the daemon's user enters.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::Status;

/// The folder of all daemons' sockets, unless they are told another one.
pub const RUN_DIR: &str = "/run/kmesh";
/// How long a daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// No daemon can have this name.
    #[error(transparent)]
    Name(io::Error),
    /// The folder of sockets is another user's.
    #[error(
        "kmeshd {name} can be asked only by its own user, and {path} lets no one else in: run it with sudo"
    )]
    Forbidden {
        /// The daemon's name.
        name: String,
        /// Its folder.
        path: String,
    },
    /// Nobody answers.
    #[error("no kmeshd named {name} answers at {path}; is it running?")]
    Unreachable {
        /// The daemon's name.
        name: String,
        /// Its socket.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answer is not a status.
    #[error("kmeshd {name} answered something that is not a status")]
    Garbled {
        /// The daemon's name.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Where the daemon `name` listens as `kind`: `admin`, or `guard` for its guard.
///
/// # Errors
/// If the name is not the name of a file.
pub fn socket(run_dir: &Path, name: &str, kind: &str) -> io::Result<PathBuf> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(std::path::Component::Normal(only)), None) if only == name => {}
        _ => {
            let text = format!("{name:?} is no name for a daemon: it names a folder");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    }
    Ok(run_dir.join(name).join(format!("{kind}.sock")))
}

/// Checks that a process on the other end of a control socket is root's or this process's user's.
///
/// # Errors
/// If it is not, naming the user.
pub fn check_user(peer: u32) -> io::Result<()> {
    let own = nix::unistd::geteuid().as_raw();
    if peer == 0 || peer == own {
        return Ok(());
    }
    let text = format!("it is user {peer}'s, neither root's nor user {own}'s");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Asks the daemon `name` whose sockets are in the usual folder.
///
/// # Errors
/// [`StatusError`].
pub fn status(name: &str) -> Result<Status, StatusError> {
    status_in(Path::new(RUN_DIR), name)
}

/// Asks the daemon `name` whose sockets are in `run_dir`.
///
/// # Errors
/// [`StatusError`].
pub fn status_in(run_dir: &Path, name: &str) -> Result<Status, StatusError> {
    socket(run_dir, name, "admin").map_err(StatusError::Name)?;
    let path = run_dir.join(name).display().to_string();
    let document = document(run_dir, name).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => StatusError::Forbidden {
            name: name.to_owned(),
            path,
        },
        _ => StatusError::Unreachable {
            name: name.to_owned(),
            path,
            source,
        },
    })?;
    serde_json::from_slice(&document).map_err(|source| StatusError::Garbled {
        name: name.to_owned(),
        source,
    })
}

/// The status document of the daemon `name`, as it is sent.
///
/// # Errors
/// What the socket says, or that it does not say what it should.
pub fn document(run_dir: &Path, name: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket(run_dir, name, "admin")?)?;
    check_user(getsockopt(&stream, PeerCredentials)?.uid())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /status HTTP/1.1\r\nhost: kmeshd\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    body(&answer).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))
}

/// The body of a complete answer of 200 with a length.
fn body(answer: &[u8]) -> Result<Vec<u8>, String> {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut head = httparse::Response::new(&mut fields);
    let parsed = head.parse(answer).map_err(|error| error.to_string())?;
    let httparse::Status::Complete(begin) = parsed else {
        return Err(format!("{} bytes are no answer", answer.len()));
    };
    let body = &answer[begin..];
    let is_length =
        |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case("content-length");
    let length: Option<usize> = (head.headers.iter().find(is_length))
        .and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
    match (head.code, length) {
        (Some(200), Some(length)) if body.len() == length => Ok(body.to_vec()),
        (Some(200), _) => Err(format!("{} bytes of an answer of {length:?}", body.len())),
        (code, _) => Err(format!("{code:?}: {}", String::from_utf8_lossy(body))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_answer_of_200_has_a_body() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(body(whole).unwrap(), b"{}");
        for end in 0..whole.len() {
            assert!(body(&whole[..end]).is_err(), "{end}");
        }
        let refused = b"HTTP/1.1 409 Conflict\r\ncontent-length: 2\r\n\r\nno";
        assert_eq!(body(refused).unwrap_err(), "Some(409): no");
    }

    #[test]
    fn a_name_is_one_folder() {
        let of = |name| socket(Path::new("/r"), name, "admin");
        assert_eq!(of("a-1.b").unwrap(), Path::new("/r/a-1.b/admin.sock"));
        for name in ["", ".", "..", "a/b", "/a", "a/", "./a"] {
            assert!(of(name).is_err(), "{name}");
        }
    }

    #[test]
    fn other_users_are_told_apart() {
        let own = nix::unistd::geteuid().as_raw();
        assert!(check_user(0).is_ok() && check_user(own).is_ok());
        assert!(
            check_user(own + 1)
                .unwrap_err()
                .to_string()
                .contains(&(own + 1).to_string())
        );
    }
}
