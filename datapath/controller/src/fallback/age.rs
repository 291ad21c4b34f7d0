//! Idle connections age out where they keep their pod from new ones.
//!
//! A pod that was refused a connection because it has its share loses those that it has not used for a while, the longest unused first. Other
//! pods' connections are left alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::info;

use super::Anchor;
use crate::node::Node;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a connection may be unused while its pod is refused others.
const PATIENCE: Duration = Duration::from_secs(5);
/// Part of a pod's connections that are closed at one look, at most.
const PART: usize = 4;

/// A connection as it was looked at last.
struct Seen {
    /// How often it was used, here and in the kernel.
    used: (u32, u64),
    since: Instant,
}

/// Looks until the task is aborted.
pub async fn follow_age(node: Arc<Node>) {
    let mut refused: HashMap<u32, u64> = HashMap::new();
    let mut seen: HashMap<u64, Seen> = HashMap::new();
    loop {
        sleep(PERIOD).await;
        let now: HashMap<u32, u64> = node.refused_by_pod();
        let pressed: Vec<u32> = (now.iter())
            .filter(|(pod, count)| refused.get(pod).copied().unwrap_or(0) < **count)
            .map(|(pod, _)| *pod)
            .collect();
        refused = now;
        if pressed.is_empty() && seen.is_empty() {
            continue;
        }
        let anchors: Vec<Arc<Anchor>> = node.anchors().all().cloned().collect();
        let mut before = std::mem::take(&mut seen);
        let at = Instant::now();
        for anchor in &anchors {
            let used = (
                node.datapath().activity(anchor.cookie).unwrap_or(0),
                anchor.sent(),
            );
            let entry = match before.remove(&anchor.cookie) {
                Some(entry) if entry.used == used => entry,
                _ => Seen { used, since: at },
            };
            seen.insert(anchor.cookie, entry);
        }
        for pod in &pressed {
            close_idle(*pod, &anchors, &seen, at);
        }
        if pressed.is_empty() && oldest(&seen) > PATIENCE * 2 {
            // Nobody was refused for a while: nothing has to be remembered.
            seen.clear();
        }
    }
}

fn oldest(seen: &HashMap<u64, Seen>) -> Duration {
    let ages = seen.values().map(|entry| entry.since.elapsed());
    ages.max().unwrap_or_default()
}

/// Closes the pod's longest unused connections; of those that nobody has looked at before, the oldest.
fn close_idle(pod: u32, anchors: &[Arc<Anchor>], seen: &HashMap<u64, Seen>, at: Instant) {
    let mut own: Vec<(&Arc<Anchor>, Duration)> = (anchors.iter())
        .filter(|anchor| anchor.pod == pod)
        .filter_map(|anchor| Some((anchor, at - seen.get(&anchor.cookie)?.since)))
        .collect();
    let most = own.len().div_ceil(PART);
    own.retain(|(_, unused)| *unused >= PATIENCE);
    own.sort_by_key(|(anchor, unused)| (std::cmp::Reverse(*unused), anchor.since));
    own.truncate(most);
    if !own.is_empty() {
        info!(
            pod,
            closed = own.len(),
            "unused connections are closed: the pod has its share of the node's"
        );
    }
    for (anchor, _) in own {
        // A client that left it unused may not notice its end either, and what is not closed keeps its place.
        anchor.reset();
    }
}
