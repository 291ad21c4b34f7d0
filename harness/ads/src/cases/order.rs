//! What comes before what.

use std::time::Duration;

use anyhow::ensure;
use kmesh_xds::{Kind, Snapshot};

use super::{Case, has};
use crate::{Link, Quirks, synthetic};

/// Every cluster's endpoints and every listener's routes are in the same snapshot.
fn closed(snapshot: &Snapshot) -> anyhow::Result<()> {
    for kind in [Kind::Cluster, Kind::Listener] {
        let needs = kind.needs().expect("both need something");
        for (name, held) in snapshot.resources(kind) {
            for needed in &held.resource.needs().names {
                ensure!(
                    has(snapshot, needs, needed),
                    "{} {name} without {needed}",
                    kind.noun()
                );
            }
        }
    }
    Ok(())
}

pub(super) const KMESH_954: Case = Case {
    id: "kmesh#954",
    holds: "no state has a cluster without its endpoints or a listener without its routes",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(2, 1));
        link.connect();
        for index in 2..6 {
            synthetic::add_service(&mut link.world, index, 1);
            // What is needed comes after what needs it, and late.
            link.quirks.mute = [Kind::Endpoints, Kind::Routes].into();
            link.push();
            let cluster = format!("s{index}");
            ensure!(
                !has(&link.last(), Kind::Cluster, &cluster),
                "{cluster} is in force without endpoints"
            );
            if spoiled {
                // So late that the client no longer waits.
                link.pass(Duration::from_secs(16));
            }
            link.quirks = Quirks::default();
            link.push();
            ensure!(
                has(&link.last(), Kind::Cluster, &cluster),
                "{cluster} never came"
            );
        }
        link.snapshots.iter().try_for_each(closed)
    },
};

pub(super) const KMESH_1042: Case = Case {
    id: "kmesh#1042",
    holds: "a listener that changes its routes' name keeps the old routes until the new ones are there",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(2, 1));
        link.connect();
        let moved = synthetic::listener("l1", "10.96.0.1", 80, "other");
        link.world.put(Kind::Listener, "l1", moved.clone());
        link.world.put(
            Kind::Routes,
            "other",
            synthetic::routes("other", [("/", "s0")]),
        );
        link.quirks.mute = [Kind::Routes].into();
        link.push();
        if spoiled {
            link.pass(Duration::from_secs(16));
        }
        let during = link.last();
        closed(&during)?;
        ensure!(
            has(&during, Kind::Listener, "l1"),
            "the listener is gone meanwhile"
        );
        ensure!(
            has(&during, Kind::Routes, "r1"),
            "its old routes are gone before it is done with them"
        );
        link.quirks = Quirks::default();
        link.push();
        let after = link.last();
        closed(&after)?;
        ensure!(
            after.resources(Kind::Listener)["l1"].resource.bytes() == moved,
            "the new one never came"
        );
        ensure!(!has(&after, Kind::Routes, "r1"), "the old routes stay");
        Ok(())
    },
};

pub(super) const CILIUM_41552: Case = Case {
    id: "cilium PR 41552",
    holds: "no state has listeners before the clusters that they lead to, in whatever order they are served",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(3, 1));
        link.quirks.listeners_first = true;
        link.quirks.mute = if spoiled {
            [].into()
        } else {
            [Kind::Cluster].into()
        };
        link.connect();
        // Clusters don't come; listeners are asked for in the end, and nothing is in force without clusters.
        link.pass(Duration::from_secs(20));
        ensure!(
            link.snapshots.is_empty(),
            "a state was given without any cluster"
        );
        link.quirks.mute.clear();
        link.push();
        link.push();
        let first = link
            .snapshots
            .first()
            .ok_or_else(|| anyhow::anyhow!("no state at all"))?;
        closed(first)?;
        ensure!(
            first.resources(Kind::Cluster).len() == 3,
            "the first state has not all clusters"
        );
        Ok(())
    },
};
