//! The acceptance list: what was reported of other clients and control planes, each as a check of ours.
//!
//! Every case runs with both protocols, and a second time spoiled: something is broken on purpose, and the case must say so.

mod order;
mod outage;
mod refusal;
mod removal;
mod subscription;

use kmesh_xds::{Kind, Protocol, Snapshot};

/// One report.
#[derive(Clone, Copy)]
pub struct Case {
    /// Where it was reported, or what it is about.
    pub id: &'static str,
    /// What must hold.
    pub holds: &'static str,
    /// The check; spoiled, it must fail.
    pub run: fn(Protocol, spoiled: bool) -> anyhow::Result<()>,
}

/// All of them.
pub const CASES: [Case; 20] = [
    subscription::KMESH_453,
    subscription::KMESH_964,
    subscription::KMESH_553,
    subscription::ENVOY_34334,
    removal::KMESH_440,
    removal::KMESH_1770,
    removal::KMESH_415,
    removal::KMESH_789,
    removal::SUBSET,
    order::KMESH_954,
    order::KMESH_1042,
    order::CILIUM_41552,
    refusal::CILIUM_3405,
    refusal::CILIUM_48897,
    refusal::IDENTICAL,
    outage::ZTUNNEL_1368,
    outage::ZTUNNEL_752,
    outage::ZTUNNEL_1966,
    outage::ISTIO_20295,
    outage::EMPTY_MESH,
];

/// Runs a case: it must hold with both protocols, and be noticed spoiled.
///
/// # Errors
/// What went wrong.
pub fn check(case: &Case) -> anyhow::Result<()> {
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        (case.run)(protocol, false)
            .map_err(|error| error.context(format!("{} {protocol:?}", case.id)))?;
        anyhow::ensure!(
            (case.run)(protocol, true).is_err(),
            "{} {protocol:?}: spoiled on purpose, and nothing was noticed",
            case.id
        );
    }
    Ok(())
}

/// The names of a kind in a snapshot.
fn names(snapshot: &Snapshot, kind: Kind) -> Vec<&str> {
    snapshot
        .resources(kind)
        .keys()
        .map(String::as_str)
        .collect()
}

/// Whether the snapshot has this resource.
fn has(snapshot: &Snapshot, kind: Kind, name: &str) -> bool {
    snapshot.resources(kind).contains_key(name)
}
