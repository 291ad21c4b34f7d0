//! Anchors that listen no more: a pod with `CAP_NET_ADMIN` over its namespace can end any socket there (`SOCK_DESTROY`, `ss -K`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::enrolment::{Backoff, listen};
use crate::node::Node;
use crate::pods::Pod;

/// Whether it is a listening socket still; what cannot be asked is one.
pub(super) fn is_listening(listener: &TcpListener) -> bool {
    (socket2::SockRef::from(listener).is_listener()).unwrap_or(true)
}

/// Opens another anchor of the pod's in the place of `ended`, and sends new connections there. Tries until it is done: it may be what the pod does
/// that fails it. `None` if the pod accepts no more.
pub(super) async fn listen_again(
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    ended: &Arc<TcpListener>,
    at: IpAddr,
) -> Option<Arc<TcpListener>> {
    let mut pauses = Backoff::new(Duration::from_millis(10), Duration::from_secs(2));
    while pod.accepts() {
        match open(node, pod, at).await {
            Ok(listener) => {
                let listener = Arc::new(listener);
                return pod.listens_again(ended, &listener).then_some(listener);
            }
            Err(error) => {
                if let Some(before) = pod.misconduct.allows() {
                    let error = format!("{error:#}");
                    warn!(
                        pod = pod.spec().name,
                        error, before, "the pod has no anchor"
                    );
                }
            }
        }
        sleep(pauses.pause()).await;
    }
    None
}

async fn open(node: &Arc<Node>, pod: &Arc<Pod>, at: IpAddr) -> anyhow::Result<TcpListener> {
    let spliced = pod.spliced;
    let opened = (pod.netns).call(move || listen(SocketAddr::new(at, 0), spliced));
    let listener = TcpListener::from_std(opened.await??)?;
    let anchor = listener.local_addr()?;
    pod.move_anchor(&mut node.datapath(), anchor)?;
    if pod.misconduct.allows().is_some() {
        info!(pod = pod.spec().name, %anchor, "the pod ended its anchor and has another");
    }
    Ok(listener)
}
