//! Proof that no lease is lost and none is held twice: the pools, the records and this daemon's books must agree.
//!
//! The kernel goes on meanwhile, so what looks wrong once is looked at again: a finding counts only if the slot's record
//! has not moved between the looks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kmesh_api::pool::{FREE, LEASED, LINGERING, PoolKey, RELAY, RETIRED, USER, VACANT};
pub use kmesh_probe::status::Leases;
use tokio::time::sleep;

use super::record;
use crate::node::Node;

/// How often a finding is looked at again before it counts.
const LOOKS: usize = 3;
/// Between two looks: longer than any program runs.
const PAUSE: Duration = Duration::from_millis(5);

/// A finding about a slot, with the lease it was made under.
type Findings = BTreeMap<(u32, u64, u32), String>;

/// Counts slots by state and reports what contradicts itself.
pub async fn verify(node: &Arc<Node>) -> Leases {
    let (mut leases, mut findings) = look(node);
    for _ in 1..LOOKS {
        if findings.is_empty() {
            break;
        }
        sleep(PAUSE).await;
        let (now, again) = look(node);
        leases = now;
        findings.retain(|what, text| again.get(what) == Some(text));
    }
    leases.violations = findings.into_values().collect();
    leases
}

fn look(node: &Arc<Node>) -> (Leases, Findings) {
    let mut leases = Leases::default();
    let mut findings = Findings::new();
    let mut listed: HashMap<u32, Vec<PoolKey>> = HashMap::new();
    {
        let datapath = node.datapath();
        let keys: Vec<PoolKey> = datapath.pools.keys().filter_map(Result::ok).collect();
        for key in keys {
            let Ok(pool) = datapath.pools.get(&key, 0) else {
                continue;
            };
            for slot in pool.slots.iter().take(pool.count as usize) {
                listed.entry(*slot).or_default().push(key);
            }
        }
    }
    let donated: HashMap<u32, PoolKey> = {
        let state = node.upstreams.state();
        (state.donated.iter())
            .map(|(slot, donated)| (*slot, donated.key))
            .collect()
    };
    let vacant = node.upstreams.state().vacant.len();
    let mut in_use = 0;
    for slot in 0..kmesh_api::limits::UPSTREAMS_MAX as u32 {
        let Some(record) = record(node, slot) else {
            continue;
        };
        let state = record.state();
        let (at, key) = (listed.get(&slot), donated.get(&slot));
        in_use += usize::from(state != VACANT);
        let mut find = |text: String| {
            findings.insert(
                (slot, record.lease(), state),
                format!("slot {slot}: {text}"),
            );
        };
        match state {
            FREE => leases.free += 1,
            LEASED | LINGERING => leases.leased += 1,
            RELAY => leases.relayed += 1,
            RETIRED => leases.retired += 1,
            USER => leases.user += 1,
            _ => {}
        }
        match (state, at.map(Vec::as_slice)) {
            (FREE, None) => find("free, but in no pool".to_owned()),
            (FREE, Some([pool])) if key != Some(pool) => {
                find(format!("in pool {pool:?}, but donated as {key:?}"));
            }
            (_, Some([_, _, ..])) => find("in several pools, or twice in one".to_owned()),
            (FREE, _) | (_, None) => {}
            (state, Some(_)) => find(format!("in a pool in state {state}")),
        }
        if matches!(state, LEASED | RELAY) {
            let client = record.client();
            let over = record.done() == record.lease();
            if state == LEASED && over {
                find("leased, but its exchange is over".to_owned());
            } else if !over && !node.anchors().contains_key(&client) {
                leases.abandoned += 1;
            }
        }
        if matches!(state, FREE | LEASED | LINGERING | RELAY | RETIRED) && key.is_none() {
            find(format!("in state {state}, but nobody watches it"));
        }
        if state == VACANT && key.is_some() {
            find("vacant, but watched".to_owned());
        }
    }
    let all = kmesh_api::limits::UPSTREAMS_MAX;
    if vacant + in_use != all {
        let text = format!("{vacant} slots are vacant and {in_use} in use, of {all}");
        findings.insert((u32::MAX, 0, 0), text);
    }
    (leases, findings)
}
