//! TCP segments of all pods: those with data from each socket's `tcp_info` (sock_diag), all of them from `/proc/net/snmp`.
//!
//! A segment with data that is sent, and one that is received, is one pass through a TCP stack each: the article's
//! "stack traversal". A byte that a socket map redirects makes none.

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};
use netns_lab::Lab;
use std::collections::BTreeMap;
use std::io;

/// Room for one datagram of a dump; the kernel fills at most 32 KiB.
const BUFFER: usize = 64 * 1024;

/// What one look at all pods found.
#[derive(Debug, Clone, Default)]
pub struct Segments {
    /// Segments with data, in and out, by pod, family and socket inode or addresses.
    with_data: BTreeMap<(String, String), u64>,
    /// `Tcp: OutSegs` of all pods.
    out: u64,
}

impl Segments {
    /// Looks at every pod of the lab.
    ///
    /// # Errors
    /// The kernel's refusal of sock_diag, or a pod that cannot be entered.
    pub fn of(lab: &Lab) -> io::Result<Self> {
        let mut all = Self::default();
        for pod in lab.pods() {
            let (sockets, out) = pod
                .run(|| {
                    let mut sockets = dump(AF_INET)?;
                    sockets.extend(dump(AF_INET6)?);
                    let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
                    io::Result::Ok((sockets, out_segments(&snmp)))
                })
                .map_err(io::Error::other)??;
            all.out += out;
            for (socket, segments) in sockets {
                all.with_data
                    .insert((pod.name().to_owned(), socket), segments);
            }
        }
        Ok(all)
    }

    /// All segments sent since `earlier`.
    pub fn out_since(&self, earlier: &Self) -> u64 {
        self.out.saturating_sub(earlier.out)
    }

    /// Segments with data, sent plus received, since `earlier`; `None` when sockets ended in between and took
    /// their counts along.
    pub fn with_data_since(&self, earlier: &Self) -> Option<u64> {
        if earlier
            .with_data
            .keys()
            .any(|socket| !self.with_data.contains_key(socket))
        {
            return None;
        }
        let total = |look: &Self| look.with_data.values().sum::<u64>();
        Some(total(self).saturating_sub(total(earlier)))
    }
}

/// Traversals per message: an exchange is two messages, the request and its answer.
pub fn traversals(segments_with_data: u64, requests: u64) -> f64 {
    segments_with_data as f64 / requests.max(1) as f64 / 2.0
}

/// Established sockets of this thread's namespace: name, and data segments in plus out.
fn dump(family: u8) -> io::Result<Vec<(String, u64)>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(family), 0)?;
    let mut sockets = Vec::new();
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        let size = socket.recv(&mut buffer, 0)?;
        let mut rest = buffer.get(..size).unwrap_or_default();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                .map_err(|error| io::Error::other(error.to_string()))?;
            let length = message.header.length as usize;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(sockets),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    let id = &response.header.socket_id;
                    let segments = response.nlas.iter().find_map(|nla| match nla {
                        Nla::TcpInfo(info) => {
                            Some(u64::from(info.data_segs_in) + u64::from(info.data_segs_out))
                        }
                        _ => None,
                    });
                    if let Some(segments) = segments {
                        sockets.push((format!("{family} {:?}", id.cookie), segments));
                    }
                }
                _ => {}
            }
            if length == 0 {
                break;
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn request(family: u8) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut packet = NetlinkMessage::new(
        header,
        SockDiagMessage::InetRequest(InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::INFO,
            states: StateFlags::ESTABLISHED,
            socket_id: if family == AF_INET {
                SocketId::new_v4()
            } else {
                SocketId::new_v6()
            },
        })
        .into(),
    );
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    bytes
}

/// `OutSegs` of the `Tcp:` lines, the first of which names the columns.
fn out_segments(snmp: &str) -> u64 {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return 0;
    };
    names
        .split(' ')
        .zip(values.split(' '))
        .find(|(name, _)| *name == "OutSegs")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_segments_by_name() {
        assert_eq!(
            out_segments("Ip: a b\nIp: 1 2\nTcp: InSegs OutSegs\nTcp: 5 7\n"),
            7
        );
        assert_eq!(out_segments(""), 0);
    }

    #[test]
    fn a_socket_that_ended_makes_the_count_unknown() {
        let look = |sockets: &[(&str, u64)]| Segments {
            with_data: sockets
                .iter()
                .map(|(name, n)| (("p".to_owned(), (*name).to_owned()), *n))
                .collect(),
            out: 0,
        };
        let before = look(&[("a", 1), ("b", 2)]);
        assert_eq!(
            look(&[("a", 11), ("b", 2), ("c", 3)]).with_data_since(&before),
            Some(13)
        );
        assert_eq!(look(&[("a", 11)]).with_data_since(&before), None);
    }

    #[test]
    fn an_exchange_without_a_mesh_is_two_traversals_per_message() {
        // Request out and in, answer out and in.
        assert!((traversals(400, 100) - 2.0).abs() < 1e-12);
    }
}
