//! Connections that the kernel owns: donating them and watching them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kmesh_api::limits::POOL_MAX;
use kmesh_api::pool::{Arrivals, Pool, PoolKey, bpf_spin_lock};
use kmesh_api::slot::{DEAD, RELAY};
use kmesh_orchestration::slot;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::{Donated, Opened, Record, peer, record};
use crate::buffers::Buffers;
use crate::fallback::relay;
use crate::load::Datapath;
use crate::node::Node;

/// Gives an idle connection to the kernel, which may leave it unused for `patience`. One that it cannot use is closed.
pub fn donate(node: &Arc<Node>, opened: Opened, patience: Option<Duration>) {
    let Opened {
        stream,
        slot: Some(slot),
        sequences,
        key,
        ticket,
    } = opened
    else {
        return;
    };
    let Some(record) = record(node, slot.number) else {
        return;
    };
    // Whoever has not claimed it by now is not the far end.
    let _ = node.datapath().expected.remove(&slot.connection);
    let owner = node
        .upstreams
        .owner(SocketAddr::from(slot.connection.server).ip());
    let server = owner.filter(|_| {
        let found = sequences.and_then(|own| peer::server(record, own, &node.without));
        if let Some((cookie, socket)) = found {
            record.set_server_socket(socket);
            record.set_server(cookie);
        }
        found.is_some()
    });
    let spliced = slot.spliced();
    let remote = server.is_none() && spliced.is_none();
    let prepared = prepare(&mut node.datapath(), &stream, slot.number, key, remote);
    let cookie = match prepared {
        Ok(cookie) => spliced.or(cookie),
        Err(error) => {
            warn!(slot = slot.number, %error, "an upstream stays in user space");
            return;
        }
    };
    // Out of the runtime's epoll set, which would wake this daemon for every response.
    let watched = stream.into_std().and_then(|stream| {
        node.upstreams.report_hangup(slot.number, &stream)?;
        Ok(Arc::new(stream))
    });
    let stream = match watched {
        Ok(stream) => stream,
        Err(error) => {
            warn!(slot = slot.number, %error, "an upstream is closed: it could not be watched");
            return;
        }
    };
    if spliced.is_some() {
        // Should this daemon be killed: an end in the socket's own numbers would be none to its server, and the program at the device
        // can only put a reset right.
        let _ = socket2::SockRef::from(&*stream).set_linger(Some(std::time::Duration::ZERO));
    }
    let (number, connection) = slot.keep();
    let wake = Arc::new(Notify::new());
    let watcher = watch(
        Arc::clone(node),
        number,
        record,
        Arc::clone(&stream),
        Arc::clone(&wake),
    );
    let donated = Donated {
        watcher: tokio::spawn(watcher).abort_handle(),
        stream,
        wake,
        connection,
        cookie,
        spliced: spliced.is_some(),
        key,
        server,
        patience,
        used: (record.word().lease(), Instant::now()),
        owed: None,
        _ticket: ticket,
    };
    node.upstreams.state().donated.insert(number, donated);
    hand_over(node, number, record);
    node.upstreams.reap.notify_one();
}

/// Puts the slot into its pool.
fn hand_over(node: &Node, number: u32, record: Record) {
    let lease = record.word().lease();
    let donated = node.datapath().donate(number);
    match donated {
        Ok(true) => return,
        // The pool is full, or the connection is not wanted any more: the reaper closes it.
        Ok(false) => {}
        Err(error) => warn!(slot = number, %error, "the kernel takes no upstreams"),
    }
    slot::retire(&record, lease);
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
    Buffers::hold_any(stream)?;
    let cookie = socket_cookie(stream)?;
    datapath.slots.insert(cookie, Arrivals::new(slot), 0)?;
    let inserted = datapath
        .upstream_sockets
        .insert(slot, stream.as_raw_fd(), 0);
    if let Err(error) = inserted {
        let _ = datapath.slots.remove(&cookie);
        return Err(error.into());
    }
    Ok(Some(cookie))
}

fn socket_cookie(stream: &TcpStream) -> io::Result<u64> {
    socket2::SockRef::from(stream).cookie()
}

/// Waits for what the kernel leaves to user space on a donated connection: a response to relay, or its end.
async fn watch(
    node: Arc<Node>,
    number: u32,
    record: Record,
    stream: Arc<std::net::TcpStream>,
    wake: Arc<Notify>,
) {
    loop {
        wake.notified().await;
        let word = record.word();
        if word.state() == RELAY {
            match relay(&node, record, word.lease(), &stream).await {
                Ok(true) => {
                    if !slot::take_back(&record, word.lease()) {
                        break;
                    }
                    hand_over(&node, number, record);
                }
                Ok(false) => break,
                Err(error) => {
                    debug!(slot = number, %error, "a relayed response failed");
                    break;
                }
            }
        }
        match stream.peek(&mut [0; 1]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // End of stream, an error, or bytes that nobody asked for: not usable again.
            _ if record.word().state() != RELAY => break,
            _ => wake.notify_one(),
        }
    }
    // The reaper sees to an exchange that is under way.
    slot::mark_any(&record, DEAD);
    node.upstreams.reap.notify_one();
}
