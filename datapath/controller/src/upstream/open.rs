//! Opening an upstream connection from inside a pod's network namespace.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kmesh_api::Address;
use kmesh_api::pool::{Arrivals, Connection, Expected, PoolKey, Sequences};
use kmesh_orchestration::slot;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tracing::error;

use super::{Ticket, peer, record, vacate};
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
    /// The endpoint left the configuration, or the pod the mesh, before the connection was open.
    #[error("pod {pod}: {endpoint} is not an endpoint of this pod any more")]
    Gone {
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
    /// Tells the kernel of the connection that `socket` is about to open; whether an accepted socket of this node is to be recognised as its
    /// far end. Without that it is slower, not wrong.
    fn announce(
        &mut self,
        spliced: bool,
        socket: &Socket,
        endpoint: SocketAddr,
    ) -> io::Result<bool> {
        if spliced {
            let cookie = socket.cookie()?;
            let arrivals = Arrivals::new(self.number);
            if self
                .node
                .datapath()
                .slots
                .insert(cookie, arrivals, 0)
                .is_ok()
            {
                self.cookie = Some(cookie);
            }
            return Ok(false);
        }
        let owner = self.node.upstreams.owner(endpoint.ip());
        let Some((netns, record)) = owner.zip(record(&self.node, self.number)) else {
            return Ok(false);
        };
        let expected = Expected {
            netns,
            lease: record.word().lease(),
            slot: self.number,
            reserved: 0,
        };
        let mut datapath = self.node.datapath();
        Ok(datapath
            .expected
            .insert(self.connection, expected, 0)
            .is_ok())
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
    /// What its own end counted before anything was sent; `None` if nobody on this node was asked to recognise the other.
    pub sequences: Option<Sequences>,
    /// Which pool it belongs to.
    pub key: PoolKey,
    /// Its part of the cluster's limit.
    pub ticket: Ticket,
}

/// Connects from `pod` to the endpoint with that id, within `patience`.
///
/// The kernel is told the connection's addresses before it is opened, so that the accepting side recognises it when it is on
/// this node. A connection that is not wanted any more before it is open is given up.
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
    let gone = || UpstreamError::Gone {
        pod: name(),
        endpoint,
    };
    let mut slot = reserve(node, key, connection).map_err(|Unwanted| gone())?;
    let announced = match slot.as_mut() {
        Some(slot) => slot
            .announce(pod.spliced, &socket, endpoint)
            .map_err(failed)?,
        None => false,
    };
    let socket = TcpSocket::from_std_stream(socket.into());
    let connect = timeout(patience, socket.connect(endpoint));
    tokio::pin!(connect);
    let stream = loop {
        let changed = node.upstreams.changed.notified();
        // What it connects to from now on may be the address's next owner.
        if !node.upstreams.is_wanted(key) {
            return Err(gone());
        }
        tokio::select! {
            connected = &mut connect => break connected,
            () = changed => {}
        }
    };
    let stream = stream
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(failed)?;
    if !node.upstreams.is_wanted(key) {
        return Err(gone());
    }
    let sequences = if announced {
        Some(peer::sequences(&stream).map_err(failed)?)
    } else {
        None
    };
    Ok(Opened {
        stream,
        slot,
        sequences,
        key,
        ticket,
    })
}

/// Nobody is to connect there.
struct Unwanted;

/// A slot for a connection of that pool; `None` if the pod has its share of them.
fn reserve(
    node: &Arc<Node>,
    key: PoolKey,
    connection: Connection,
) -> Result<Option<Slot>, Unwanted> {
    // Held to the end: whoever ends a pool's connections finds this one, or it finds the pool ended.
    let mut state = node.upstreams.state();
    if !state.wanted.contains(key) {
        return Err(Unwanted);
    }
    if !state.slots.take(key.pod) {
        return Ok(None);
    }
    let opened = state.vacant.pop_front().and_then(|number| {
        let record = record(node, number).filter(|record| slot::open(record).is_some());
        if record.is_none() {
            error!(
                slot = number,
                "a vacant slot is in use: it is not given out again"
            );
        }
        record.map(|record| (number, record))
    });
    let Some((number, record)) = opened else {
        state.slots.give(key.pod);
        return Ok(None);
    };
    record.set_pod(key.pod);
    record.set_endpoint(key.endpoint);
    record.set_server(0);
    record.set_server_socket(0);
    record.forget_claim();
    record.set_client(0);
    record.set_remaining(0);
    drop(state);
    Ok(Some(Slot {
        node: Arc::clone(node),
        number,
        connection,
        cookie: None,
        kept: false,
    }))
}
