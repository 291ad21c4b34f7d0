//! The threads of an arm and how often each was switched out, from its cgroups and `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What a thread is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Load generator or server.
    Application,
    /// Sidecar or node daemon: the data plane.
    DataPlane,
}

/// One thread of an arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id in the namespace this program runs in.
    pub tid: u32,
    /// What it is there for.
    pub role: Role,
    /// The child of the lab's cgroup that it is in: a pod, `sidecar-POD`, `kmeshd`.
    pub place: String,
}

/// All threads below a lab's cgroup. `pods` are the names of its pods; every other child is a sidecar or a daemon.
pub fn tasks(cgroup: &Path, pods: &[String]) -> Vec<Task> {
    let mut found = Vec::new();
    let children = fs::read_dir(cgroup).into_iter().flatten().flatten();
    for child in children.filter(|entry| entry.path().is_dir()) {
        let name = child.file_name().to_string_lossy().into_owned();
        let role = if pods.contains(&name) {
            Role::Application
        } else {
            Role::DataPlane
        };
        collect(&child.path(), (role, &name), &mut found);
    }
    found
}

fn collect(folder: &Path, (role, place): (Role, &str), found: &mut Vec<Task>) {
    let threads = fs::read_to_string(folder.join("cgroup.threads")).unwrap_or_default();
    found.extend(
        threads
            .lines()
            .filter_map(|line| line.trim().parse().ok())
            .map(|tid| Task {
                tid,
                role,
                place: place.to_owned(),
            }),
    );
    let children = fs::read_dir(folder).into_iter().flatten().flatten();
    for child in children.filter(|entry| entry.path().is_dir()) {
        collect(&child.path(), (role, place), found);
    }
}

/// How often each thread was switched out so far, of its own will or not (`/proc/TID/status`).
pub fn switches(tasks: &[Task]) -> BTreeMap<u32, u64> {
    tasks
        .iter()
        .filter_map(|task| {
            let status = fs::read_to_string(format!("/proc/{0}/task/{0}/status", task.tid))
                .or_else(|_| fs::read_to_string(format!("/proc/{}/status", task.tid)))
                .ok()?;
            Some((task.tid, of_status(&status)))
        })
        .collect()
}

fn of_status(status: &str) -> u64 {
    status
        .lines()
        .filter_map(|line| {
            line.strip_prefix("voluntary_ctxt_switches:")
                .or_else(|| line.strip_prefix("nonvoluntary_ctxt_switches:"))
        })
        .filter_map(|count| count.trim().parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_switches_count() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n";
        assert_eq!(of_status(status), 42);
    }
}
