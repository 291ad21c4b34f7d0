//! A process inside a pod that makes sockets and hands them out.
//!
//! Enrolment goes by cgroup, and a socket belongs to the cgroup of the process that made it: a thread of the test in the
//! pod's namespace would not be enrolled. So the test binary starts itself once more, inside the pod.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::Mutex;

use netns_lab::{Lab, Pod};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

const ASKED: &str = "KMESH_TEST_AGENT";

/// The test's end.
pub(crate) struct Agent {
    child: Child,
    channel: Mutex<UnixStream>,
}

impl Agent {
    /// Starts an agent in `pod`.
    pub(crate) fn start(pod: &Pod) -> Self {
        let (channel, theirs) = UnixStream::pair().unwrap();
        let mut command = pod.command(std::env::current_exe().unwrap());
        command
            .args(["--exact", "lab::agent::serve", "--nocapture"])
            .env(ASKED, "1")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null());
        let child = pod.spawn(command).unwrap();
        Self {
            child,
            channel: Mutex::new(channel),
        }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Connects from inside the pod.
    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.ask(b'c', to).map(TcpStream::from)
    }

    /// Listens inside the pod.
    pub(crate) fn listen(&self, at: SocketAddr) -> io::Result<TcpListener> {
        self.ask(b'l', at).map(TcpListener::from)
    }

    fn ask(&self, verb: u8, address: SocketAddr) -> io::Result<OwnedFd> {
        let mut channel = self.channel.lock().unwrap();
        let text = address.to_string();
        channel.write_all(&[verb, text.len() as u8])?;
        channel.write_all(text.as_bytes())?;
        let mut errno = [0; 4];
        let mut space = nix::cmsg_space!(RawFd);
        let mut into = [IoSliceMut::new(&mut errno)];
        let fd = channel.as_fd().as_raw_fd();
        // Programs started meanwhile must not keep the connection open.
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(fd, &mut into, Some(&mut space), flags)?;
        let received = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        match received {
            // SAFETY: the kernel just made this descriptor for us.
            Some(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            None => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An agent for the pod of that name.
pub(crate) fn agent(lab: &Lab, pod: &str) -> Agent {
    Agent::start(lab.pod(pod).unwrap())
}

/// Not a test: what an agent runs.
#[test]
fn serve() {
    if std::env::var_os(ASKED).is_none() {
        return;
    }
    let mut channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut header = [0; 2];
    while channel.read_exact(&mut header).is_ok() {
        let mut text = vec![0; usize::from(header[1])];
        channel.read_exact(&mut text).unwrap();
        let address: SocketAddr = String::from_utf8(text).unwrap().parse().unwrap();
        let made = match header[0] {
            b'c' => TcpStream::connect(address).map(OwnedFd::from),
            _ => TcpListener::bind(address).map(OwnedFd::from),
        };
        let errno = made
            .as_ref()
            .err()
            .and_then(io::Error::raw_os_error)
            .unwrap_or(0);
        let fds: Vec<RawFd> = made.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights = if fds.is_empty() {
            &rights[..0]
        } else {
            &rights[..]
        };
        let bytes = errno.to_ne_bytes();
        let from = [IoSlice::new(&bytes)];
        sendmsg::<()>(channel.as_raw_fd(), &from, rights, MsgFlags::empty(), None).unwrap();
    }
}
