//! Wakes the watchers of donated connections, and only when there is something to do.
//!
//! A donated socket must not sit in an epoll set that asks for readability: the kernel wakes such a set for every response
//! that passes through the socket's verdict program (`sk_psock_verdict_data_ready` ends with the saved `data_ready`), and a
//! daemon that wakes for every response costs more than the response. So these sockets are asked for hang-ups only, and the
//! kernel programs name the slots to relay.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use kmesh_api::event;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::unix::AsyncFd;
use tracing::error;

use super::Upstreams;
use crate::node::Node;

impl Upstreams {
    /// From now on a hang-up of `stream` wakes the watcher of `slot`.
    ///
    /// # Errors
    /// What `epoll_ctl` says.
    pub(super) fn report_hangup(&self, slot: u32, stream: &TcpStream) -> io::Result<()> {
        let flags = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        Ok(self
            .hangups
            .add(stream, EpollEvent::new(flags, u64::from(slot)))?)
    }
}

/// Wakes watchers whose connection hung up, until the task is aborted.
pub async fn follow_hangups(node: Arc<Node>) {
    let watched = (node.upstreams.hangups.0.as_fd().try_clone_to_owned()).and_then(|epoll| {
        // SAFETY: the descriptor is owned by the value and stays open as long as it.
        Ok(unsafe { AsyncFd::register(epoll) }?)
    });
    let watched = match watched {
        Ok(watched) => watched,
        Err(source) => return error!(%source, "hang-ups of upstreams go unnoticed"),
    };
    let mut events = [EpollEvent::empty(); 64];
    while let Ok(mut ready) = watched.readable().await {
        let count = node
            .upstreams
            .hangups
            .wait(&mut events, EpollTimeout::ZERO)
            .unwrap_or(0);
        if count == 0 {
            ready.clear_ready();
        }
        for event in &events[..count] {
            node.upstreams.wake(event.data() as u32);
        }
    }
}

/// Wakes watchers whose response the kernel left to user space, until the task is aborted.
pub async fn follow_relays(node: Arc<Node>) {
    let relays = node.datapath().relays.take();
    let Some(mut relays) = relays.and_then(|relays| {
        // SAFETY: the descriptor is owned by the map handle and stays open as long as it.
        unsafe { AsyncFd::register(relays) }.ok()
    }) else {
        return error!("relays wait for the reaper");
    };
    while let Ok(mut ready) = relays.readable_mut().await {
        while let Some(record) = ready.get_inner_mut().next() {
            if let Some(slot) = event::relay(&record) {
                node.upstreams.wake(slot);
                node.upstreams.reap.notify_one();
            }
        }
        ready.clear_ready();
    }
}
