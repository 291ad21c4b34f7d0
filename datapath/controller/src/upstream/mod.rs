//! Upstream connections: opened in the client pod's namespace, used once in user space, then given to the kernel.
//!
//! The states of a connection's slot, and who moves it between them: `kmesh_orchestration::slot`.

mod breaker;
mod grow;
mod open;
mod peer;
mod reap;
mod record;
mod verify;
mod wake;
mod wanted;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kmesh_api::limits::UPSTREAMS_MAX;
use kmesh_api::pool::{Connection, PoolKey};
use kmesh_orchestration::slot;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::error;

pub use self::breaker::{Breaker, Ticket};
pub use self::grow::grow;
pub use self::open::{Opened, Slot, UpstreamError, open};
pub use self::reap::{abandon, follow_retired, keep_endpoints, reclaim, release, reset_spliced};
pub use self::record::Record;
pub use self::verify::{Leases, follow_wrong, verify};
pub use self::wake::{follow_hangups, follow_relays};
use self::wanted::Wanted;
pub use self::watch::donate;
use crate::defence::Without;
use crate::fallback::{Idle, Shared};
use crate::node::Node;
use crate::shares::Shares;

/// A connection that the kernel owns; its watcher holds the socket.
struct Donated {
    watcher: AbortHandle,
    stream: Arc<TcpStream>,
    /// Tells the watcher to look.
    wake: Arc<Notify>,
    connection: Connection,
    cookie: Option<u64>,
    /// Whether its packets are taken over: the socket itself knows nothing of them.
    spliced: bool,
    key: PoolKey,
    /// Cookie of the namespace of its server, if that is on this node.
    server: Option<u64>,
    /// How long it may be unused.
    patience: Option<Duration>,
    /// The lease that it had when it was looked at last, and when that was new.
    used: (u64, Instant),
    /// Since when its server waits for an acknowledgement.
    owed: Option<Instant>,
    /// Its part of the cluster's limit.
    _ticket: Ticket,
}

struct State {
    /// Slots not in use; the longest vacant is used next.
    vacant: VecDeque<u32>,
    /// Slots in use, by pod.
    slots: Shares,
    donated: BTreeMap<u32, Donated>,
    idle: HashMap<PoolKey, Vec<Idle>>,
    shared: HashMap<PoolKey, Shared>,
    opening: HashMap<PoolKey, Arc<tokio::sync::Mutex<()>>>,
    breakers: HashMap<(u32, u32), Arc<Breaker>>,
    /// Pools that are being filled.
    growing: HashSet<PoolKey>,
    wrong: verify::Wrong,
    wanted: Wanted,
}

/// Upstreams of a node.
pub struct Upstreams {
    state: Mutex<State>,
    /// Reports donated connections whose far end hung up.
    hangups: Epoll,
    /// Something may have to be closed.
    reap: Notify,
    /// Pods or endpoints left.
    changed: Notify,
}

/// Idle user-space connections kept per pod and endpoint; more are closed.
const IDLE_MAX: usize = 128;

impl Upstreams {
    /// No upstreams.
    ///
    /// # Errors
    /// If there is no descriptor left for the epoll instance.
    pub(crate) fn new(without: &Without) -> io::Result<Self> {
        let state = State {
            vacant: (0..UPSTREAMS_MAX as u32).collect(),
            slots: Shares::new(without.limit(UPSTREAMS_MAX as u32)),
            donated: BTreeMap::new(),
            idle: HashMap::new(),
            shared: HashMap::new(),
            opening: HashMap::new(),
            breakers: HashMap::new(),
            growing: HashSet::new(),
            wrong: verify::Wrong::default(),
            wanted: Wanted::default(),
        };
        Ok(Self {
            state: Mutex::new(state),
            hangups: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            reap: Notify::new(),
            changed: Notify::new(),
        })
    }

    /// Lets the watcher of a donated connection look at it.
    fn wake(&self, slot: u32) {
        if let Some(donated) = self.state().donated.get(&slot) {
            donated.wake.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Slots that the kernel owns.
    pub fn donated(&self) -> usize {
        self.state().donated.len()
    }

    /// Slots that a pod has, and how often it was refused another because it has its share.
    pub fn slots_of(&self, pod: u32) -> (u32, u64) {
        self.state().slots.of(pod)
    }

    /// What a pod uses of a cluster.
    pub fn breaker(&self, pod: u32, cluster: u32) -> Arc<Breaker> {
        Arc::clone(self.state().breakers.entry((pod, cluster)).or_default())
    }

    /// An idle connection of the user-space path that is still open.
    pub fn take_idle(&self, key: PoolKey) -> Option<Idle> {
        let mut state = self.state();
        let idle = state.idle.get_mut(&key)?;
        let mut closed = Vec::new();
        let mut found = None;
        while let Some(connection) = idle.pop() {
            if connection.is_open() {
                found = Some(connection);
                break;
            }
            closed.push(connection);
        }
        // What goes with a connection takes the lock itself.
        drop(state);
        drop(closed);
        found
    }

    /// Keeps a connection for the next request of the user-space path.
    pub fn keep_idle(&self, key: PoolKey, connection: Idle) {
        let mut state = self.state();
        let idle = state.idle.entry(key).or_default();
        let mut closed: Vec<Idle> = idle.extract_if(.., |other| !other.is_open()).collect();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        } else {
            closed.push(connection);
        }
        drop(state);
        drop(closed);
        self.reap.notify_one();
    }

    /// Closes idle connections of the user-space path.
    fn forget_idle(&self, unwanted: impl Fn(PoolKey) -> bool) {
        // Asked without the lock, which the answer takes.
        let keys: HashSet<PoolKey> = {
            let state = self.state();
            let all = state.idle.keys().chain(state.shared.keys());
            all.chain(state.opening.keys()).copied().collect()
        };
        let keys: HashSet<PoolKey> = keys.into_iter().filter(|key| unwanted(*key)).collect();
        let mut state = self.state();
        let idle: Vec<_> = (state.idle.extract_if(|key, _| keys.contains(key))).collect();
        let shared: Vec<_> = (state.shared.extract_if(|key, _| keys.contains(key))).collect();
        state.opening.retain(|key, _| !keys.contains(key));
        state
            .breakers
            .retain(|_, breaker| Arc::strong_count(breaker) > 1);
        drop(state);
        drop((idle, shared));
    }

    /// The pod's HTTP/2 connection to the endpoint, if it is open.
    pub fn shared(&self, key: PoolKey) -> Option<Shared> {
        let shared = self.state().shared.get(&key).cloned();
        shared.filter(|shared| !shared.is_closed())
    }

    /// Keeps an HTTP/2 connection for all requests to come.
    pub fn keep_shared(&self, key: PoolKey, shared: Shared) {
        self.state().shared.insert(key, shared);
    }

    /// Forgets an HTTP/2 connection that ended, unless there is another one already.
    pub fn forget_shared(&self, key: PoolKey) {
        let mut state = self.state();
        if state.shared.get(&key).is_some_and(Shared::is_closed) {
            state.shared.remove(&key);
        }
    }

    /// Whoever holds this opens the HTTP/2 connection.
    pub fn opening(&self, key: PoolKey) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.state().opening.entry(key).or_default())
    }
}

/// The record of `slot`.
pub fn record(node: &Node, slot: u32) -> Option<Record> {
    node.datapath().upstreams.at(slot as usize).map(Record::new)
}

/// The connection of a slot that the kernel owns.
pub fn donated(node: &Node, slot: u32) -> Option<Arc<TcpStream>> {
    let state = node.upstreams.state();
    state
        .donated
        .get(&slot)
        .map(|donated| Arc::clone(&donated.stream))
}

/// Forgets a connection and makes its slot vacant.
fn vacate(node: &Node, number: u32, connection: Option<&Connection>, cookie: Option<u64>) {
    {
        let mut datapath = node.datapath();
        // Entries that are gone already are what this asks for.
        if let Some(connection) = connection {
            let _ = datapath.expected.remove(connection);
        }
        if let Some(cookie) = cookie {
            let _ = datapath.slots.remove(&cookie);
        }
    }
    forget_seam(node, number);
    let Some(record) = record(node, number) else {
        return;
    };
    record.set_server(0);
    record.set_server_socket(0);
    record.forget_claim();
    record.set_client(0);
    let pod = record.pod();
    if slot::vacate(&record) {
        let mut state = node.upstreams.state();
        state.slots.give(pod);
        state.vacant.push_back(number);
    } else {
        // Nobody else moves a slot that is retired or in user space: its number is not given out again.
        error!(slot = number, word = ?record.word(), "a slot is not the daemon's to close");
    }
}

/// A spliced slot is one no more.
fn forget_seam(node: &Node, slot: u32) {
    let mut datapath = node.datapath();
    let Some(seam) = datapath.seams.at(slot as usize) else {
        return;
    };
    // SAFETY: a live value of the mapping; the slot is nobody's any more.
    let key = unsafe {
        let seam = seam.as_ptr();
        (&raw mut (*seam).cookie).write_volatile(0);
        (&raw const (*seam).key).read_volatile()
    };
    if datapath
        .peers
        .get(&key, 0)
        .is_ok_and(|peer| peer.slot == slot)
    {
        let _ = datapath.peers.remove(&key);
    }
}
