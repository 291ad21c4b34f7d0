//! What is refused stays alone in that.

use std::time::Duration;

use anyhow::ensure;
use kmesh_xds::Kind;
use kmesh_xds::session::Request;

use super::{Case, has};
use crate::{Link, Quirks, synthetic};

/// Answers that a client may give in this many seconds to a control plane that never stops.
const PER_MINUTE_MAX: usize = 75;

fn answers(link: &Link) -> usize {
    let answered = link.requests.iter().filter(|request| match request {
        Request::Sotw(request) => !request.response_nonce.is_empty(),
        Request::Delta(request) => !request.response_nonce.is_empty(),
    });
    answered.count()
}

pub(super) const CILIUM_3405: Case = Case {
    id: "cilium PR 3405",
    holds: "a first response that is refused, and sent again for ever, is refused at a walking pace; the rest comes",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(3, 1));
        link.refuses = vec![(Kind::Cluster, "s1".to_owned())];
        link.quirks = Quirks {
            resends_refused: true,
            ..Quirks::default()
        };
        link.connect();
        link.pass(Duration::from_mins(1));
        let count = answers(&link);
        ensure!(count <= PER_MINUTE_MAX, "{count} answers in a minute");
        ensure!(
            count >= 60,
            "{count} answers in a minute: the control plane is not answered at all"
        );
        let last = link.last();
        ensure!(
            !has(&last, Kind::Cluster, "s1") && has(&last, Kind::Cluster, "s2"),
            "the wrong ones are there"
        );
        ensure!(
            last.refused().len() == 1,
            "{} refusals are shown",
            last.refused().len()
        );
        let said = link
            .requests
            .iter()
            .rev()
            .find_map(|request| match request {
                Request::Sotw(request) => request.error_detail.clone(),
                Request::Delta(request) => request.error_detail.clone(),
            });
        let said = said.map(|status| status.message).unwrap_or_default();
        let wanted = if spoiled {
            "listener \"l1\""
        } else {
            "cluster \"s1\": lb_policy"
        };
        ensure!(said.contains(wanted), "the NACK says {said:?}");
        Ok(())
    },
};

pub(super) const CILIUM_48897: Case = Case {
    id: "cilium PR 48897",
    holds: "a NACK of clusters leaves listeners, routes and endpoints of the same push in force",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(2, 1));
        link.connect();
        link.refuses = vec![(Kind::Cluster, "s1".to_owned())];
        if spoiled {
            link.refuses.push((Kind::Routes, "r0".to_owned()));
        }
        let former = link
            .world
            .resource(Kind::Cluster, "s1")
            .expect("it exists")
            .bytes
            .clone();
        link.world
            .put(Kind::Cluster, "s1", synthetic::cluster("s1", 9));
        link.world.put(
            Kind::Routes,
            "r0",
            synthetic::routes("r0", [("/new", "s1"), ("/", "s0")]),
        );
        link.world.put(
            Kind::Listener,
            "l0",
            synthetic::listener("l0", "10.96.9.9", 80, "r0"),
        );
        synthetic::put_endpoints(&mut link.world, 1, 1, 1);
        link.push();
        let last = link.last();
        for (kind, name) in [
            (Kind::Routes, "r0"),
            (Kind::Listener, "l0"),
            (Kind::Endpoints, "s1"),
        ] {
            let served = &link.world.resource(kind, name).expect("it exists").bytes;
            let held = last.resources(kind)[name].resource.bytes();
            ensure!(held == served, "{} {name} was rolled back", kind.noun());
        }
        let held = last.resources(Kind::Cluster)["s1"]
            .resource
            .bytes()
            .to_vec();
        ensure!(
            held == former,
            "the cluster's last good version is not in force"
        );
        ensure!(
            last.refused()[0].replaced,
            "the refusal does not say that a former version is in force"
        );
        Ok(())
    },
};

pub(super) const IDENTICAL: Case = Case {
    id: "identical responses without end",
    holds: "a control plane that answers each answer with the same response is slowed down; changes still come at once",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(2, 1));
        link.quirks.repeats = true;
        link.connect();
        link.pass(Duration::from_mins(1));
        let count = answers(&link);
        // Four types, each at its own pace.
        let most = if spoiled { 100 } else { 4 * PER_MINUTE_MAX };
        ensure!(count <= most, "{count} answers in a minute");
        ensure!(
            link.snapshots.len() == 1,
            "{} states although nothing changed",
            link.snapshots.len()
        );
        synthetic::put_endpoints(&mut link.world, 1, 1, 5);
        let moved = link
            .world
            .resource(Kind::Endpoints, "s1")
            .expect("it exists")
            .bytes
            .clone();
        link.push();
        let held = link.last().resources(Kind::Endpoints)["s1"]
            .resource
            .bytes()
            .to_vec();
        ensure!(held == moved, "the change did not come at once");
        Ok(())
    },
};
