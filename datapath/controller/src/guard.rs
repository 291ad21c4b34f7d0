//! Keeps services closed while no daemon runs, for `kmeshd run --when-gone closed`.
//!
//! Programs go with the process that holds their links. So a process of its own holds the connect programs' links too. When the
//! daemon vanishes without a farewell, it takes the pods' anchors out of the kernel's table: from then on `connect` to an
//! anchored service is refused (`EPERM`), and opaque services go on as they are. It leaves when the next daemon of that name
//! has enrolled the pods, or when `kmeshd release` tells it to; a daemon that ends in order takes it along.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData};
use kmesh_api::Address;
use kmesh_api::pod::Pod;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

fn address(name: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("kmeshd/{name}/guard"))
}

/// The daemon's end; the guard leaves in order when this is dropped.
pub struct Guard {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Guard {
    /// Starts the guard of the daemon of that name; `pods` is the id of the map of pods.
    ///
    /// # Errors
    /// If it does not start, for example because there is one already.
    pub fn start(name: &str, pods: u32) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .args(["guard", "--name", name, "--pods-map", &pods.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What the terminal sends to the daemon is not for the guard.
            .process_group(0)
            .spawn()?;
        let gone = || io::Error::other("the guard has no pipes");
        let orders = child.stdin.take().ok_or_else(gone)?;
        let answers = BufReader::new(child.stdout.take().ok_or_else(gone)?);
        let mut guard = Self {
            child,
            orders,
            answers,
        };
        guard.hear()?;
        Ok(guard)
    }

    fn hear(&mut self) -> io::Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.trim_end() == "ok" {
            return Ok(());
        }
        Err(io::Error::other(format!("the guard answered {line:?}")))
    }

    fn order(&mut self, order: &str) -> io::Result<()> {
        writeln!(self.orders, "{order}")?;
        self.hear()
    }

    /// Has it hold the links with these ids for the pod with that namespace cookie.
    ///
    /// # Errors
    /// If it is gone or cannot.
    pub fn hold(&mut self, cookie: u64, links: &[u32]) -> io::Result<()> {
        let links: Vec<String> = links.iter().map(u32::to_string).collect();
        self.order(&format!("hold {cookie} {}", links.join(" ")))
    }

    /// Has it forget the pod.
    ///
    /// # Errors
    /// If it is gone.
    pub fn release(&mut self, cookie: u64) -> io::Result<()> {
        self.order(&format!("release {cookie}"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // One that is gone already has left.
        let _ = self.order("leave");
        let _ = self.child.wait();
    }
}

/// Sends a guard that was left behind away and waits until it is gone; `false` if there is none.
///
/// # Errors
/// If the name is too long.
pub fn dismiss(name: &str) -> io::Result<bool> {
    let Ok(mut stream) = UnixStream::connect_addr(&address(name)?) else {
        return Ok(false);
    };
    // Its end of the connection closes with it.
    stream.read_to_end(&mut Vec::new())?;
    Ok(true)
}

/// What the guard holds.
struct Held {
    pods: aya::maps::HashMap<MapData, u64, Pod>,
    links: HashMap<u64, Vec<OwnedFd>>,
}

impl Held {
    fn obey(&mut self, order: &str) -> Result<()> {
        let mut words = order.split_whitespace();
        let what = words.next().unwrap_or_default();
        let cookie: u64 = words.next().context("no pod")?.parse()?;
        if what == "hold" {
            let links = words.map(|id| Ok(link(id.parse()?)?));
            self.links.insert(cookie, links.collect::<Result<_>>()?);
        } else {
            self.links.remove(&cookie);
        }
        Ok(())
    }

    /// The daemon is gone: nobody answers at the anchors any more, and whoever binds their ports must not get their clients.
    fn close(&mut self) {
        for cookie in self.links.keys() {
            let Ok(mut pod) = self.pods.get(cookie, 0) else {
                continue;
            };
            pod.anchor4 = Address::default();
            pod.anchor6 = Address::default();
            if let Err(error) = self.pods.insert(cookie, pod, 0) {
                tracing::error!(%error, "a pod stays as the daemon left it");
            }
        }
    }
}

/// The guard itself: reads orders from standard input.
///
/// # Errors
/// If another guard has the name, or the map is not one of pods.
pub fn run(name: &str, pods: u32) -> Result<()> {
    let listener = UnixListener::bind_addr(&address(name)?)
        .with_context(|| format!("another guard of {name} is there"))?;
    let mut held = Held {
        pods: Map::HashMap(MapData::from_id(pods)?).try_into()?,
        links: HashMap::new(),
    };
    std::thread::spawn(move || await_dismissal(&listener));
    let mut out = io::stdout();
    writeln!(out, "ok")?;
    for order in io::stdin().lock().lines() {
        let order = order?;
        if order == "leave" {
            held.links.clear();
            writeln!(out, "ok")?;
            return Ok(());
        }
        match held.obey(&order) {
            Ok(()) => writeln!(out, "ok")?,
            Err(error) => writeln!(out, "{error:#}")?,
        }
    }
    held.close();
    loop {
        std::thread::park();
    }
}

/// Ends the process when the next daemon, or the administrator, asks for it.
fn await_dismissal(listener: &UnixListener) {
    let own = nix::unistd::geteuid().as_raw();
    for stream in listener.incoming().flatten() {
        let peer = getsockopt(&stream, PeerCredentials);
        if peer.is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own) {
            std::process::exit(0);
        }
    }
}

/// A descriptor of the link with that id (`BPF_LINK_GET_FD_BY_ID`).
fn link(id: u32) -> io::Result<OwnedFd> {
    const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
    /// The part of `union bpf_attr` that the command reads.
    #[repr(C)]
    struct Attributes {
        id: u32,
        next: u32,
        flags: u32,
    }
    let attributes = Attributes {
        id,
        next: 0,
        flags: 0,
    };
    // SAFETY: the command reads the attributes, whose size is given, and returns a new descriptor or an error.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_LINK_GET_FD_BY_ID,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
