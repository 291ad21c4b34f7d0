//! Upstream connections: opened in the client pod's namespace, used once in user space, then given to the kernel.
//!
//! ```text
//!            open            first exchange           donate
//!  VACANT ---------> USER --------------------> USER ---------> FREE <-> LEASED
//!    ^                                                            |        |  \
//!    |                 reap: close, forget, vacate                v        v   v
//!    +--------------------------------------------------------- RETIRED <-+-- RELAY
//! ```
//! The kernel moves a slot between `FREE`, `LEASED`, `RELAY` and `RETIRED`; everything else is done here.

mod open;
mod record;
mod wake;
mod watch;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kmesh_api::limits::UPSTREAMS_MAX;
use kmesh_api::pool::{Connection, PoolKey, VACANT};
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

pub use self::open::{Opened, Slot, UpstreamError, open};
pub use self::record::Record;
pub use self::wake::{follow_hangups, follow_relays};
pub use self::watch::{donate, reap, retire};
use crate::fallback::Idle;
use crate::node::Node;

/// A connection that the kernel owns; its watcher holds the socket.
struct Donated {
    watcher: AbortHandle,
    /// Tells the watcher to look.
    wake: Arc<Notify>,
    connection: Connection,
    cookie: Option<u64>,
}

#[derive(Default)]
struct State {
    /// Slots not in use; the longest vacant is used next.
    vacant: VecDeque<u32>,
    donated: BTreeMap<u32, Donated>,
    idle: HashMap<PoolKey, Vec<Idle>>,
}

/// Upstreams of a node.
pub struct Upstreams {
    state: Mutex<State>,
    /// Reports donated connections whose far end hung up.
    hangups: Epoll,
}

/// Idle user-space connections kept per pod and endpoint; more are closed.
const IDLE_MAX: usize = 128;

impl Upstreams {
    /// No upstreams.
    ///
    /// # Errors
    /// If there is no descriptor left for the epoll instance.
    pub(crate) fn new() -> io::Result<Self> {
        let state = State {
            vacant: (0..UPSTREAMS_MAX as u32).collect(),
            ..State::default()
        };
        Ok(Self {
            state: Mutex::new(state),
            hangups: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
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

    /// An idle connection of the user-space path that is still open.
    pub fn take_idle(&self, key: PoolKey) -> Option<Idle> {
        let mut state = self.state();
        let idle = state.idle.get_mut(&key)?;
        while let Some(connection) = idle.pop() {
            if connection.is_open() {
                return Some(connection);
            }
        }
        None
    }

    /// Closes idle connections of the user-space path.
    fn forget_idle(&self, unwanted: impl Fn(PoolKey) -> bool) {
        self.state().idle.retain(|key, _| !unwanted(*key));
    }

    /// Keeps a connection for the next request of the user-space path.
    pub fn keep_idle(&self, key: PoolKey, connection: Idle) {
        let mut state = self.state();
        let idle = state.idle.entry(key).or_default();
        idle.retain(Idle::is_open);
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }
}

/// The record of `slot`.
pub fn record(node: &Node, slot: u32) -> Option<Record> {
    node.datapath().upstreams.at(slot as usize).map(Record::new)
}

/// Forgets a connection and makes its slot vacant.
fn vacate(node: &Node, slot: u32, connection: &Connection, cookie: Option<u64>) {
    {
        let mut datapath = node.datapath();
        // Entries that are gone already are what this asks for.
        let _ = datapath.expected.remove(connection);
        if let Some(cookie) = cookie {
            let _ = datapath.slots.remove(&cookie);
        }
    }
    if let Some(record) = record(node, slot) {
        record.set_server(0);
        record.set_client(0);
        record.set_state(VACANT);
    }
    node.upstreams.state().vacant.push_back(slot);
}
