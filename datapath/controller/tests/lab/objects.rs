//! What a daemon has in the kernel, and whether it is still there.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;

use aya::maps::loaded_maps;
use aya::programs::{loaded_links, loaded_programs};

/// Ids of all kernel objects of one kind.
fn ids<I, E: Debug>(
    listed: impl Iterator<Item = Result<I, E>>,
    id: impl Fn(&I) -> u32,
) -> BTreeSet<u64> {
    let one = |entry: Result<I, E>| match entry {
        Ok(object) => Some(u64::from(id(&object))),
        Err(error) => {
            let error = format!("{error:?}");
            // It vanished between its number and the look at it.
            assert!(error.contains("NotFound"), "{error}");
            None
        }
    };
    listed.filter_map(one).collect()
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
    let all = [
        (
            "program",
            ids(loaded_programs(), aya::programs::ProgramInfo::id),
        ),
        ("map", ids(loaded_maps(), aya::maps::MapInfo::id)),
        (
            "link",
            ids(loaded_links(), aya::programs::links::LinkInfo::id),
        ),
    ];
    let mut left = Vec::new();
    for ((kind, all), ids) in all.iter().zip(held) {
        left.extend(ids.intersection(all).map(|id| format!("{kind} {id}")));
    }
    left
}
