//! The rest of a request that began in the kernel and came in too many pieces for it (`LARGE_SENDS_MAX`).
//!
//! Its bytes come on the client's connection like a request for user space, but they belong to the exchange that the kernel began: they are
//! copied to its upstream, whatever they look like, and the kernel carries the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kmesh_api::exchange::Spilled;
use kmesh_api::slot::{LEASED, LINGERING, RELAY};
use kmesh_orchestration::slot;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::anchor::Anchor;
use crate::node::Node;
use crate::upstream::{Record, donated, record};

/// Bytes read at once.
const PORTION: usize = 32 << 10;
/// Between two looks at whether the server has read what the kernel gave it.
const POLL: Duration = Duration::from_millis(1);

/// The copy under way.
pub(super) type Spill = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Whether what this client's connection brings next belongs to an exchange of the kernel's.
pub(super) fn is_spilled(node: &Node, client: u64) -> bool {
    node.datapath().spilled.get(&client, 0).is_ok()
}

/// The copy that must be made before anything else is read from this client, if there is one.
pub(super) fn spill(node: &Arc<Node>, anchor: &Arc<Anchor>) -> Option<Spill> {
    let mut datapath = node.datapath();
    let spilled = datapath.spilled.get(&anchor.cookie, 0).ok()?;
    let _ = datapath.spilled.remove(&anchor.cookie);
    drop(datapath);
    Some(Box::pin(copy(
        Arc::clone(node),
        Arc::clone(anchor),
        spilled,
    )))
}

/// Copies the rest to the server, behind what it got from the kernel.
///
/// # Errors
/// If either side breaks off, or the exchange is over: then these bytes have nowhere to go, and so has what follows them.
async fn copy(node: Arc<Node>, anchor: Arc<Anchor>, spilled: Spilled) -> io::Result<()> {
    let over = || io::Error::new(io::ErrorKind::BrokenPipe, "the request's upstream is gone");
    let (record, upstream) = record(&node, spilled.slot)
        .zip(donated(&node, spilled.slot))
        .ok_or_else(over)?;
    let mut upstream = TcpStream::from_std(upstream.try_clone()?)?;
    // A server that reads one message from two queues might take the end of the first for the end of all there is.
    while node
        .datapath()
        .server_backlog(spilled.slot)
        .is_ok_and(|unread| unread != 0)
    {
        if !goes_on(record, &anchor, &spilled) {
            return Err(over());
        }
        sleep(POLL).await;
    }
    let mut left = spilled.left;
    let mut bytes = vec![0; PORTION];
    while left > 0 {
        anchor.socket().readable().await?;
        let most = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = match anchor.socket().try_read(&mut bytes[..most]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        left -= count as u64;
        if !goes_on(record, &anchor, &spilled) {
            return Err(over());
        }
        if left == 0 {
            // Before the server can answer: whose request is complete is in step.
            slot::sent(&record, spilled.lease);
        }
        upstream.write_all(&bytes[..count]).await?;
    }
    Ok(())
}

/// Whether the exchange is still the client's, and its server may still want the request.
fn goes_on(record: Record, anchor: &Anchor, spilled: &Spilled) -> bool {
    let word = record.word();
    record.client() == anchor.cookie
        && word.lease() == spilled.lease
        && matches!(word.state(), LEASED | LINGERING | RELAY)
}
