//! The process that holds the links.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData};
use hyper::Method;
use kmesh_api::Address;
use kmesh_api::pod::Pod;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::admin::{Answer, Call, GUARD, Service, Socket, serve};

/// What the guard holds.
struct Held {
    pods: aya::maps::HashMap<MapData, u64, Pod>,
    links: HashMap<u64, Vec<OwnedFd>>,
}

impl Held {
    fn hold(&mut self, cookie: u64, ids: &[u8]) -> Result<()> {
        let ids: Vec<u32> = serde_json::from_slice(ids)?;
        let links = ids.into_iter().map(|id| {
            let error = || format!("link {id}");
            link(id).with_context(error)
        });
        self.links.insert(cookie, links.collect::<Result<_>>()?);
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

/// A connection of the daemon's, of the next daemon's or of the administrator's.
struct Orders {
    held: Arc<Mutex<Held>>,
    leave: mpsc::Sender<()>,
}

impl Orders {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for Orders {
    async fn answer(&self, call: Call) -> Answer {
        let pod = call.path.strip_prefix("/pods/");
        match (call.method, pod.map(str::parse::<u64>)) {
            (Method::PUT, Some(Ok(cookie))) => match self.held().hold(cookie, &call.body) {
                Ok(()) => Answer::ok(""),
                Err(error) => Answer::refused(format!("{error:#}")),
            },
            (Method::DELETE, Some(Ok(cookie))) => {
                self.held().links.remove(&cookie);
                Answer::ok("")
            }
            (Method::DELETE, None) if call.path == "/" => {
                self.held().links.clear();
                // Full means that it was told before.
                let _ = self.leave.try_send(());
                Answer::ok("")
            }
            _ => Answer::unknown(),
        }
    }
}

/// The guard of the daemon `name`, until it is told to leave; `pods` is the id of the map of pods. Standard input ends with the daemon.
///
/// # Errors
/// If another guard has the name, or the map is not one of pods.
pub async fn run(run_dir: &Path, name: &str, pods: u32) -> Result<()> {
    let socket = Socket::listen(run_dir, name, GUARD)?;
    let held = Arc::new(Mutex::new(Held {
        pods: Map::HashMap(MapData::from_id(pods)?).try_into()?,
        links: HashMap::new(),
    }));
    let (leave, mut left) = mpsc::channel(1);
    let served = Arc::clone(&held);
    tokio::spawn(serve(socket, move || Orders {
        held: Arc::clone(&served),
        leave: leave.clone(),
    }));
    let mut out = io::stdout();
    writeln!(out, "listening").and_then(|()| out.flush())?;
    let mut lifeline = pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    let mut nothing = [0];
    tokio::select! {
        _ = left.recv() => return Ok(()),
        // Nothing is ever said.
        _ = lifeline.read(&mut nothing) => {}
    }
    held.lock().unwrap_or_else(PoisonError::into_inner).close();
    left.recv().await;
    Ok(())
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
