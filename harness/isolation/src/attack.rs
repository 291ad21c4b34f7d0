//! What a pod can do to others, without any right on the node.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef, Socket, Type};

/// What an attacker did, and got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deeds {
    /// Connections that it made.
    pub made: u64,
    /// Connections or requests that it was refused, or that broke off.
    pub refused: u64,
    /// Requests of others that came to it.
    pub taken: u64,
}

/// Rebuilds another pod's upstream connections, addresses and all, in a network namespace of its own, and serves what comes: as any process
/// can, without a capability, where user namespaces are to be had.
///
/// # Errors
/// If there is no namespace to be had, or nothing to be bound in it.
pub fn thief(
    client: Ipv4Addr,
    server: SocketAddrV4,
    ports: std::ops::RangeInclusive<u16>,
    length: Duration,
) -> io::Result<Deeds> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    up()?;
    for (label, address) in [("lo:1", client), ("lo:2", *server.ip())] {
        assign(label, address)?;
    }
    let listener = TcpListener::bind(server)?;
    listener.set_nonblocking(true)?;
    let end = Instant::now() + length;
    let mut deeds = Deeds::default();
    let mut ends: Vec<(TcpStream, Socket)> = Vec::new();
    for port in ports {
        if Instant::now() >= end {
            break;
        }
        let own = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        own.set_reuse_address(true)?;
        let connected = own
            .bind(&SocketAddrV4::new(client, port).into())
            .and_then(|()| own.connect(&SocketAddr::V4(server).into()));
        match connected.and_then(|()| listener.accept()) {
            Ok((accepted, _)) => {
                accepted.set_nonblocking(true)?;
                deeds.made += 1;
                ends.push((accepted, own));
            }
            Err(_) => deeds.refused += 1,
        }
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen";
    let mut bytes = [0; 4096];
    while Instant::now() < end {
        for (accepted, _) in &mut ends {
            if accepted.read(&mut bytes).is_ok_and(|count| count > 0) {
                deeds.taken += 1;
                let _ = accepted.write_all(answer);
            }
        }
    }
    Ok(deeds)
}

/// `struct ifreq` with the part that is used here.
#[repr(C)]
struct Interface {
    name: [u8; libc::IFNAMSIZ],
    value: [u8; 24],
}

fn interface(name: &str) -> Interface {
    let mut request = Interface {
        name: [0; libc::IFNAMSIZ],
        value: [0; 24],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    request
}

fn order(request: &mut Interface, order: libc::Ioctl) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: the order reads a `struct ifreq`, which `request` is laid out as.
    let failed = unsafe { libc::ioctl(socket.as_raw_fd(), order, &raw mut *request) };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Brings the loopback device up.
fn up() -> io::Result<()> {
    let mut request = interface("lo");
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as u16;
    request.value[..2].copy_from_slice(&flags.to_ne_bytes());
    order(&mut request, libc::SIOCSIFFLAGS as libc::Ioctl)
}

/// Gives it one more address.
fn assign(label: &str, address: Ipv4Addr) -> io::Result<()> {
    let mut request = interface(label);
    let family = libc::AF_INET as u16;
    request.value[..2].copy_from_slice(&family.to_ne_bytes());
    request.value[4..8].copy_from_slice(&address.octets());
    order(&mut request, libc::SIOCSIFADDR as libc::Ioctl)
}

/// Keeps connections open without a word, as many as it gets, up to `most`.
pub fn hold(target: SocketAddr, most: usize, length: Duration) -> Deeds {
    let end = Instant::now() + length;
    let mut deeds = Deeds::default();
    let mut held = Vec::new();
    while Instant::now() < end && held.len() < most {
        match TcpStream::connect_timeout(&target, Duration::from_secs(1)) {
            Ok(stream) => {
                deeds.made += 1;
                held.push(stream);
            }
            Err(_) => deeds.refused += 1,
        }
    }
    while Instant::now() < end {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    deeds
}

/// How a connection is left in the middle of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Closed with a reset.
    Reset,
    /// Disconnected (`connect` to `AF_UNSPEC`), then closed.
    Unspecified,
    /// Connected to another service at once, by the same socket.
    Again(SocketAddr),
}

/// Leaves exchanges at every moment of them, again and again.
pub fn leave(target: SocketAddr, how: Leave, length: Duration) -> Deeds {
    let end = Instant::now() + length;
    let mut deeds = Deeds::default();
    let request = b"GET /attacker HTTP/1.1\r\nhost: attacker\r\n\r\n";
    let mut moment: u64 = 0;
    let mut bytes = [0; 4096];
    while Instant::now() < end {
        let Ok(mut stream) = TcpStream::connect_timeout(&target, Duration::from_secs(1)) else {
            deeds.refused += 1;
            continue;
        };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let _ = stream.set_nodelay(true);
        // Twice in peace, so that the kernel has the third.
        let warm = (0..2).all(|_| {
            stream.write_all(request).is_ok()
                && stream.read(&mut bytes).is_ok_and(|count| count > 0)
        });
        if !warm || stream.write_all(request).is_err() {
            deeds.refused += 1;
            continue;
        }
        deeds.made += 1;
        moment = (moment + 977) % 200_000;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_nanos(moment) {
            std::hint::spin_loop();
        }
        depart(&mut stream, how);
    }
    deeds
}

fn depart(stream: &mut TcpStream, how: Leave) {
    let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
    if how == Leave::Reset {
        return;
    }
    let nowhere = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    // SAFETY: a live descriptor and a live address, of the size said.
    unsafe {
        libc::connect(
            stream.as_raw_fd(),
            &raw const nowhere,
            size_of_val(&nowhere) as libc::socklen_t,
        )
    };
    if let Leave::Again(other) = how {
        let _ = SockRef::from(&*stream).connect(&other.into());
        let _ = stream.write_all(b"GET /again HTTP/1.1\r\nhost: attacker\r\n\r\n");
    }
}
