//! What is asked for, and that it stays asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use kmesh_xds::Kind;
use kmesh_xds::session::Request;

use super::{Case, has};
use crate::{Link, synthetic};

pub(super) const KMESH_453: Case = Case {
    id: "kmesh#453",
    holds: "the answer to a response with some of the endpoints keeps the others asked for",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(3, 2));
        link.connect();
        if spoiled {
            link.sabotage = Some(|request| Some(only_first_name(request)));
        }
        link.quirks.partial = true;
        synthetic::put_endpoints(&mut link.world, 1, 2, 1);
        link.push();
        synthetic::put_endpoints(&mut link.world, 2, 2, 1);
        link.push();
        let conversation = link.conversation.as_ref().expect("a stream is open");
        let asked = conversation.names(Kind::Endpoints);
        let all: BTreeSet<String> = ["s0", "s1", "s2"].map(str::to_owned).into();
        ensure!(asked == all, "endpoints asked for at the end: {asked:?}");
        for name in ["s1", "s2"] {
            let held = link.last().resources(Kind::Endpoints)[name]
                .resource
                .bytes()
                .to_vec();
            let served = link
                .world
                .resource(Kind::Endpoints, name)
                .expect("it exists");
            ensure!(held == served.bytes, "the change of {name} did not arrive");
        }
        Ok(())
    },
};

/// Answers with one name only, and gives the others up.
fn only_first_name(request: Request) -> Request {
    match request {
        Request::Sotw(mut request) => {
            request.resource_names.truncate(1);
            Request::Sotw(request)
        }
        Request::Delta(mut request) => {
            if Kind::of(&request.type_url) == Some(Kind::Endpoints) {
                request.resource_names_unsubscribe = vec!["s1".to_owned(), "s2".to_owned()];
            }
            Request::Delta(request)
        }
    }
}

pub(super) const KMESH_964: Case = Case {
    id: "kmesh#964",
    holds: "after an idle night, routes still arrive, on the old stream and on a new one",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(2, 1));
        link.connect();
        link.pass(Duration::from_hours(12));
        if spoiled {
            link.sabotage = Some(no_routes);
        }
        change_route(&mut link, "/night");
        link.push();
        if !spoiled {
            arrived(&link)?;
        }
        link.pass(Duration::from_hours(12));
        link.disconnect("keepalive timed out");
        link.connect();
        change_route(&mut link, "/morning");
        link.push();
        link.pass(Duration::from_secs(1));
        arrived(&link)
    },
};

fn change_route(link: &mut Link, prefix: &str) {
    link.world.put(
        Kind::Routes,
        "r1",
        synthetic::routes("r1", [(prefix, "s0"), ("/", "s1")]),
    );
}

fn arrived(link: &Link) -> anyhow::Result<()> {
    let last = link.last();
    let held = last.resources(Kind::Routes).get("r1");
    let served = link.world.resource(Kind::Routes, "r1").expect("it exists");
    ensure!(
        held.is_some_and(|held| held.resource.bytes() == served.bytes),
        "the changed route did not arrive"
    );
    Ok(())
}

fn no_routes(request: Request) -> Option<Request> {
    Some(request).filter(|request| kind(request) != Some(Kind::Routes))
}

fn kind(request: &Request) -> Option<Kind> {
    Kind::of(match request {
        Request::Sotw(request) => &request.type_url,
        Request::Delta(request) => &request.type_url,
    })
}

pub(super) const KMESH_553: Case = Case {
    id: "kmesh#553",
    holds: "a stream speaks for one pod in its own namespace, for which short host names are served",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(1, 1));
        if spoiled {
            link.sabotage = Some(|request| Some(no_node(request)));
        }
        link.connect();
        let conversation = link.conversation.as_ref().expect("a stream is open");
        let nodes: Vec<_> = conversation
            .requests
            .iter()
            .map(|request| match request {
                Request::Sotw(request) => &request.node,
                Request::Delta(request) => &request.node,
            })
            .collect();
        let node = nodes.first().and_then(|node| node.as_ref());
        let Some(node) = node else {
            anyhow::bail!("the first request has no node")
        };
        ensure!(
            node.id == "sidecar~10.244.0.10~productpage-v1-0.default~default.svc.cluster.local",
            "the node is {:?}",
            node.id
        );
        let fields = &node
            .metadata
            .as_ref()
            .expect("the node has metadata")
            .fields;
        for name in [
            "NAMESPACE",
            "LABELS",
            "INSTANCE_IPS",
            "CLUSTER_ID",
            "SERVICE_ACCOUNT",
        ] {
            ensure!(fields.contains_key(name), "the metadata has no {name}");
        }
        ensure!(
            nodes[1..].iter().all(|node| node.is_none()),
            "the node is sent more than once"
        );
        Ok(())
    },
};

fn no_node(request: Request) -> Request {
    match request {
        Request::Sotw(request) => Request::Sotw(kmesh_xds::wire::DiscoveryRequest {
            node: None,
            ..request
        }),
        Request::Delta(request) => Request::Delta(kmesh_xds::wire::DeltaDiscoveryRequest {
            node: None,
            ..request
        }),
    }
}

pub(super) const ENVOY_34334: Case = Case {
    id: "envoy#34334",
    holds: "after a NACK and a new stream, every type is asked for again",
    run: |protocol, spoiled| {
        let mut link = Link::new(protocol, synthetic::mesh(2, 1));
        link.connect();
        link.refuses = vec![(Kind::Cluster, "s1".to_owned())];
        link.world
            .put(Kind::Cluster, "s1", synthetic::cluster("s1", 2));
        link.push();
        let nacks = link.session.status(link.now()).kinds[0].nacks;
        ensure!(nacks == 1, "{nacks} NACKs of clusters instead of one");
        link.disconnect("GOAWAY");
        if spoiled {
            link.sabotage = Some(|request| {
                Some(request).filter(|request| kind(request) != Some(Kind::Cluster))
            });
        }
        link.connect();
        let conversation = link.conversation.as_ref().expect("a stream is open");
        for kind in Kind::ALL {
            ensure!(
                conversation.watches(kind),
                "{} is not asked for on the new stream",
                kind.service()
            );
        }
        // And what is good again is taken.
        link.refuses.clear();
        link.world
            .put(Kind::Cluster, "s1", synthetic::cluster("s1", 3));
        link.push();
        link.pass(Duration::from_secs(1));
        let last = link.last();
        ensure!(has(&last, Kind::Cluster, "s1"), "the cluster is gone");
        let held = last.resources(Kind::Cluster)["s1"]
            .resource
            .bytes()
            .to_vec();
        ensure!(
            held == synthetic::cluster("s1", 3),
            "the good cluster is not in force"
        );
        Ok(())
    },
};
