//! A connection that user space only carries: to a cluster that its first bytes chose.

use std::io;

use kmesh_api::limits::{CLUSTERS_MAX, ENDPOINTS_MAX};
use kmesh_api::pool::PoolKey;
use kmesh_config::model::WeightedCluster;
use kmesh_orchestration::balance;
use tokio::io::copy_bidirectional;
use tracing::debug;

use super::serve::Session;
use super::stream::Stream;
use crate::generation::Generation;
use crate::node::NodeDice;
use crate::upstream::open;

/// Carries the session's connection to one of these clusters; closes it if there is none to carry it to.
pub(super) async fn tunnel(
    session: &Session,
    generation: &Generation,
    choices: &[WeightedCluster],
    mut client: Stream,
) {
    let carried = carry(session, generation, choices, &mut client).await;
    if let Err(error) = carried {
        debug!(original = %session.anchor.original, %error, "a connection was not carried to its end");
    }
    session.anchor.finish();
}

async fn carry(
    session: &Session,
    generation: &Generation,
    choices: &[WeightedCluster],
    client: &mut Stream,
) -> io::Result<()> {
    let none = |why: &str| io::Error::new(io::ErrorKind::HostUnreachable, why.to_owned());
    let name = draw(choices).ok_or_else(|| none("no cluster"))?;
    let clusters = &generation.names.clusters;
    let index = clusters.iter().position(|cluster| cluster.name == name);
    let index = index.ok_or_else(|| none("the cluster is not configured"))?;
    let cluster = &generation.image.clusters[index & (CLUSTERS_MAX - 1)];
    let node = &session.node;
    let endpoint = balance::endpoint(cluster, &mut NodeDice(node));
    let endpoint = endpoint.map_err(|_| none("the cluster has no endpoint"))?;
    let endpoint = &generation.image.endpoints[endpoint as usize & (ENDPOINTS_MAX - 1)];
    let config = &generation.policies.clusters[index];
    let key = PoolKey {
        pod: session.pod.index,
        endpoint: endpoint.id,
    };
    let breaker = node.upstreams.breaker(key.pod, clusters[index].id);
    let ticket = breaker.connection(key.endpoint, config.max_connections);
    let ticket = ticket.ok_or_else(|| none("a circuit breaker is open"))?;
    let address = if endpoint.address.port == 0 {
        session.anchor.original
    } else {
        endpoint.address.into()
    };
    let opened = open(
        node,
        &session.pod,
        address,
        endpoint.id,
        config.connect_timeout,
        ticket,
    );
    let mut opened = opened.await.map_err(io::Error::other)?;
    copy_bidirectional(client, &mut opened.stream).await?;
    Ok(())
}

/// One of the clusters, by weight.
fn draw(choices: &[WeightedCluster]) -> Option<&str> {
    let total: u32 = choices.iter().map(|choice| choice.weight).sum();
    let mut drawn = (total > 0).then(|| rand::random_range(0..total))?;
    for choice in choices {
        match drawn.checked_sub(choice.weight) {
            Some(rest) => drawn = rest,
            None => return Some(&choice.name),
        }
    }
    None
}
