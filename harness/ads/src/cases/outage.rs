//! Control planes that go, come, and come back wrong.

use std::time::Duration;

use anyhow::ensure;
use kmesh_xds::Kind;

use super::{Case, has};
use crate::{Link, World, synthetic};

pub(super) const ZTUNNEL_1368: Case = Case {
    id: "ztunnel PR 1368",
    holds: "a stream that ends without an error is an outage like any other: state kept, said since when",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(2, 1));
        link.connect();
        let before = link.last();
        link.disconnect("the control plane ended the stream");
        if spoiled {
            link.connect();
        }
        link.pass(Duration::from_secs(90));
        let status = link.session.status(link.now());
        let (seconds, why) = status
            .alone
            .ok_or_else(|| anyhow::anyhow!("nothing says that it is alone"))?;
        ensure!(
            seconds == 90 && why.contains("ended the stream"),
            "alone for {seconds} s, {why:?}"
        );
        ensure!(
            !status.connected && link.last() == before,
            "the state changed"
        );
        link.connect();
        ensure!(
            link.session.status(link.now()).alone.is_none(),
            "it still says that it is alone"
        );
        Ok(())
    },
};

pub(super) const ZTUNNEL_752: Case = Case {
    id: "ztunnel#752",
    holds: "a control plane that comes up after the client is found, and nothing is said to be empty before",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(2, 1));
        for _ in 0..50 {
            link.disconnect("connection refused");
            link.pass(Duration::from_secs(1));
        }
        ensure!(
            link.snapshots.is_empty(),
            "a state was given before any was served"
        );
        if spoiled {
            link.quirks.mute = [Kind::Cluster, Kind::Listener].into();
        }
        link.connect();
        ensure!(
            link.snapshots.len() == 1 && link.session.is_complete(),
            "it is not complete"
        );
        Ok(())
    },
};

pub(super) const ZTUNNEL_1966: Case = Case {
    id: "ztunnel#1966",
    holds: "a full push on a new stream, of everything that is held already, ends, and changes nothing",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(80, 4));
        link.connect();
        let (before, states) = (link.last(), link.snapshots.len());
        link.quirks.ignores_versions = true;
        link.disconnect("control plane restarts");
        if spoiled {
            synthetic::put_endpoints(&mut link.world, 17, 4, 1);
        }
        link.connect();
        link.pass(Duration::from_secs(1));
        ensure!(link.session.is_complete(), "it is not complete");
        ensure!(
            link.snapshots.len() == states && link.last() == before,
            "a state was given although nothing changed"
        );
        Ok(())
    },
};

/// What istiod serves before it has read its configuration: two clusters of its own, no service.
fn unsynced() -> World {
    let mut world = World::default();
    for name in ["BlackHoleCluster", "PassthroughCluster"] {
        world.put(Kind::Cluster, name, synthetic::cluster(name, 1));
        world.put(Kind::Endpoints, name, synthetic::endpoints(name, []));
    }
    world.put(
        Kind::Listener,
        "virtualOutbound",
        synthetic::listener("virtualOutbound", "0.0.0.0", 15001, "all"),
    );
    world.put(Kind::Routes, "all", synthetic::routes("all", []));
    world
}

pub(super) const ISTIO_20295: Case = Case {
    id: "istio#20295",
    holds: "a control plane that restarts and serves before it is ready loses no cluster",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(5, 2));
        link.connect();
        let (before, ready) = (link.last(), link.world.clone());
        for _ in 0..3 {
            link.disconnect("control plane restarts");
            link.world = unsynced();
            link.quirks.unversioned = !spoiled;
            link.connect();
            link.pass(Duration::from_secs(30));
            ensure!(
                link.last() == before,
                "clusters were lost while it was not ready"
            );
            ensure!(
                link.snapshots.iter().all(|snapshot| *snapshot == before),
                "and then came back"
            );
            link.quirks.unversioned = false;
            link.world = ready.clone();
            link.push();
            link.pass(Duration::from_secs(1));
            ensure!(link.last() == before, "the state is another one afterwards");
        }
        Ok(())
    },
};

pub(super) const EMPTY_MESH: Case = Case {
    id: "empty mesh with version \"\"",
    holds: "a control plane that fails to read its configuration is refused, and what it truly deleted goes later",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(3, 1));
        link.connect();
        let (before, mut good) = (link.last(), link.world.clone());
        link.world = unsynced();
        link.quirks.unversioned = !spoiled;
        link.push();
        ensure!(link.last() == before, "an empty mesh was taken");
        let status = link.session.status(link.now());
        let said = status.kinds[0].last_nack.clone().unwrap_or_default();
        ensure!(
            said.contains("no version") && status.kinds[0].unversioned == 1,
            "the NACK says {said:?}"
        );
        link.quirks.unversioned = false;
        synthetic::remove_service(&mut good, 1);
        good.number += link.world.number;
        link.world = good;
        link.push();
        let last = link.last();
        let clusters = super::names(&last, Kind::Cluster);
        ensure!(
            clusters == ["s0", "s2"],
            "clusters afterwards: {clusters:?}"
        );
        ensure!(
            !has(&last, Kind::Listener, "l1") && has(&last, Kind::Listener, "l2"),
            "wrong listeners afterwards"
        );
        Ok(())
    },
};
