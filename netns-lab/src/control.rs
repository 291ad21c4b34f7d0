//! How another process finds and uses a lab that someone holds: an abstract unix socket, `@netns-lab/NAME`.
//! The kernel makes the name unique and forgets it with its owner, so there are no state files to go stale.
//! One JSON line each way; both ends check that the other has their own user id.

use std::{
    ffi::OsStr,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Ipv6Addr},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::geteuid,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    lab::Lab,
    placement::{CpuSet, Placement},
    topology::{Problem, check_name},
};

/// Longest message, bytes: a thousand pods take some 300 kB.
const MAX_MESSAGE: u64 = 4 << 20;
/// How long one end waits for the other; taking a lab down may use up the 10 s its processes have to end.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why a lab can't be offered or reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The name can't be one of a lab.
    #[error(transparent)]
    Name(#[from] Problem),
    /// Another process offers a lab by this name.
    #[error(
        "a lab named {0:?} is up already; take it down (netns-lab down {0}) or give this one another --name"
    )]
    NameInUse(String),
    /// Nobody offers a lab by this name.
    #[error("no lab named {0:?} is held by `netns-lab up` here (see netns-lab list)")]
    NotFound(String),
    /// The socket belongs to another user.
    #[error("lab {name:?} belongs to user {uid}, not to you")]
    OtherUser {
        /// The lab's name.
        name: String,
        /// Who holds it.
        uid: u32,
    },
    /// The conversation broke off.
    #[error("lab {name:?}: {call} on its control socket failed")]
    Socket {
        /// The lab's name.
        name: String,
        /// The system call.
        call: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// The lab's holder could not do it.
    #[error("lab {name:?}: {message}")]
    Refused {
        /// The lab's name.
        name: String,
        /// The holder's words.
        message: String,
    },
}

/// What a caller may ask of a lab's holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Tell what there is.
    Describe,
    /// Take the lab down; answered when that is done.
    Down,
}

/// A holder's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Describe`].
    Lab(Description),
    /// To [`Request::Down`].
    Done,
    /// Why it could not be done.
    Failed(String),
}

/// All that another process needs to know to use a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Name it is offered by.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Pid of the holder.
    pub pid: u32,
    /// The lab's cgroup2 directory.
    pub cgroup: PathBuf,
    /// The pods, in order.
    pub pods: Vec<PodDescription>,
}

/// One pod of a described lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodDescription {
    /// Name.
    pub name: String,
    /// Address of `eth0`.
    pub ipv4: Ipv4Addr,
    /// Address of `eth0`.
    pub ipv6: Ipv6Addr,
    /// CPUs its programs may use; empty means all.
    pub cpus: Vec<usize>,
    /// Where its network namespace can be opened.
    pub netns: PathBuf,
    /// Its cgroup2 directory.
    pub cgroup: PathBuf,
}

impl Description {
    /// Describes a lab of this process.
    pub fn of(lab: &Lab, name: &str) -> Self {
        let pods = lab.pods().iter().map(|pod| PodDescription {
            name: pod.name().to_owned(),
            ipv4: pod.ipv4(),
            ipv6: pod.ipv6(),
            cpus: pod.cpus().to_vec(),
            netns: pod.netns_path(),
            cgroup: pod.cgroup().to_owned(),
        });
        Self {
            name: name.to_owned(),
            id: lab.id().to_owned(),
            pid: std::process::id(),
            cgroup: lab.cgroup().to_owned(),
            pods: pods.collect(),
        }
    }

    /// A command that runs in one of its pods, as [`crate::Pod::command`] would make it.
    ///
    /// # Errors
    /// [`ControlError::Refused`] if there is no such pod or the lab has just gone.
    pub fn command(&self, pod: &str, program: impl AsRef<OsStr>) -> Result<Command, ControlError> {
        let refused = |message: String| ControlError::Refused {
            name: self.name.clone(),
            message,
        };
        let found = self.pods.iter().find(|p| p.name == pod).ok_or_else(|| {
            let known = self
                .pods
                .iter()
                .map(|p| p.name.as_str())
                .collect::<Vec<_>>();
            refused(format!(
                "it has no pod {pod:?}; pods are: {}",
                known.join(", ")
            ))
        })?;
        let procs = found.cgroup.join("cgroup.procs");
        let procs = std::fs::OpenOptions::new().write(true).open(&procs);
        let procs =
            procs.map_err(|e| refused(format!("can't open the cgroup of pod {pod:?}: {e}")))?;
        let netns = netns_rs::get_from_path(&found.netns);
        let netns =
            netns.map_err(|e| refused(format!("can't open the namespace of pod {pod:?}: {e}")))?;
        let placement = Placement {
            lab: self.id.clone(),
            name: found.name.clone(),
            netns: Arc::new(netns),
            procs: Arc::new(procs),
            cpus: CpuSet::new(&found.cpus),
        };
        Ok(placement.command(program))
    }
}

/// The holder's end.
#[derive(Debug)]
pub struct Control {
    name: String,
    listener: UnixListener,
}

impl Control {
    /// Takes a name, before the lab is built.
    ///
    /// # Errors
    /// [`ControlError::NameInUse`], [`ControlError::Name`].
    pub fn claim(name: &str) -> Result<Self, ControlError> {
        check_name(name)?;
        let socket_error = |call| move |source| failed(name, call, source);
        let address = address(name).map_err(socket_error("bind"))?;
        let listener = UnixListener::bind_addr(&address).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => ControlError::NameInUse(name.to_owned()),
            _ => failed(name, "bind", error),
        })?;
        Ok(Self {
            name: name.to_owned(),
            listener,
        })
    }

    /// Waits for the next caller with our own user id, and returns what is asked. Callers that make no sense are dropped.
    ///
    /// # Errors
    /// [`ControlError::Socket`] if the socket itself fails.
    pub fn next(&self) -> Result<(Request, Caller), ControlError> {
        loop {
            let (stream, _) = self
                .listener
                .accept()
                .map_err(|e| failed(&self.name, "accept", e))?;
            if peer(&stream).is_ok_and(|uid| uid == geteuid().as_raw())
                && let Ok(request) = receive(&stream)
            {
                return Ok((request, Caller(stream)));
            }
        }
    }
}

/// Someone waiting for an answer.
#[derive(Debug)]
pub struct Caller(UnixStream);

impl Caller {
    /// Answers.
    ///
    /// # Errors
    /// The caller may have gone.
    pub fn answer(self, reply: &Reply) -> io::Result<()> {
        send(&self.0, reply)
    }
}

/// Asks the holder of a lab for its description.
///
/// # Errors
/// [`ControlError::NotFound`], [`ControlError::OtherUser`], [`ControlError::Socket`].
pub fn describe(name: &str) -> Result<Description, ControlError> {
    match ask(name, Request::Describe)? {
        Reply::Lab(description) => Ok(description),
        other => Err(unexpected(name, &other)),
    }
}

/// Has the holder of a lab take it down, and waits until it is.
///
/// # Errors
/// As [`describe`], and [`ControlError::Refused`] with the holder's error.
pub fn down(name: &str) -> Result<(), ControlError> {
    match ask(name, Request::Down)? {
        Reply::Done => Ok(()),
        other => Err(unexpected(name, &other)),
    }
}

/// Names of all labs offered in this network namespace, sorted.
///
/// # Errors
/// If /proc/net/unix can't be read.
pub fn names() -> io::Result<Vec<String>> {
    let mut names = parse_names(&std::fs::read_to_string("/proc/net/unix")?);
    names.sort();
    names.dedup();
    Ok(names)
}

fn parse_names(table: &str) -> Vec<String> {
    let sockets = table
        .lines()
        .filter_map(|line| line.split_once(" @netns-lab/"));
    sockets
        .map(|(_, name)| name.to_owned())
        .filter(|name| check_name(name).is_ok())
        .collect()
}

fn ask(name: &str, request: Request) -> Result<Reply, ControlError> {
    check_name(name)?;
    let address = address(name).map_err(|e| failed(name, "connect", e))?;
    let stream = UnixStream::connect_addr(&address).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => ControlError::NotFound(name.to_owned()),
        _ => failed(name, "connect", error),
    })?;
    let uid = peer(&stream).map_err(|e| failed(name, "getsockopt", e))?;
    if uid != geteuid().as_raw() {
        return Err(ControlError::OtherUser {
            name: name.to_owned(),
            uid,
        });
    }
    send(&stream, &request).map_err(|e| failed(name, "write", e))?;
    receive(&stream).map_err(|e| failed(name, "read", e))
}

fn address(name: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("netns-lab/{name}"))
}

fn peer(stream: &UnixStream) -> io::Result<u32> {
    Ok(getsockopt(stream, PeerCredentials)?.uid())
}

fn send(mut stream: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&line)
}

fn receive<T: DeserializeOwned>(stream: &UnixStream) -> io::Result<T> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_MESSAGE)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn failed(name: &str, call: &'static str, source: io::Error) -> ControlError {
    ControlError::Socket {
        name: name.to_owned(),
        call,
        source,
    }
}

fn unexpected(name: &str, reply: &Reply) -> ControlError {
    ControlError::Refused {
        name: name.to_owned(),
        message: match reply {
            Reply::Failed(message) => message.clone(),
            other => format!("unexpected answer {other:?}; is it of another version?"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_sockets_are_listed() {
        let table = "Num RefCount Protocol Flags Type St Inode Path\n\
            ffff: 00000002 00000000 00010000 0001 01 100 @netns-lab/canary\n\
            ffff: 00000002 00000000 00010000 0001 01 101 @other/canary\n\
            ffff: 00000002 00000000 00010000 0001 01 102 /run/@netns-lab/x\n\
            ffff: 00000002 00000000 00010000 0001 01 103\n";
        assert_eq!(parse_names(table), ["canary"]);
    }

    #[test]
    fn a_name_is_taken_once_and_free_after_its_owner() {
        let name = format!("control-test-{}", std::process::id());
        let control = Control::claim(&name).unwrap();
        let message = Control::claim(&name).unwrap_err().to_string();
        assert!(message.contains("is up already"), "{message}");
        assert!(names().unwrap().contains(&name));
        drop(control);
        let message = describe(&name).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("no lab named \"{name}\"")),
            "{message}"
        );
        Control::claim(&name).unwrap();
    }

    #[test]
    fn names_that_could_not_be_labs_are_refused() {
        assert!(matches!(describe("../x"), Err(ControlError::Name(_))));
        assert!(matches!(Control::claim(""), Err(ControlError::Name(_))));
    }

    #[test]
    fn a_failure_of_the_holder_reaches_the_caller() {
        let name = format!("control-fail-{}", std::process::id());
        let control = Control::claim(&name).unwrap();
        let holder = std::thread::spawn(move || {
            let (request, caller) = control.next().unwrap();
            assert_eq!(request, Request::Down);
            caller.answer(&Reply::Failed("busy".to_owned())).unwrap();
        });
        assert_eq!(
            down(&name).unwrap_err().to_string(),
            format!("lab {name:?}: busy")
        );
        holder.join().unwrap();
    }
}
