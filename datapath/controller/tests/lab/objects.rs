//! What a daemon has in the kernel, and whether it is still there.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

/// Ids of all kernel objects of one kind.
fn listed(kind: &str) -> BTreeSet<u64> {
    for _ in 0..100 {
        let output = Command::new("bpftool")
            .args(["-j", kind, "show"])
            .output()
            .unwrap();
        let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let ids: Option<_> = all.iter().map(|entry| entry["id"].as_u64()).collect();
        // An object that vanishes meanwhile is an error to bpftool, and what it listed is not all there is.
        if let (true, Some(ids)) = (output.status.success(), ids) {
            return ids;
        }
    }
    panic!("bpftool {kind} show fails again and again");
}

/// Ids of programs, maps and links.
pub(crate) type Objects = [BTreeSet<u64>; 3];

/// What the process has descriptors of.
pub(crate) fn held(pid: u32) -> Objects {
    let mut held = ["prog_id:", "map_id:", "link_id:"].map(|field| (field, BTreeSet::new()));
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
        // A descriptor may be closed meanwhile.
        let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        for line in text.lines() {
            for (field, ids) in &mut held {
                if let Some(id) = line.strip_prefix(*field) {
                    ids.insert(id.trim().parse().unwrap());
                }
            }
        }
    }
    held.map(|(_, ids)| ids)
}

/// Which of them still exist.
pub(crate) fn left(held: &Objects) -> Vec<String> {
    let mut left = Vec::new();
    for (kind, ids) in ["prog", "map", "link"].into_iter().zip(held) {
        let all = listed(kind);
        left.extend(ids.intersection(&all).map(|id| format!("{kind} {id}")));
    }
    left
}
