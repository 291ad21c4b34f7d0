//! Who gets which address. Everything follows from the topology alone, so two runs of one scenario
//! see the same addresses, and captured traffic and configurations can be compared.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use crate::topology::Topology;

/// Prefix of the pods' IPv4 network 10.244.0.0/16, in bits.
pub(crate) const POD_PREFIX4: u8 = 16;
/// Prefix of the pods' IPv6 network fd00:10:244::/64, in bits.
pub(crate) const POD_PREFIX6: u8 = 64;
/// The switch's own address: default gateway of every pod, the one that answers "unreachable".
pub const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 244, 255, 254);
/// The switch's own IPv6 address.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0xffff, 0xfffe);
/// The switch's MAC address.
pub(crate) const GATEWAY_MAC: [u8; 6] = [0x02, b'K', b'M', 0xff, 0xff, 0xff];

/// Default addresses per value of the third byte: 1 to 250.
const HOSTS_PER_BLOCK: usize = 250;

/// An IPv4 and an IPv6 address; every pod and service has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
}

/// The addresses of all pods and services, in the topology's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) pods: Vec<Pair>,
    pub(crate) services: Vec<Pair>,
}

/// Gives every pod and service its addresses: the ones asked for, else the first free default from
/// its own position on.
pub(crate) fn allocate(topology: &Topology) -> Addresses {
    let pods = &topology.pods;
    let services = &topology.services;
    let asked4 = pods
        .iter()
        .filter_map(|p| p.ipv4)
        .chain(services.iter().filter_map(|s| s.vip4));
    let asked6 = pods
        .iter()
        .filter_map(|p| p.ipv6)
        .chain(services.iter().filter_map(|s| s.vip6));
    let mut taken4: HashSet<Ipv4Addr> = asked4.chain([GATEWAY4]).collect();
    let mut taken6: HashSet<Ipv6Addr> = asked6.chain([GATEWAY6]).collect();
    let pods = pods.iter().enumerate().map(|(i, pod)| Pair {
        v4: pod.ipv4.unwrap_or_else(|| first_free(&mut taken4, i, pod4)),
        v6: pod.ipv6.unwrap_or_else(|| first_free(&mut taken6, i, pod6)),
    });
    let pods = pods.collect();
    let services = services.iter().enumerate().map(|(i, service)| Pair {
        v4: service
            .vip4
            .unwrap_or_else(|| first_free(&mut taken4, i, vip4)),
        v6: service
            .vip6
            .unwrap_or_else(|| first_free(&mut taken6, i, vip6)),
    });
    let services = services.collect();
    Addresses { pods, services }
}

/// The MAC address of the pod at this position.
pub(crate) fn pod_mac(index: usize) -> [u8; 6] {
    let [.., high, low] = (index as u32).to_be_bytes();
    [0x02, b'K', b'M', 0, high, low]
}

/// True if the pods' own IPv4 prefix covers this address.
pub(crate) fn on_pod_network4(address: Ipv4Addr) -> bool {
    address.octets()[..2] == GATEWAY4.octets()[..2]
}

/// True if the pods' own IPv6 prefix covers this address.
pub(crate) fn on_pod_network6(address: Ipv6Addr) -> bool {
    address.segments()[..4] == GATEWAY6.segments()[..4]
}

/// Candidates repeat after 65,536 positions at the latest; a topology is far smaller, so the search ends.
fn first_free<A: Copy + Eq + std::hash::Hash>(
    taken: &mut HashSet<A>,
    from: usize,
    candidate: fn(usize) -> A,
) -> A {
    let mut index = from;
    while !taken.insert(candidate(index)) {
        index += 1;
    }
    candidate(index)
}

fn block_and_host(index: usize) -> (u8, u8) {
    (
        (index / HOSTS_PER_BLOCK) as u8,
        (index % HOSTS_PER_BLOCK + 1) as u8,
    )
}

fn pod4(index: usize) -> Ipv4Addr {
    let (block, host) = block_and_host(index);
    Ipv4Addr::new(10, 244, block.wrapping_add(1), host)
}

fn pod6(index: usize) -> Ipv6Addr {
    let (block, host) = block_and_host(index);
    let block = u16::from(block.wrapping_add(1));
    Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, block, u16::from(host))
}

fn vip4(index: usize) -> Ipv4Addr {
    let (block, host) = block_and_host(index);
    Ipv4Addr::new(10, 96, block, host)
}

fn vip6(index: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, (index + 1) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{MAX_PODS, PodSpec, ServiceSpec};

    fn pods(count: usize) -> Vec<PodSpec> {
        let pod = |i| PodSpec {
            name: format!("p{i}"),
            ..PodSpec::default()
        };
        (0..count).map(pod).collect()
    }

    #[test]
    fn defaults_follow_the_order() {
        let topology = Topology {
            pods: pods(2),
            services: vec![ServiceSpec::default(), ServiceSpec::default()],
            ..Topology::default()
        };
        let addresses = allocate(&topology);
        assert_eq!(addresses.pods[0].v4.to_string(), "10.244.1.1");
        assert_eq!(addresses.pods[1].v6.to_string(), "fd00:10:244::1:2");
        assert_eq!(addresses.services[0].v4.to_string(), "10.96.0.1");
        assert_eq!(addresses.services[1].v6.to_string(), "fd00:10:96::2");
        assert_eq!(allocate(&topology), addresses);
    }

    #[test]
    fn an_address_asked_for_later_is_not_given_away_earlier() {
        let mut topology = Topology {
            pods: pods(3),
            ..Topology::default()
        };
        topology.pods[2].ipv4 = Some(Ipv4Addr::new(10, 244, 1, 1));
        let v4 = |i: usize| allocate(&topology).pods[i].v4.to_string();
        assert_eq!(
            [v4(0), v4(1), v4(2)],
            ["10.244.1.2", "10.244.1.3", "10.244.1.1"]
        );
    }

    #[test]
    fn the_largest_topology_gets_distinct_addresses_on_one_network() {
        let topology = Topology {
            pods: pods(MAX_PODS),
            services: vec![ServiceSpec::default(); 5000],
            ..Topology::default()
        };
        let all = allocate(&topology);
        let both = || all.pods.iter().chain(&all.services);
        assert_eq!(
            both().map(|p| p.v4).collect::<HashSet<_>>().len(),
            MAX_PODS + 5000
        );
        assert_eq!(
            both().map(|p| p.v6).collect::<HashSet<_>>().len(),
            MAX_PODS + 5000
        );
        assert!(
            all.pods
                .iter()
                .all(|p| on_pod_network4(p.v4) && on_pod_network6(p.v6))
        );
        let macs: HashSet<_> = (0..MAX_PODS).map(pod_mac).collect();
        assert_eq!(macs.len(), MAX_PODS);
        assert!(
            macs.iter().all(|mac| mac[0] & 3 == 2),
            "locally administered, unicast"
        );
    }
}
