//! What is deleted goes, and only that.

use std::time::Duration;

use anyhow::ensure;
use kmesh_xds::session::{Request, Response};
use kmesh_xds::{Kind, Protocol};

use super::{Case, has, names};
use crate::{Link, World, synthetic};

pub(super) const KMESH_440: Case = Case {
    id: "kmesh#440",
    holds: "a deleted service leaves nothing: no cluster, endpoints, listener or routes, and no subscription",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(3, 1));
        link.connect();
        synthetic::remove_service(&mut link.world, 1);
        if spoiled {
            // The control plane forgets to say so.
            let kept = synthetic::mesh(3, 1);
            let cluster = kept
                .resource(Kind::Cluster, "s1")
                .expect("it exists")
                .bytes
                .clone();
            link.world.put(Kind::Cluster, "s1", cluster);
        }
        link.push();
        gone(&link)
    },
};

fn gone(link: &Link) -> anyhow::Result<()> {
    let last = link.last();
    for (kind, name) in [
        (Kind::Cluster, "s1"),
        (Kind::Endpoints, "s1"),
        (Kind::Listener, "l1"),
        (Kind::Routes, "r1"),
    ] {
        ensure!(
            !has(&last, kind, name),
            "{} {name} is still there",
            kind.noun()
        );
        let conversation = link.conversation.as_ref().expect("a stream is open");
        ensure!(
            !conversation.names(kind).contains(name),
            "{} {name} is still asked for",
            kind.noun()
        );
        ensure!(
            link.session.store().entry(kind, name).is_none(),
            "{} {name} is still held",
            kind.noun()
        );
    }
    for (kind, name) in [
        (Kind::Cluster, "s2"),
        (Kind::Endpoints, "s2"),
        (Kind::Listener, "l2"),
        (Kind::Routes, "r2"),
    ] {
        ensure!(
            has(&last, kind, name),
            "{} {name} went as well",
            kind.noun()
        );
    }
    Ok(())
}

pub(super) const KMESH_1770: Case = Case {
    id: "kmesh#1770",
    holds: "deleting and adding a service again, a hundred times, leaves what is there once",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(2, 1));
        link.connect();
        for _ in 0..100 {
            synthetic::add_service(&mut link.world, 7, 2);
            link.push();
            ensure!(
                has(&link.last(), Kind::Routes, "r7"),
                "the service did not come"
            );
            synthetic::remove_service(&mut link.world, 7);
            link.push();
        }
        if spoiled {
            synthetic::add_service(&mut link.world, 7, 2);
            link.push();
        }
        for kind in Kind::ALL {
            let held = link.session.store().entries(kind).count();
            ensure!(held == 2, "{held} of {} held, there are 2", kind.service());
            ensure!(
                names(&link.last(), kind).len() == 2,
                "the snapshot has others"
            );
        }
        Ok(())
    },
};

pub(super) const KMESH_415: Case = Case {
    id: "kmesh#415",
    holds: "what was deleted while no stream was open goes when one is",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(3, 1));
        link.connect();
        link.disconnect("connection reset");
        synthetic::remove_service(&mut link.world, 1);
        if spoiled && protocol == Protocol::Sotw {
            synthetic::add_service(&mut link.world, 1, 1);
        } else if spoiled {
            // Without the versions that it holds, a client can't be told what is gone.
            link.sabotage = Some(|request| match request {
                Request::Delta(request) => {
                    Some(Request::Delta(kmesh_xds::wire::DeltaDiscoveryRequest {
                        initial_resource_versions: std::collections::HashMap::new(),
                        ..request
                    }))
                }
                sotw @ Request::Sotw(_) => Some(sotw),
            });
        }
        link.connect();
        link.pass(Duration::from_secs(1));
        gone(&link)
    },
};

pub(super) const KMESH_789: Case = Case {
    id: "kmesh#789",
    holds: "after a restart of client or control plane everything is there once, and what stands twice is refused",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(3, 2));
        link.connect();
        let before = link.last();
        link.quirks.ignores_versions = true;
        link.disconnect("control plane restarts");
        link.connect();
        link.pass(Duration::from_secs(1));
        ensure!(
            link.last() == before,
            "a restart of the control plane changed the state"
        );
        link.restart_client();
        link.connect();
        ensure!(
            link.last() == before,
            "a restart of the client changed the state"
        );
        let held = link.last().document()["clusters"]
            .as_array()
            .map_or(0, Vec::len);
        ensure!(held == 3, "{held} clusters instead of 3");
        // A response with one cluster twice is refused by its name.
        let conversation = link.conversation.as_mut().expect("a stream is open");
        link.world
            .put(Kind::Cluster, "s1", synthetic::cluster("s1", 2));
        let mut responses = conversation.push(&link.world);
        if !spoiled {
            double_first(&mut responses);
        }
        link.settle(responses);
        let status = link.session.status(link.now());
        let said = status.kinds[0].last_nack.clone().unwrap_or_default();
        ensure!(said.contains("stands twice"), "the NACK says {said:?}");
        Ok(())
    },
};

fn double_first(responses: &mut [Response]) {
    match &mut responses[0] {
        Response::Sotw(response) => response.resources.push(response.resources[0].clone()),
        Response::Delta(response) => response.resources.push(response.resources[0].clone()),
    }
}

pub(super) const SUBSET: Case = Case {
    id: "a subset removed while routed to",
    holds: "recorded from istiod: the cluster goes, the route that names it stays, all else goes on",
    run: |protocol, spoiled| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../datapath/xds/tests/istiod/changes-delta");
        let states = World::recorded(&folder)?;
        ensure!(states.len() == 6, "{} states instead of 6", states.len());
        let mut link = Link::new(protocol, states[0].clone());
        link.connect();
        let changes = if spoiled { 1..4 } else { 1..5 };
        for state in &states[changes] {
            link.world = state.clone();
            link.push();
        }
        let subset = "outbound|9080|v3|reviews.default.svc.cluster.local";
        let last = link.last();
        ensure!(
            !has(&last, Kind::Cluster, subset),
            "the cluster is still there"
        );
        ensure!(
            !has(&last, Kind::Endpoints, subset),
            "its endpoints are still there"
        );
        let routes = last.resources(Kind::Routes)["9080"]
            .resource
            .tree()
            .to_string();
        ensure!(routes.contains(subset), "no route names it");
        ensure!(
            names(&last, Kind::Listener).len() == 9,
            "listeners went as well"
        );
        Ok(())
    },
};
