//! Closing upstreams: what the kernel retired, what died, what was not used for too long, what is not wanted any more.
//!
//! Hang-ups, relays and configurations wake the reaper. What the kernel retires by itself (a full pool, a client that left)
//! it does not announce, so while exchanges go on the reaper looks by itself, and ever more rarely while nothing happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use kmesh_api::pool::PoolKey;
use kmesh_api::slot::{ALIVE, DEAD, FREE, LEASED, LINGERING, RELAY, RETIRED, UNWANTED};
use kmesh_orchestration::slot;
use tokio::time::timeout;
use tracing::{error, warn};

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
    for number in slots(node) {
        let Some(record) = record(node, number) else {
            continue;
        };
        let key = PoolKey {
            pod: record.pod(),
            endpoint: record.endpoint(),
        };
        if unwanted(key) {
            slot::mark_any(&record, UNWANTED);
        }
    }
    node.upstreams.forget_idle(unwanted);
    node.upstreams.reap.notify_one();
}

/// A client is gone. The server of an exchange that it still had is told by the end of the connection, as Envoy tells it; the
/// kernel retires the slot with what the server sends, or the reaper does when the server hangs up.
pub fn abandon(node: &Node, client: u64) {
    for number in slots(node) {
        let Some(record) = record(node, number) else {
            continue;
        };
        if !record.forsake(client) {
            continue;
        }
        // The connection is nobody else's any more, whether the answer is complete by now or not.
        if let Some(donated) = node.upstreams.state().donated.get(&number) {
            // An error says that the connection is closed already.
            let _ = donated.stream.shutdown(std::net::Shutdown::Both);
        }
        node.upstreams.reap.notify_one();
    }
}

/// Whether a client's connection is neither here nor on its way.
fn is_gone(node: &Node, client: u64) -> bool {
    if node.anchors().get(client).is_some() {
        return false;
    }
    let datapath = node.datapath();
    let mut clients = datapath.anchored.iter().filter_map(Result::ok);
    !clients.any(|(_, anchored)| anchored.cookie == client)
}

/// Closes one of the kernel's free connections of that pool, to make room for one of user space.
pub fn reclaim(node: &Arc<Node>, key: PoolKey) {
    for number in slots(node) {
        let Some(record) = record(node, number) else {
            continue;
        };
        let own = record.pod() == key.pod && record.endpoint() == key.endpoint;
        let free = own && record.word().state() == FREE;
        if free && node.datapath().withdraw(number, key).unwrap_or(false) {
            close(node, number);
            return;
        }
    }
}

/// Resets the spliced connections that the kernel owns and `which` picks.
pub fn reset_spliced(node: &Node, which: impl Fn(&PoolKey) -> bool) {
    let state = node.upstreams.state();
    for donated in state.donated.values() {
        if donated.spliced && which(&donated.key) {
            splice::reset(&donated.stream);
        }
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
    for number in slots(node) {
        let Some(record) = record(node, number) else {
            continue;
        };
        look.upstreams += 1;
        let mut word = record.word();
        let lease = word.lease();
        look.leases = look.leases.wrapping_add(lease);
        if word.state() == FREE {
            look.busy |= acknowledge(node, number);
        }
        if word.state() == FREE && is_unused(node, number, lease) {
            slot::mark(&record, lease, UNWANTED);
            word = record.word();
        }
        match (word.state(), word.health()) {
            (FREE, DEAD | UNWANTED) => {
                let key = PoolKey {
                    pod: record.pod(),
                    endpoint: record.endpoint(),
                };
                // Refused when somebody has just taken it: who does finds it not alive.
                if let Err(error) = node.datapath().withdraw(number, key) {
                    warn!(slot = number, %error, "the kernel gives no upstreams back");
                }
            }
            // A leaseholder that cannot be told and is not gone has not been accepted yet, or has other answers coming.
            (LEASED | RELAY, DEAD)
                if !word.is_open() || reset(node, record) || is_gone(node, record.client()) =>
            {
                slot::retire(&record, lease);
            }
            (LINGERING, DEAD) => {
                slot::retire(&record, lease);
            }
            // In case the kernel's word was lost; a relay under way does not hear it.
            (RELAY, ALIVE) if word.is_open() => node.upstreams.wake(number),
            _ => {}
        }
        let word = record.word();
        if word.state() == RETIRED {
            if word.is_sending() && !word.is_open() {
                cut(node, record);
            }
            close(node, number);
        } else {
            look.busy |= word.state() != FREE;
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
fn is_unused(node: &Node, number: u32, lease: u64) -> bool {
    let mut state = node.upstreams.state();
    let Some(donated) = state.donated.get_mut(&number) else {
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
fn close(node: &Arc<Node>, number: u32) {
    let removed = node.upstreams.state().donated.remove(&number);
    if let Some(Donated {
        watcher,
        stream,
        connection,
        cookie,
        key,
        spliced,
        ..
    }) = removed
    {
        // A slot that lay in a pool was taken out of it before it was retired.
        match node.datapath().withdraw(number, key) {
            Ok(false) => {}
            Ok(true) => error!(slot = number, ?key, "a retired slot was in its pool"),
            Err(error) => error!(slot = number, %error, "the kernel gives no upstreams back"),
        }
        if spliced {
            // While the programs know what its server expects: an end in the socket's own numbers would be none.
            splice::reset(&stream);
        }
        // Aborting drops the socket and with it the connection.
        watcher.abort();
        vacate(node, number, Some(&connection), cookie);
    }
}
