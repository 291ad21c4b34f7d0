//! Closing upstreams: what the kernel retired, what died, what was not used for too long, what is not wanted any more.
//!
//! Hang-ups, relays and configurations wake the reaper. What the kernel retires by itself (a full pool, a client that left)
//! it does not announce, so while exchanges go on the reaper looks by itself, and ever more rarely while nothing happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use kmesh_api::pool::{ALIVE, DEAD, FREE, LEASED, LINGERING, PoolKey, RELAY, RETIRED, UNWANTED};
use tokio::time::timeout;
use tracing::warn;

use super::{Donated, record, vacate};
use crate::fallback::{cut, reset};
use crate::node::Node;
use crate::splice;

/// Between two looks while exchanges go on.
const BUSY: Duration = Duration::from_millis(10);
/// How long an idle server waits for an acknowledgement: well below the 200 ms after which it sends again.
const OWED: Duration = Duration::from_millis(30);
/// Between two looks while nothing happens: a client that left is not urgent then.
const QUIET: Duration = Duration::from_secs(5);

/// Reaps until the task is aborted.
pub async fn follow_retired(node: Arc<Node>) {
    let mut pause = BUSY;
    let mut leases = 0;
    loop {
        let look = reap(&node);
        let moved = std::mem::replace(&mut leases, look.leases) != look.leases;
        pause = if moved || look.busy {
            BUSY
        } else {
            (pause * 2).min(QUIET)
        };
        let news = node.upstreams.reap.notified();
        if look.upstreams == 0 {
            news.await;
        } else if timeout(pause, news).await.is_ok() {
            pause = BUSY;
        }
    }
}

/// What the reaper saw.
struct Look {
    /// Connections that there are, the kernel's and the idle ones here.
    upstreams: usize,
    /// Sum of the numbers of leases: changes when one is taken.
    leases: u64,
    /// An exchange is under way, or something waits to be closed.
    busy: bool,
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
        if unwanted(key) {
            record.set_unwanted();
        }
    }
    node.upstreams.forget_idle(unwanted);
    node.upstreams.reap.notify_one();
}

/// A client is gone. The server of an exchange that it still had is told by the end of the connection, as Envoy tells it; the
/// kernel retires the slot with what the server sends, or the reaper does when the server hangs up.
pub fn abandon(node: &Node, client: u64) {
    for slot in slots(node) {
        let Some(record) = record(node, slot) else {
            continue;
        };
        let Some(lease) = record.open_lease(client) else {
            continue;
        };
        // The answer may be complete by now and the connection somebody else's. Not after this, so look again.
        record.set_unwanted();
        let state = node.upstreams.state();
        let Some(donated) = state.donated.get(&slot) else {
            continue;
        };
        if record.open_lease(client) == Some(lease) {
            // An error says that the connection is closed already.
            let _ = donated.stream.shutdown(std::net::Shutdown::Both);
        }
        node.upstreams.reap.notify_one();
    }
}

/// Whether a client's connection is neither here nor on its way.
fn is_gone(node: &Node, client: u64) -> bool {
    if node.anchors().contains_key(&client) {
        return false;
    }
    let datapath = node.datapath();
    let mut clients = datapath.anchored.iter().filter_map(Result::ok);
    !clients.any(|(_, anchored)| anchored.cookie == client)
}

/// Closes one of the kernel's free connections of that pool, to make room for one of user space.
pub fn reclaim(node: &Arc<Node>, key: PoolKey) {
    for slot in slots(node) {
        let Some(record) = record(node, slot) else {
            continue;
        };
        let own = record.pod() == key.pod && record.endpoint() == key.endpoint;
        if own && record.state() == FREE && node.datapath().withdraw(slot).unwrap_or(false) {
            close(node, slot);
            return;
        }
    }
}

/// Resets every spliced connection that the kernel owns.
pub fn reset_spliced(node: &Node) {
    let state = node.upstreams.state();
    for donated in state.donated.values().filter(|donated| donated.spliced) {
        splice::reset(&donated.stream);
    }
}

fn slots(node: &Node) -> Vec<u32> {
    node.upstreams.state().donated.keys().copied().collect()
}

/// Closes what is retired or may not be leased again, and ends exchanges whose upstream died.
fn reap(node: &Arc<Node>) -> Look {
    let mut look = Look {
        upstreams: expire_idle(node),
        leases: 0,
        busy: false,
    };
    for slot in slots(node) {
        let Some(record) = record(node, slot) else {
            continue;
        };
        look.upstreams += 1;
        look.leases = look.leases.wrapping_add(record.lease());
        if record.state() == FREE {
            look.busy |= acknowledge(node, slot);
        }
        if record.state() == FREE && is_unused(node, slot, record.lease()) {
            record.set_unwanted();
        }
        match (record.state(), record.dead()) {
            (FREE, DEAD | UNWANTED) => {
                // Refused when a client has just leased it: then its exchange decides.
                if let Err(error) = node.datapath().withdraw(slot) {
                    warn!(slot, %error, "the kernel gives no upstreams back");
                }
            }
            (LEASED | RELAY, DEAD) if record.done() == record.lease() => record.set_state(RETIRED),
            // A leaseholder that cannot be told and is not gone has not been accepted yet, or has other answers coming.
            (LEASED | RELAY, DEAD) if reset(node, record) || is_gone(node, record.client()) => {
                record.set_state(RETIRED);
            }
            // In case the kernel's word was lost; a relay under way does not hear it.
            (RELAY, _) if record.done() != record.lease() && record.dead() == ALIVE => {
                node.upstreams.wake(slot);
            }
            _ => {}
        }
        if record.state() == LINGERING && (record.sending() == 0 || record.dead() == DEAD) {
            record.set_state(RETIRED);
        }
        if record.state() == RETIRED {
            if record.sending() != 0 && record.done() == record.lease() {
                cut(node, record);
            }
            close(node, slot);
        } else {
            look.busy |= record.state() != FREE;
        }
    }
    look
}

/// Has an idle server told what its last client has of it, unless the next lease does so within [`OWED`]; whether that is still to come.
fn acknowledge(node: &Node, slot: u32) -> bool {
    let Some(seam) = node.datapath().seams.at(slot as usize) else {
        return false;
    };
    // SAFETY: a live, aligned field of the mapping that both sides access as one word.
    let owed = unsafe { AtomicU32::from_ptr(&raw mut (*seam.as_ptr()).owed) }.load(SeqCst) != 0;
    let mut state = node.upstreams.state();
    let Some(donated) = state.donated.get_mut(&slot) else {
        return false;
    };
    if !owed {
        donated.owed = None;
        return false;
    }
    if donated.owed.get_or_insert_with(Instant::now).elapsed() >= OWED {
        donated.owed = None;
        if let Err(error) = splice::acknowledge(&donated.stream) {
            warn!(slot, %error, "an idle server was not told that its answer arrived");
        }
    }
    true
}

/// Whether a donated connection was not leased for as long as it may be unused.
fn is_unused(node: &Node, slot: u32, lease: u64) -> bool {
    let mut state = node.upstreams.state();
    let Some(donated) = state.donated.get_mut(&slot) else {
        return false;
    };
    if donated.used.0 != lease {
        donated.used = (lease, Instant::now());
    }
    let (_, since) = donated.used;
    (donated.patience).is_some_and(|patience| since.elapsed() >= patience)
}

/// Closes idle connections of user space that ended or were not used for too long; says how many are left.
fn expire_idle(node: &Node) -> usize {
    let mut state = node.upstreams.state();
    let mut closed = Vec::new();
    for idle in state.idle.values_mut() {
        closed.extend(idle.extract_if(.., |connection| !connection.is_open()));
    }
    state.idle.retain(|_, idle| !idle.is_empty());
    let left = state.idle.values().map(Vec::len).sum();
    drop(state);
    drop(closed);
    left
}

/// Closes a retired connection and makes its slot vacant.
fn close(node: &Arc<Node>, slot: u32) {
    let removed = node.upstreams.state().donated.remove(&slot);
    if let Some(Donated {
        watcher,
        stream,
        connection,
        cookie,
        spliced,
        ..
    }) = removed
    {
        if spliced {
            // While the programs know what its server expects: an end in the socket's own numbers would be none.
            splice::reset(&stream);
        }
        // Aborting drops the socket and with it the connection.
        watcher.abort();
        vacate(node, slot, &connection, cookie);
    }
}
