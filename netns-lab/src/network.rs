//! Builds the lab's network: one namespace with a bridge (the switch), one per pod, and a veth pair for each.
//!
//! ```text
//!  pod "client"              switch                  pod "web-1"
//!  lo  eth0 ------- port10  br0  port11 ------- eth0  lo
//!      10.244.1.1/16        10.244.255.254           10.244.1.2/16
//!      default via the switch: answers "unreachable" for whatever is no pod, virtual IPs included
//! ```

use std::{net::IpAddr, os::fd::AsRawFd, thread};

use netns_rs::NetNs;

use crate::{
    address::{
        GATEWAY_MAC, GATEWAY4, GATEWAY6, POD_PREFIX4, POD_PREFIX6, Pair, on_pod_network4,
        on_pod_network6, pod_mac,
    },
    error::LabError,
    link::{LOOPBACK, Netlink, PodEnd},
    namespace::{self, POD_SYSCTLS, SWITCH_SYSCTLS},
};

/// Index of the bridge in the switch, and of `eth0` in a pod: the first after `lo`.
const FIRST_LINK: u32 = 2;
/// Index of the first port of the bridge.
const FIRST_PORT: u32 = 10;

/// The namespaces of a lab. Closing them ends every link in them.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) switch: NetNs,
    /// In the order of the pods.
    pub(crate) pods: Vec<NetNs>,
}

/// A pod as far as the network is concerned.
pub(crate) struct Host<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: Pair,
}

/// Builds the network on a thread of its own, which passes through all namespaces and ends.
pub(crate) fn build(hosts: &[Host<'_>]) -> Result<Network, LabError> {
    let thread_error = |what| move |source| LabError::Thread { what, source };
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(thread_error("runtime for netlink"))?;
        runtime.block_on(build_all(hosts))
    };
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("netns-lab-build".to_owned());
        let handle = builder
            .spawn_scoped(scope, work)
            .map_err(thread_error("thread to build the network"))?;
        handle
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

async fn build_all(hosts: &[Host<'_>]) -> Result<Network, LabError> {
    let switch = namespace::enter_new("switch", SWITCH_SYSCTLS)?;
    let wire = Netlink::open("switch")?;
    wire.set_up(LOOPBACK).await?;
    wire.add_bridge("br0", FIRST_LINK, GATEWAY_MAC).await?;
    namespace::set_sysctl("switch", "net/ipv6/conf/br0/disable_ipv6", "0")?;
    wire.add_address(FIRST_LINK, IpAddr::V4(GATEWAY4), POD_PREFIX4)
        .await?;
    wire.add_address(FIRST_LINK, IpAddr::V6(GATEWAY6), POD_PREFIX6)
        .await?;
    wire.add_unreachable_default().await?;
    add_peers(&wire, hosts, None).await?;
    let mut pods = Vec::with_capacity(hosts.len());
    for index in 0..hosts.len() {
        pods.push(build_pod(&wire, hosts, index).await?);
    }
    Ok(Network { switch, pods })
}

async fn build_pod(switch: &Netlink, hosts: &[Host<'_>], index: usize) -> Result<NetNs, LabError> {
    let Host { name, address } = &hosts[index];
    let netns = namespace::enter_new(name, POD_SYSCTLS)?;
    let wire = Netlink::open(name)?;
    wire.set_up(LOOPBACK).await?;
    let eth0 = PodEnd {
        netns: netns.file().as_raw_fd(),
        name: "eth0",
        index: FIRST_LINK,
        mac: pod_mac(index),
    };
    switch
        .add_port(FIRST_LINK, FIRST_PORT + index as u32, &eth0)
        .await?;
    wire.set_up(FIRST_LINK).await?;
    let prefix4 = if on_pod_network4(address.v4) {
        POD_PREFIX4
    } else {
        32
    };
    let prefix6 = if on_pod_network6(address.v6) {
        POD_PREFIX6
    } else {
        128
    };
    wire.add_address(FIRST_LINK, IpAddr::V4(address.v4), prefix4)
        .await?;
    wire.add_address(FIRST_LINK, IpAddr::V6(address.v6), prefix6)
        .await?;
    wire.add_default_route(FIRST_LINK, IpAddr::V4(GATEWAY4))
        .await?;
    wire.add_default_route(FIRST_LINK, IpAddr::V6(GATEWAY6))
        .await?;
    wire.add_neighbour(FIRST_LINK, IpAddr::V4(GATEWAY4), GATEWAY_MAC)
        .await?;
    wire.add_neighbour(FIRST_LINK, IpAddr::V6(GATEWAY6), GATEWAY_MAC)
        .await?;
    add_peers(&wire, hosts, Some((index, prefix4, prefix6))).await?;
    Ok(netns)
}

/// Neighbour entries for all pods (but the one whose namespace this is), and routes to those that the own
/// prefix does not cover. Fixed entries spare the measurements ARP traffic, and the kernel's neighbour
/// table, which all namespaces share, its limit of 1024.
async fn add_peers(
    wire: &Netlink,
    hosts: &[Host<'_>],
    own: Option<(usize, u8, u8)>,
) -> Result<(), LabError> {
    let (own_index, prefix4, prefix6) =
        own.map_or((usize::MAX, POD_PREFIX4, POD_PREFIX6), |own| own);
    for (index, host) in hosts
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != own_index)
    {
        let (v4, v6) = (IpAddr::V4(host.address.v4), IpAddr::V6(host.address.v6));
        if prefix4 != POD_PREFIX4 || !on_pod_network4(host.address.v4) {
            wire.add_link_route(FIRST_LINK, v4, 32).await?;
        }
        if prefix6 != POD_PREFIX6 || !on_pod_network6(host.address.v6) {
            wire.add_link_route(FIRST_LINK, v6, 128).await?;
        }
        wire.add_neighbour(FIRST_LINK, v4, pod_mac(index)).await?;
        wire.add_neighbour(FIRST_LINK, v6, pod_mac(index)).await?;
    }
    Ok(())
}
