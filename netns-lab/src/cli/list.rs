//! `netns-lab list`.

use std::{collections::HashMap, fmt::Write};

use anyhow::Context;
use kmesh_cli::exit;
use netns_lab::{OwnerState, control, find_labs};
use serde::Serialize;

#[derive(Serialize)]
struct Row {
    /// Name to use with `exec` and `down`; none for labs that another program holds.
    name: Option<String>,
    id: String,
    pid: u32,
    state: &'static str,
    members: Vec<String>,
    processes: usize,
}

pub(super) fn run(json: bool) -> anyhow::Result<u8> {
    let offered = control::names().context("can't read /proc/net/unix")?;
    // A lab that ends between the two calls is simply not named.
    let described = offered
        .iter()
        .filter_map(|name| control::describe(name).ok());
    let mut names: HashMap<String, String> = described.map(|lab| (lab.id, lab.name)).collect();
    let rows = find_labs()?.into_iter().map(|lab| Row {
        name: names.remove(&lab.identity.id),
        id: lab.identity.id,
        pid: lab.identity.owner.pid,
        state: match lab.state {
            OwnerState::Alive => "up",
            OwnerState::Dead => "leftover",
            OwnerState::Foreign => "foreign",
        },
        processes: lab.processes.len(),
        members: lab.members,
    });
    let rows: Vec<Row> = rows.collect();
    if json {
        super::say(&format!("{}\n", serde_json::to_string_pretty(&rows)?))?;
        return Ok(exit::HELD);
    }
    let mut table = format!(
        "{:<20} {:<32} {:>8} {:<9} {:>9}  MEMBERS\n",
        "NAME", "ID", "PID", "STATE", "PROCESSES"
    );
    for row in &rows {
        let name = row.name.as_deref().unwrap_or("-");
        writeln!(
            table,
            "{name:<20} {:<32} {:>8} {:<9} {:>9}  {}",
            row.id,
            row.pid,
            row.state,
            row.processes,
            row.members.join(" ")
        )?;
    }
    super::say(&table)?;
    Ok(exit::HELD)
}
