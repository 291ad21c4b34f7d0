//! Proof that no lease is lost and none is held twice: the pools, the records and this daemon's books must agree.
//!
//! The kernel goes on meanwhile, so what looks wrong once is looked at again: a finding counts only if the slot's word
//! has not moved between the looks. A slot that is wrong is ended, not used: its connection is closed, and the daemon says so.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kmesh_api::limits::UPSTREAMS_MAX;
use kmesh_api::pool::PoolKey;
use kmesh_api::slot::{FREE, LEASED, LINGERING, RELAY, RETIRED, TAKEN, USER, VACANT, Word};
use kmesh_orchestration::slot;
pub use kmesh_probe::status::Leases;
use tokio::time::sleep;
use tracing::error;

use super::{record, vacate};
use crate::node::Node;

/// How often a finding is looked at again before it counts.
const LOOKS: usize = 3;
/// Between two looks: longer than any program runs.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two checks that nobody asked for.
const PERIOD: Duration = Duration::from_secs(5);
/// Findings that are kept for `kmeshctl status`; more are only counted.
const KEPT: usize = 32;

/// What is wrong with a slot, by the slot and the word that it was seen with.
type Findings = BTreeMap<(u32, u64), Finding>;

#[derive(PartialEq, Eq)]
struct Finding {
    text: String,
    /// The pools that the slot lies in.
    listed: Vec<PoolKey>,
    /// Whether the daemon has its connection.
    watched: bool,
}

/// What was found since the start.
#[derive(Default)]
pub(super) struct Wrong {
    count: u64,
    texts: Vec<String>,
}

/// Checks from time to time, until the task is aborted.
pub async fn follow_wrong(node: Arc<Node>) {
    loop {
        sleep(PERIOD).await;
        if node.upstreams.donated() > 0 {
            verify(&node).await;
        }
    }
}

/// Counts slots by state, ends those that contradict themselves, and says what has been wrong since the start.
pub async fn verify(node: &Arc<Node>) -> Leases {
    let (mut leases, mut findings) = look(node);
    for _ in 1..LOOKS {
        if findings.is_empty() {
            break;
        }
        sleep(PAUSE).await;
        let (now, again) = look(node);
        leases = now;
        findings.retain(|what, finding| again.get(what) == Some(finding));
    }
    for ((number, word), finding) in findings {
        error!("{}", finding.text);
        end(node, number, Word(word), &finding);
        let mut state = node.upstreams.state();
        state.wrong.count += 1;
        if state.wrong.texts.len() < KEPT {
            state.wrong.texts.push(finding.text);
        }
    }
    let state = node.upstreams.state();
    leases.violations.clone_from(&state.wrong.texts);
    leases.wrong = state.wrong.count;
    leases
}

/// Sees to it that nobody uses a slot any more that was seen with that word.
fn end(node: &Arc<Node>, number: u32, seen: Word, finding: &Finding) {
    for pool in &finding.listed {
        if let Err(error) = node.datapath().withdraw(number, *pool) {
            error!(slot = number, %error, "the kernel gives no upstreams back");
        }
    }
    let Some(record) = record(node, number) else {
        return;
    };
    if slot::condemn(&record, seen) && !finding.watched && seen.state() != USER {
        vacate(node, number, None, None);
    }
    node.upstreams.reap.notify_one();
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
    for number in 0..UPSTREAMS_MAX as u32 {
        let Some(record) = record(node, number) else {
            continue;
        };
        let word = record.word();
        let state = word.state();
        let at = listed.remove(&number).unwrap_or_default();
        let key = donated.get(&number);
        in_use += usize::from(state != VACANT);
        match state {
            FREE => leases.free += 1,
            TAKEN | LEASED | LINGERING => leases.leased += 1,
            RELAY => leases.relayed += 1,
            RETIRED => leases.retired += 1,
            USER => leases.user += 1,
            _ => {}
        }
        if matches!(state, LEASED | RELAY)
            && word.is_open()
            && node.anchors().get(record.client()).is_none()
        {
            leases.abandoned += 1;
        }
        if let Some(what) = wrong(word, &at, key) {
            let finding = Finding {
                text: format!("slot {number}: {what}"),
                listed: at,
                watched: key.is_some(),
            };
            findings.insert((number, word.0), finding);
        }
    }
    if vacant + in_use != UPSTREAMS_MAX {
        let finding = Finding {
            text: format!("{vacant} slots are vacant and {in_use} in use, of {UPSTREAMS_MAX}"),
            listed: Vec::new(),
            watched: false,
        };
        findings.insert((u32::MAX, 0), finding);
    }
    (leases, findings)
}

/// What contradicts itself about a slot that lies in the pools `at` and whose connection the daemon has given to the pool `key`.
fn wrong(word: Word, at: &[PoolKey], key: Option<&PoolKey>) -> Option<String> {
    let state = word.state();
    match (state, at) {
        (FREE, []) => return Some("free, but in no pool".to_owned()),
        (FREE, [pool]) if key != Some(pool) => {
            return Some(format!("in pool {pool:?}, but donated as {key:?}"));
        }
        (_, [_, _, ..]) => return Some("in several pools, or twice in one".to_owned()),
        (FREE, _) | (_, []) => {}
        (state, _) => return Some(format!("in a pool in state {state}")),
    }
    match (state, key) {
        (LEASED, _) if !word.is_open() => Some("leased, but its exchange is over".to_owned()),
        (VACANT, Some(_)) => Some("vacant, but watched".to_owned()),
        (VACANT | USER, None) | (_, Some(_)) => None,
        (state, None) => Some(format!("in state {state}, but nobody watches it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: PoolKey = PoolKey {
        pod: 1,
        endpoint: 2,
    };
    const OTHER: PoolKey = PoolKey {
        pod: 3,
        endpoint: 2,
    };

    #[test]
    fn what_agrees_is_not_wrong() {
        let leased = Word::new(LEASED, 4).opened(false);
        for (word, at, key) in [
            (Word::new(VACANT, 4), &[][..], None),
            (Word::new(USER, 4), &[], None),
            (Word::new(FREE, 4), &[OWN], Some(&OWN)),
            (leased, &[], Some(&OWN)),
            (Word::new(RETIRED, 4), &[], Some(&OWN)),
        ] {
            assert_eq!(wrong(word, at, key), None, "{word:?}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_wrong() {
        let leased = Word::new(LEASED, 4).opened(false);
        for (word, at, key) in [
            (Word::new(FREE, 4), &[][..], Some(&OWN)),
            (Word::new(FREE, 4), &[OTHER], Some(&OWN)),
            (Word::new(FREE, 4), &[OWN, OWN], Some(&OWN)),
            (Word::new(RETIRED, 4), &[OWN], Some(&OWN)),
            (leased, &[OWN], Some(&OWN)),
            (leased.closed(), &[], Some(&OWN)),
            (leased, &[], None),
            (Word::new(VACANT, 4), &[], Some(&OWN)),
        ] {
            assert!(wrong(word, at, key).is_some(), "{word:?} in {at:?}");
        }
    }
}
