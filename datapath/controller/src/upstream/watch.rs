//! Connections that the kernel owns: donating them, watching them, closing them.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use kmesh_api::limits::POOL_MAX;
use kmesh_api::pool::{
    ALIVE, DEAD, FREE, LEASED, Pool, PoolKey, RELAY, RETIRED, UNWANTED, USER, bpf_spin_lock,
};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::{Donated, Opened, Record, record, vacate};
use crate::fallback::{cut, relay, reset};
use crate::load::Datapath;
use crate::node::Node;

/// Gives an idle connection to the kernel. One that it cannot use is closed.
pub fn donate(node: &Arc<Node>, opened: Opened) {
    let Opened {
        stream,
        slot: Some(slot),
        key,
    } = opened
    else {
        return;
    };
    let Some(record) = record(node, slot.number) else {
        return;
    };
    let remote = record.server() == 0;
    let prepared = prepare(&mut node.datapath(), &stream, slot.number, key, remote);
    let cookie = match prepared {
        Ok(cookie) => cookie,
        Err(error) => {
            warn!(slot = slot.number, %error, "an upstream stays in user space");
            return;
        }
    };
    // Out of the runtime's epoll set, which would wake this daemon for every response.
    let watched = stream.into_std().and_then(|stream| {
        node.upstreams.report_hangup(slot.number, &stream)?;
        Ok(stream)
    });
    let stream = match watched {
        Ok(stream) => stream,
        Err(error) => {
            warn!(slot = slot.number, %error, "an upstream is closed: it could not be watched");
            return;
        }
    };
    let (number, connection) = slot.keep();
    let wake = Arc::new(Notify::new());
    let watcher = watch(Arc::clone(node), number, record, stream, Arc::clone(&wake));
    let donated = Donated {
        watcher: tokio::spawn(watcher).abort_handle(),
        wake,
        connection,
        cookie,
    };
    node.upstreams.state().donated.insert(number, donated);
    hand_over(node, number, record);
}

/// Puts the slot into its pool.
fn hand_over(node: &Node, slot: u32, record: Record) {
    let donated = node.datapath().donate(slot);
    match donated {
        Ok(true) => {}
        // The pool is full: the reaper closes the connection.
        Ok(false) => record.set_state(RETIRED),
        Err(error) => {
            warn!(slot, %error, "the kernel takes no upstreams");
            record.set_state(RETIRED);
        }
    }
}

/// Makes sure that the pool exists and that responses from another node come back through the kernel.
fn prepare(
    datapath: &mut Datapath,
    stream: &TcpStream,
    slot: u32,
    key: PoolKey,
    remote: bool,
) -> anyhow::Result<Option<u64>> {
    const NO_EXIST: u64 = 1;
    if datapath.pools.get(&key, 0).is_err() {
        let empty = Pool {
            lock: bpf_spin_lock::default(),
            count: 0,
            slots: [0; POOL_MAX],
        };
        // Losing a race against another donation is fine: the pool exists then.
        let _ = datapath.pools.insert(key, empty, NO_EXIST);
    }
    if !remote {
        return Ok(None);
    }
    let cookie = socket_cookie(stream)?;
    datapath.slots.insert(cookie, slot, 0)?;
    datapath
        .upstream_sockets
        .insert(slot, stream.as_raw_fd(), 0)?;
    Ok(Some(cookie))
}

fn socket_cookie(stream: &TcpStream) -> io::Result<u64> {
    socket2::SockRef::from(stream).cookie()
}

/// Waits for what the kernel leaves to user space on a donated connection: a response to relay, or its end.
async fn watch(
    node: Arc<Node>,
    slot: u32,
    record: Record,
    stream: std::net::TcpStream,
    wake: Arc<Notify>,
) {
    loop {
        wake.notified().await;
        if record.state() == RELAY {
            match relay(&node, record, &stream).await {
                Ok(true) => {
                    record.set_state(USER);
                    hand_over(&node, slot, record);
                }
                Ok(false) => break,
                Err(error) => {
                    debug!(slot, %error, "a relayed response failed");
                    break;
                }
            }
        }
        match stream.peek(&mut [0; 1]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // End of stream, an error, or bytes that nobody asked for: not usable again.
            _ if record.state() != RELAY => break,
            _ => wake.notify_one(),
        }
    }
    // From here on nobody leases it: `dead` is checked after each `pop`. The reaper sees to a lease that won the race.
    record.set_dead(DEAD);
}

/// Makes sure that no donated upstream for which `unwanted` holds is leased again; exchanges in flight may end.
pub fn retire(node: &Node, unwanted: impl Fn(PoolKey) -> bool) {
    for slot in slots(node) {
        let Some(record) = record(node, slot) else {
            continue;
        };
        let key = PoolKey {
            pod: record.pod(),
            endpoint: record.endpoint(),
        };
        if record.dead() == ALIVE && unwanted(key) {
            record.set_dead(UNWANTED);
        }
    }
    node.upstreams.forget_idle(unwanted);
}

fn slots(node: &Node) -> Vec<u32> {
    node.upstreams.state().donated.keys().copied().collect()
}

/// Closes what is retired or may not be leased again, and ends exchanges whose upstream died. Called every few milliseconds.
pub fn reap(node: &Arc<Node>) {
    for slot in slots(node) {
        let Some(record) = record(node, slot) else {
            continue;
        };
        match (record.state(), record.dead()) {
            (FREE, DEAD | UNWANTED) => {
                // Refused when a client has just leased it: then its exchange decides.
                if let Err(error) = node.datapath().withdraw(slot) {
                    warn!(slot, %error, "the kernel gives no upstreams back");
                }
            }
            (LEASED | RELAY, DEAD) if record.done() == record.lease() => record.set_state(RETIRED),
            // A leaseholder that cannot be told has not been accepted yet or is about to end its lease itself.
            (LEASED, DEAD) if reset(node, record) => record.set_state(RETIRED),
            // In case the kernel's word was lost; a relay under way does not hear it.
            (RELAY, _) if record.done() != record.lease() && record.dead() == ALIVE => {
                node.upstreams.wake(slot);
            }
            (RELAY, DEAD) => {
                reset(node, record);
                record.set_state(RETIRED);
            }
            _ => {}
        }
        if record.state() != RETIRED {
            continue;
        }
        if record.sending() != 0 && record.done() == record.lease() {
            cut(node, record);
        }
        let removed = node.upstreams.state().donated.remove(&slot);
        if let Some(Donated {
            watcher,
            connection,
            cookie,
            ..
        }) = removed
        {
            // Aborting drops the socket and with it the connection.
            watcher.abort();
            vacate(node, slot, &connection, cookie);
        }
    }
}
