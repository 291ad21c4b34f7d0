//! What the splice path needs of user space: entries that go when a connection is over, and acknowledgements that idle servers wait for.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use kmesh_api::pod::{Anchored, AnchoredKey};
use kmesh_api::splice::FlowKey;
use kmesh_api::{Address, event};
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;
use tracing::error;

use crate::node::Node;
use crate::upstream;

/// How long the entries of a client's connection stay after its anchor closed: both ends may still have a last packet to send.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Forgets a spliced connection, a while after its anchor at `local` closed.
pub fn forget(node: &Arc<Node>, key: AnchoredKey, told: Anchored, local: Address) {
    let node = Arc::clone(node);
    let anchor = FlowKey {
        device: told.device,
        local,
        remote: key.client,
    };
    tokio::spawn(async move {
        sleep(LAST_WORDS).await;
        let mut datapath = node.datapath();
        let Ok(peer) = datapath.peers.get(&anchor, 0) else {
            return;
        };
        // A new connection on the same addresses has entries of its own by now.
        if datapath
            .flows
            .get(&peer.client, 0)
            .is_ok_and(|flow| flow.cookie != told.cookie)
        {
            return;
        }
        // What is gone already is what this asks for.
        let _ = datapath.flows.remove(&peer.client);
        let _ = datapath.peers.remove(&anchor);
        let _ = datapath.anchored.remove(&key);
    });
}

/// Ends the anchors of clients that closed without their anchor hearing of it, until the task is aborted.
pub async fn follow_gone(node: Arc<Node>) {
    let gone = node.datapath().gone.take();
    let Some(mut gone) = gone.and_then(|gone| {
        // SAFETY: the descriptor is owned by the map handle and stays open as long as it.
        unsafe { AsyncFd::register(gone) }.ok()
    }) else {
        return error!("anchors of spliced clients that left stay open");
    };
    while let Ok(mut ready) = gone.readable_mut().await {
        while let Some(record) = ready.get_inner_mut().next() {
            if let Some(cookie) = event::cookie(&record) {
                node.anchors().leave(cookie);
            }
        }
        ready.clear_ready();
    }
}

/// Ends the connections of clients and upstreams while the programs at the devices still bring their last packets where they belong: a daemon that
/// leaves calls this before it lets go of them.
pub fn end(node: &Node) {
    for anchor in node.anchors().all() {
        anchor.close();
    }
    upstream::reset_spliced(node, |_| true);
}

/// The same for one pod, which is released.
pub fn end_pod(node: &Node, pod: u32) {
    let entries: Vec<_> = node.datapath().anchored.iter().flatten().collect();
    for (_, told) in entries.iter().filter(|(key, _)| key.pod == pod) {
        if let Some(anchor) = node.anchors().get(told.cookie) {
            anchor.close();
        }
    }
    upstream::reset_spliced(node, |key| key.pod == pod);
}

/// Makes the kernel send an acknowledgement on an idle connection: leaving repair mode, a socket probes its peer's window
/// (`do_tcp_setsockopt`, `tcp_send_window_probe`), and the program at the device puts in what is owed.
///
/// # Errors
/// What `setsockopt` says; it takes `CAP_NET_ADMIN` over the socket's namespace.
pub fn acknowledge(stream: &TcpStream) -> io::Result<()> {
    for repair in [1, 0] {
        set(stream, libc::TCP_REPAIR, repair)?;
    }
    Ok(())
}

fn set(stream: &TcpStream, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option takes an int, and the pointer is to a live one.
    let failed = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Resets a connection at once, whoever else holds the descriptor (`tcp_disconnect`).
pub fn reset(stream: &TcpStream) {
    // SAFETY: an address of family AF_UNSPEC, as long as said.
    unsafe {
        let nowhere: libc::sockaddr = std::mem::zeroed();
        libc::connect(
            stream.as_raw_fd(),
            &raw const nowhere,
            size_of::<libc::sockaddr>() as libc::socklen_t,
        );
    }
}
