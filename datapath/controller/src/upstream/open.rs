//! Opening an upstream connection from inside a pod's network namespace.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kmesh_api::Address;
use kmesh_api::pool::{Arrivals, Connection, PoolKey};
use kmesh_orchestration::slot;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{Ticket, record, vacate};
use crate::buffers::Buffers;
use crate::node::Node;
use crate::pods::Pod;

/// Why there is no connection to an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The pod lacks the endpoint's address family.
    #[error("pod {pod} has no address of the family of {endpoint}")]
    Family {
        /// The pod.
        pod: String,
        /// The endpoint.
        endpoint: SocketAddr,
    },
    /// The connection failed.
    #[error("pod {pod}: cannot connect to {endpoint}")]
    Connect {
        /// The pod.
        pod: String,
        /// The endpoint.
        endpoint: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A reserved slot; vacated when dropped, unless the kernel got it.
pub struct Slot {
    node: Arc<Node>,
    /// Its number.
    pub number: u32,
    /// The connection it stands for.
    pub connection: Connection,
    /// The socket's cookie, if its connection is spliced.
    cookie: Option<u64>,
    kept: bool,
}

impl Slot {
    /// Tells the kernel of the connection that `socket` is about to open. Without that it is slower, not wrong.
    fn announce(&mut self, spliced: bool, socket: &Socket) -> io::Result<()> {
        let mut datapath = self.node.datapath();
        if spliced {
            let cookie = socket.cookie()?;
            if datapath
                .slots
                .insert(cookie, Arrivals::new(self.number), 0)
                .is_ok()
            {
                self.cookie = Some(cookie);
            }
        } else {
            // Without it the connection is taken for one to another node.
            let _ = datapath.expected.insert(self.connection, self.number, 0);
        }
        Ok(())
    }

    /// The socket's cookie, if its connection is spliced.
    pub(super) fn spliced(&self) -> Option<u64> {
        self.cookie
    }

    /// The slot now belongs to someone who will vacate it.
    pub(super) fn keep(mut self) -> (u32, Connection) {
        self.kept = true;
        (self.number, self.connection)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.kept {
            vacate(&self.node, self.number, Some(&self.connection), self.cookie);
        }
    }
}

/// An open connection, not yet the kernel's.
pub struct Opened {
    /// The connection.
    pub stream: TcpStream,
    /// Its slot; `None` if all slots are taken, then it stays in user space.
    pub slot: Option<Slot>,
    /// Which pool it belongs to.
    pub key: PoolKey,
    /// Its part of the cluster's limit.
    pub ticket: Ticket,
}

/// Connects from `pod` to the endpoint with that id, within `patience`.
///
/// The kernel is told the connection's addresses before it is opened, so that the accepting side recognises it when it is on
/// this node.
///
/// # Errors
/// [`UpstreamError`].
pub async fn open(
    node: &Arc<Node>,
    pod: &Pod,
    endpoint: SocketAddr,
    id: u32,
    patience: Duration,
    ticket: Ticket,
) -> Result<Opened, UpstreamError> {
    let name = || pod.spec().name.clone();
    let failed = |source| UpstreamError::Connect {
        pod: name(),
        endpoint,
        source,
    };
    let source = pod.source(endpoint).ok_or_else(|| UpstreamError::Family {
        pod: name(),
        endpoint,
    })?;
    let key = PoolKey {
        pod: pod.index,
        endpoint: id,
    };
    let socket = pod
        .netns
        .run(move || {
            Socket::new(
                Domain::for_address(endpoint),
                Type::STREAM,
                Some(Protocol::TCP),
            )
        })
        .and_then(|socket| socket)
        .map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.set_tcp_nodelay(true).map_err(failed)?;
    if !pod.spliced {
        // Before the handshake, which announces how the window scales. A spliced client's window is its own.
        Buffers::UPSTREAM.fix(&socket).map_err(failed)?;
    }
    socket
        .bind(&SocketAddr::new(source, 0).into())
        .map_err(failed)?;
    let local = socket
        .local_addr()
        .map_err(failed)?
        .as_socket()
        .unwrap_or(endpoint);
    let connection = Connection {
        client: Address::from(local),
        server: Address::from(endpoint),
    };
    let mut slot = reserve(node, key, connection);
    if let Some(slot) = slot.as_mut() {
        slot.announce(pod.spliced, &socket).map_err(failed)?;
    }
    let socket = TcpSocket::from_std_stream(socket.into());
    let stream = timeout(patience, socket.connect(endpoint))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(failed)?;
    Ok(Opened {
        stream,
        slot,
        key,
        ticket,
    })
}

fn reserve(node: &Arc<Node>, key: PoolKey, connection: Connection) -> Option<Slot> {
    let number = node.upstreams.state().vacant.pop_front()?;
    let slot = Slot {
        node: Arc::clone(node),
        number,
        connection,
        cookie: None,
        kept: false,
    };
    let record = record(node, number)?;
    slot::open(&record)?;
    record.set_pod(key.pod);
    record.set_endpoint(key.endpoint);
    record.set_server(0);
    record.set_client(0);
    record.set_remaining(0);
    Some(slot)
}
