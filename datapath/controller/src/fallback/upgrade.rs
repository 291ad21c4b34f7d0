//! A switch of protocols (`101`): from then on the client's connection and the upstream's are one stream of bytes.

use std::io;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tracing::debug;

use super::exchange::Driver;
use super::front::Gate;
use super::stream::Stream;
use crate::upstream::Ticket;

/// The upstream's side of a switch.
pub(super) struct Switched {
    pub(super) driver: Driver,
    pub(super) ticket: Ticket,
}

/// Carries bytes both ways until both sides are done.
pub(super) async fn join<S>(client: http1::Parts<TokioIo<Gate<Stream>>, S>, upstream: Switched) {
    let Switched { driver, ticket } = upstream;
    let Ok(Ok(server)) = driver.await else {
        debug!("the upstream left before the switch of protocols");
        return;
    };
    let mut inner = client.io.into_inner();
    let mut outer = server.io.into_inner();
    let joined = async {
        outer.write_all(&client.read_buf).await?;
        inner.write_all(&server.read_buf).await?;
        copy_bidirectional(&mut inner, &mut outer).await?;
        io::Result::Ok(())
    };
    if let Err(error) = joined.await {
        debug!(%error, "a stream ended early after a switch of protocols");
    }
    drop(ticket);
}
