//! Odd connections of the attacker's own, in its own pod: whatever they are, only its own answers may come on them.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Deeds;
use crate::exchange::{Answer, exchange, prepare};

/// Requests on one connection.
const REQUESTS: u64 = 4;

impl Deeds {
    /// Counts an answer to the request of that number.
    fn judge(&mut self, answer: io::Result<Answer>, server: &str, number: u64) {
        match answer {
            Err(_) => self.refused += 1,
            Ok(answer) if answer.is_of(server, number) || answer.is_nobodys() => {}
            Ok(_) => self.foreign += 1,
        }
    }
}

/// Numbers that no other process of this attack uses for its requests.
fn numbers(length: Duration) -> impl Iterator<Item = u64> {
    let end = Instant::now() + length;
    let first = u64::from(std::process::id()) << 32;
    (first..).take_while(move |_| Instant::now() < end)
}

/// Speaks MPTCP.
///
/// # Errors
/// If this kernel has none.
pub fn mptcp(target: SocketAddr, server: &str, length: Duration) -> io::Result<Deeds> {
    let mut deeds = Deeds::default();
    let mut numbers = numbers(length);
    'connections: loop {
        let socket = Socket::new(
            Domain::for_address(target),
            Type::STREAM,
            Some(Protocol::MPTCP),
        )?;
        if socket
            .connect_timeout(&target.into(), Duration::from_secs(1))
            .is_err()
        {
            deeds.refused += 1;
            if numbers.next().is_none() {
                break;
            }
            continue;
        }
        let mut stream = TcpStream::from(socket);
        prepare(&stream)?;
        deeds.made += 1;
        for _ in 0..REQUESTS {
            let Some(number) = numbers.next() else {
                break 'connections;
            };
            let answer = exchange(&mut stream, number);
            let broken = answer.is_err();
            deeds.judge(answer, server, number);
            if broken {
                break;
            }
        }
    }
    Ok(deeds)
}

/// Leaves a request unanswered and connects again from the same port at once.
///
/// # Errors
/// If no port is to be had.
pub fn reuse(target: SocketAddr, server: &str, length: Duration) -> io::Result<Deeds> {
    let mut deeds = Deeds::default();
    let first = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    first.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into())?;
    let port = first
        .local_addr()?
        .as_socket_ipv4()
        .map_or(0, |address| address.port());
    drop(first);
    for number in numbers(length) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        let connected = socket
            .bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())
            .and_then(|()| socket.connect_timeout(&target.into(), Duration::from_secs(1)));
        if connected.is_err() {
            deeds.refused += 1;
            continue;
        }
        let mut stream = TcpStream::from(socket);
        prepare(&stream)?;
        deeds.made += 1;
        deeds.judge(exchange(&mut stream, number), server, number);
        let left =
            format!("GET / HTTP/1.1\r\nhost: svc.test\r\nx-request-seq: left-{number}\r\n\r\n");
        // It may have been refused: then there is nothing to leave.
        let _ = stream.write_all(left.as_bytes());
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    }
    Ok(deeds)
}

/// Opens connections of sockets to themselves: both ends are active, and the kernel says that one is passive.
///
/// # Errors
/// If no port is to be had.
pub fn selves(own: Ipv4Addr, length: Duration) -> io::Result<Deeds> {
    let mut deeds = Deeds::default();
    for _ in numbers(length) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddrV4::new(own, 0).into())?;
        let at = socket.local_addr()?;
        if socket.connect(&at).is_ok() {
            deeds.made += 1;
        } else {
            deeds.refused += 1;
        }
    }
    Ok(deeds)
}
