//! Segments that bring again what was there already, as retransmissions do: the client gets every byte once.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its own functions too"
)]

use crate::lab;

use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;

use lab::raw::{self, Connection};
use lab::{Mesh, eventually, root};
use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of a segment that is sent twice.
const SEGMENT: usize = 1_000;
/// Such segments in a row: more than a program can cut off at once.
const SEGMENTS: usize = 6;
/// Bytes of a body that the kernel answers with, and of one that user space carries.
const SIZES: [usize; 2] = [20_000, 300_000];

#[test]
fn bytes_that_come_twice_are_answered_once() {
    if !root("bytes_that_come_twice_are_answered_once") {
        return;
    }
    let mesh = Mesh::remote("overlap");
    // In the server's namespace: what it sends comes from the server's address.
    let made = mesh.lab.pod("s3").unwrap().run(|| {
        Socket::new(
            Domain::IPV4,
            Type::RAW,
            Some(Protocol::from(libc::IPPROTO_RAW)),
        )
    });
    let forger = made.unwrap().unwrap();
    let _server = raw::serve(&mesh, move |connection| overlapping(connection, &forger));
    let mut client = mesh.connect();
    for size in SIZES {
        mesh.warm(&mut client, &[("/raw/0", "")]);
        for turn in 0..20 {
            let response = client.get(&format!("/raw/{size}"), "");
            assert_eq!(response.status, 200, "{size} bytes, turn {turn}");
            assert!(response.body == body(size), "{size} bytes, turn {turn}");
        }
    }
    let requests = mesh.requests();
    assert!(requests.by_reason["relayed"] >= 20, "{requests:?}");
    assert!(requests.kernel >= 20, "{requests:?}");
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 31 % 253) as u8).collect()
}

/// Answers `/raw/N` with N bytes, of which some are sent twice: by the forger first, then by the connection, which knows nothing of it
/// and sends them at the beginning of a longer segment.
fn overlapping(mut connection: Connection, forger: &Socket) {
    while let Some(request) = connection.request() {
        let size: usize = request.path()["/raw/".len()..].parse().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").into_bytes();
        let whole = [head, body(size)].concat();
        let (first, rest) = whole.split_at(whole.len().min(SEGMENT));
        if connection.answer(&[first]).is_none() {
            return;
        }
        if !rest.is_empty() {
            forge(forger, &connection.stream, &rest[..SEGMENTS * SEGMENT]);
        }
        if connection.answer(&[rest]).is_none() {
            return;
        }
    }
}

/// Sends `bytes` to the peer of `stream` where the bytes that are written to it next will be.
fn forge(forger: &Socket, stream: &TcpStream, bytes: &[u8]) {
    eventually("everything is acknowledged", || {
        let mut left: libc::c_int = 0;
        // SAFETY: the call writes one number.
        let asked = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut left) };
        (asked == 0 && left == 0)
            .then_some(())
            .ok_or(left.to_string())
    });
    let (SocketAddr::V4(from), SocketAddr::V4(to)) =
        (stream.local_addr().unwrap(), stream.peer_addr().unwrap())
    else {
        panic!("not IPv4")
    };
    let [next, expected] = sequence(stream);
    for (number, piece) in bytes.chunks(SEGMENT).enumerate() {
        let at = next.wrapping_add((number * SEGMENT) as u32);
        let packet = packet(from, to, [at, expected], piece);
        let to = SocketAddr::V4(SocketAddrV4::new(*to.ip(), 0));
        assert_eq!(
            forger.send_to(&packet, &to.into()).unwrap(),
            packet.len(),
            "{to}"
        );
    }
}

/// Sequence numbers of the next byte that the connection sends and of the next that it expects (`TCP_REPAIR`, `include/uapi/linux/tcp.h`).
fn sequence(stream: &TcpStream) -> [u32; 2] {
    const REPAIR: libc::c_int = 19;
    const REPAIR_QUEUE: libc::c_int = 20;
    const QUEUE_SEQ: libc::c_int = 21;
    const OFF_SILENTLY: libc::c_int = -1;
    let fd = stream.as_raw_fd();
    let set = |option, value: libc::c_int| {
        // SAFETY: the value is a number, as long as said.
        let done = unsafe {
            let value = (&raw const value).cast();
            libc::setsockopt(fd, libc::IPPROTO_TCP, option, value, 4)
        };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    };
    set(REPAIR, 1);
    let [received, sent] = [1, 2].map(|queue| {
        set(REPAIR_QUEUE, queue);
        let (mut value, mut length) = (0u32, 4);
        // SAFETY: the value is a number, as long as said.
        let done = unsafe {
            let value = (&raw mut value).cast();
            libc::getsockopt(fd, libc::IPPROTO_TCP, QUEUE_SEQ, value, &raw mut length)
        };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        value
    });
    set(REPAIR, OFF_SILENTLY);
    [sent, received]
}

/// An IPv4 packet with a TCP segment of those sequence and acknowledgement numbers.
fn packet(from: SocketAddrV4, to: SocketAddrV4, numbers: [u32; 2], payload: &[u8]) -> Vec<u8> {
    const ACK_AND_PUSH: u8 = 0x18;
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(numbers[0].to_be_bytes());
    segment.extend(numbers[1].to_be_bytes());
    // Five words of header; a window; checksum and urgent pointer.
    segment.extend([5 << 4, ACK_AND_PUSH, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    let mut pseudo = [from.ip().octets(), to.ip().octets()].concat();
    pseudo.extend([0, libc::IPPROTO_TCP as u8]);
    pseudo.extend((segment.len() as u16).to_be_bytes());
    let sum = checksum(&[pseudo, segment.clone()].concat());
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    // The kernel fills in length, identification and checksum (raw(7)).
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, libc::IPPROTO_TCP as u8, 0, 0];
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(segment);
    packet
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
