//! The netlink requests a lab is made of. Each socket is opened inside the namespace it works on and stays bound to it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::RawFd,
};

use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        address::{AddressAttribute, AddressFlags},
        link::{BridgeStpState, InfoData, InfoVeth},
        route::{RouteMessage, RouteScope, RouteType},
    },
};

use crate::error::{LabError, netlink_errno};

/// Index of `lo` in every namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// A netlink socket in one namespace.
pub(crate) struct Netlink {
    of: String,
    handle: Handle,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace. Must be called on a tokio runtime, which drives it.
    pub(crate) fn open(of: &str) -> Result<Self, LabError> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| LabError::Namespace {
                of: of.to_owned(),
                call: "socket(AF_NETLINK)",
                source,
            })?;
        tokio::spawn(connection);
        Ok(Self {
            of: of.to_owned(),
            handle,
        })
    }

    /// `ip link set INDEX up`
    pub(crate) async fn set_up(&self, index: u32) -> Result<(), LabError> {
        let up = LinkUnspec::new_with_index(index).up().build();
        let done = self.handle.link().set(up).execute().await;
        self.check(done, || format!("link set dev {index} up"))
    }

    /// A bridge that forwards from the first packet on: no spanning tree, no multicast snooping.
    pub(crate) async fn add_bridge(
        &self,
        name: &str,
        index: u32,
        mac: [u8; 6],
    ) -> Result<(), LabError> {
        let bridge = LinkBridge::new(name)
            .index(index)
            .address(mac.to_vec())
            .stp_state(BridgeStpState::Disabled)
            .forward_delay(0)
            .mcast_snooping(false)
            .build();
        let done = self.handle.link().add(bridge).execute().await;
        self.check(done, || format!("link add {name} type bridge"))
    }

    /// A veth pair: one end here as a port of the bridge, the other as `eth0` in the namespace of `pod.netns`.
    /// Both ends are made where they belong, so no name can collide on the way. The far end is down: a veth can't
    /// be opened before its peer is registered.
    pub(crate) async fn add_port(
        &self,
        bridge: u32,
        port: u32,
        pod: &PodEnd,
    ) -> Result<(), LabError> {
        let name = format!("port{port}");
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(pod.name)
            .index(pod.index)
            .address(pod.mac.to_vec())
            .setns_by_fd(pod.netns)
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new(&name, "")
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .index(port)
            .controller(bridge)
            .up()
            .build();
        let done = self.handle.link().add(pair).execute().await;
        self.check(done, || {
            format!("link add {name} type veth peer {}", pod.name)
        })
    }

    /// `ip address add ADDRESS/PREFIX dev INDEX nodad`
    pub(crate) async fn add_address(
        &self,
        index: u32,
        address: IpAddr,
        prefix: u8,
    ) -> Result<(), LabError> {
        let mut request = self.handle.address().add(index, address, prefix);
        if address.is_ipv6() {
            let nodad = AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Permanent);
            request.message_mut().attributes.push(nodad);
        }
        let done = request.execute().await;
        self.check(done, || {
            format!("address add {address}/{prefix} dev {index}")
        })
    }

    /// A neighbour that never has to be asked for, and does not count against the table's limits.
    pub(crate) async fn add_neighbour(
        &self,
        index: u32,
        address: IpAddr,
        mac: [u8; 6],
    ) -> Result<(), LabError> {
        let request = self
            .handle
            .neighbours()
            .add(index, address)
            .link_layer_address(&mac);
        let done = request.execute().await;
        self.check(done, || format!("neighbour add {address} dev {index}"))
    }

    /// `ip route add DESTINATION/PREFIX dev INDEX scope link`
    pub(crate) async fn add_link_route(
        &self,
        index: u32,
        destination: IpAddr,
        prefix: u8,
    ) -> Result<(), LabError> {
        let route = match destination {
            IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(v4, prefix)
                .output_interface(index)
                .scope(RouteScope::Link)
                .build(),
            IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(v6, prefix)
                .output_interface(index)
                .build(),
        };
        self.add_route(route, || {
            format!("route add {destination}/{prefix} dev {index}")
        })
        .await
    }

    /// `ip route add default via GATEWAY dev INDEX onlink`
    pub(crate) async fn add_default_route(
        &self,
        index: u32,
        gateway: IpAddr,
    ) -> Result<(), LabError> {
        let route = match gateway {
            IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
                .gateway(v4)
                .output_interface(index)
                .onlink()
                .build(),
            IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
                .gateway(v6)
                .output_interface(index)
                .onlink()
                .build(),
        };
        self.add_route(route, || {
            format!("route add default via {gateway} dev {index}")
        })
        .await
    }

    /// `ip route add unreachable default`, both families: nothing leaves the lab, and the sender is told at once.
    pub(crate) async fn add_unreachable_default(&self) -> Result<(), LabError> {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new()
            .kind(RouteType::Unreachable)
            .build();
        self.add_route(v4, || "route add unreachable default".to_owned())
            .await?;
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new()
            .kind(RouteType::Unreachable)
            .build();
        self.add_route(v6, || "-6 route add unreachable default".to_owned())
            .await
    }

    async fn add_route(
        &self,
        route: RouteMessage,
        words: impl FnOnce() -> String,
    ) -> Result<(), LabError> {
        let done = self.handle.route().add(route).execute().await;
        self.check(done, words)
    }

    fn check(
        &self,
        done: Result<(), rtnetlink::Error>,
        request: impl FnOnce() -> String,
    ) -> Result<(), LabError> {
        done.map_err(|error| LabError::Link {
            of: self.of.clone(),
            request: request(),
            source: netlink_errno(&error),
        })
    }
}

/// The end of a veth pair that goes into a pod.
pub(crate) struct PodEnd {
    pub(crate) netns: RawFd,
    pub(crate) name: &'static str,
    pub(crate) index: u32,
    pub(crate) mac: [u8; 6],
}
