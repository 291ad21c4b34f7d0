//! Pools ahead of demand: a pool that had to send a request to user space gets more connections than that one.
//!
//! An endpoint that never answered on one connection while another was open gets none ahead: a server that serves one
//! connection at a time would wait on the spare one for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kmesh_api::pool::PoolKey;
use kmesh_config::model::ClusterConfig;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::{Breaker, donate, open, record};
use crate::node::Node;
use crate::pods::Pod;

/// Most connections opened ahead at a time.
const STEP: usize = 32;
/// How long the accepting side may take to be recognised as on this node.
const RECOGNITION: Duration = Duration::from_millis(100);

/// A pool grows once at a time.
struct Growing<'n>(&'n Node, PoolKey);

impl<'n> Growing<'n> {
    fn begin(node: &'n Node, key: PoolKey) -> Option<Self> {
        let first = node.upstreams.state().growing.insert(key);
        first.then_some(Self(node, key))
    }
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        self.0.upstreams.state().growing.remove(&self.1);
    }
}

/// Opens more connections for a pool that has run empty, until half as many as there are in all are free.
pub async fn grow(
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    endpoint: SocketAddr,
    key: PoolKey,
    cluster: &ClusterConfig,
    breaker: &Arc<Breaker>,
) {
    let Some(_growing) = Growing::begin(node, key) else {
        return;
    };
    let pool = node.datapath().pools.get(&key, 0);
    let free = pool.map_or(0, |pool| pool.count as usize);
    let siblings: Vec<u32> = {
        let state = node.upstreams.state();
        let own = state.donated.iter().filter(|(_, have)| have.key == key);
        own.map(|(slot, _)| *slot).collect()
    };
    if siblings.len() < 2 {
        return;
    }
    let all = breaker.connections_to(key.endpoint) as usize;
    let wanted = (all / 2).min(STEP).saturating_sub(free);
    let is_local = |slot: u32| record(node, slot).is_some_and(|record| record.server() != 0);
    let is_claimed = |slot: u32| record(node, slot).is_some_and(|record| record.claim().is_some());
    let local = siblings.iter().any(|slot| is_local(*slot));
    for _ in 0..wanted {
        let Some(ticket) = breaker.connection(key.endpoint, cluster.max_connections) else {
            return;
        };
        let patience = cluster.connect_timeout;
        let opened = match open(node, pod, endpoint, key.endpoint, patience, ticket).await {
            Ok(opened) => opened,
            Err(error) => {
                debug!(%error, "no connection ahead of demand");
                return;
            }
        };
        let Some(slot) = opened.slot.as_ref().map(|slot| slot.number) else {
            return;
        };
        if local {
            const POLL: Duration = Duration::from_millis(1);
            let recognised = async {
                while !is_claimed(slot) {
                    sleep(POLL).await;
                }
            };
            if timeout(RECOGNITION, recognised).await.is_err() {
                // Its neighbours are on this node; one that seems not to be is not waited for.
                return;
            }
        }
        donate(node, opened, cluster.policy.idle_timeout);
    }
}
