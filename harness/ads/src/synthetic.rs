//! Meshes made of services that all look alike, as protobuf: the few fields of Envoy's messages that they need.
#![allow(missing_docs, reason = "the fields are Envoy's and documented there")]

use kmesh_xds::Kind;
use prost::Message as _;
use prost_types::Any;

use crate::World;

#[derive(Clone, PartialEq, prost::Message)]
struct Cluster {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    discovery: i32,
    #[prost(message, optional, tag = "3")]
    eds: Option<Eds>,
    #[prost(message, optional, tag = "4")]
    connect_timeout: Option<prost_types::Duration>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Eds {
    #[prost(message, optional, tag = "1")]
    source: Option<ConfigSource>,
}

/// `ads {}`, `resource_api_version: V3`.
#[derive(Clone, PartialEq, prost::Message)]
struct ConfigSource {
    #[prost(message, optional, tag = "3")]
    ads: Option<Empty>,
    #[prost(int32, tag = "6")]
    version: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct Assignment {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    localities: Vec<Locality>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Locality {
    #[prost(message, repeated, tag = "2")]
    endpoints: Vec<LbEndpoint>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LbEndpoint {
    #[prost(message, optional, tag = "1")]
    endpoint: Option<Addressed>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Addressed {
    #[prost(message, optional, tag = "1")]
    address: Option<Address>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Address {
    #[prost(message, optional, tag = "1")]
    socket: Option<Socket>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Socket {
    #[prost(string, tag = "2")]
    address: String,
    #[prost(uint32, tag = "3")]
    port: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Listener {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    address: Option<Address>,
    #[prost(message, repeated, tag = "3")]
    chains: Vec<Chain>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Chain {
    #[prost(message, repeated, tag = "3")]
    filters: Vec<Filter>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Filter {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    config: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Manager {
    #[prost(string, tag = "2")]
    stat_prefix: String,
    #[prost(message, optional, tag = "3")]
    rds: Option<Rds>,
    #[prost(message, repeated, tag = "5")]
    filters: Vec<Filter>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Rds {
    #[prost(message, optional, tag = "1")]
    source: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Routes {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    hosts: Vec<Host>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Host {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    domains: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    routes: Vec<Route>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Route {
    #[prost(message, optional, tag = "1")]
    matching: Option<Match>,
    #[prost(message, optional, tag = "2")]
    action: Option<Action>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Match {
    #[prost(string, tag = "1")]
    prefix: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Action {
    #[prost(string, tag = "1")]
    cluster: String,
}

fn ads() -> ConfigSource {
    ConfigSource {
        ads: Some(Empty {}),
        version: 2,
    }
}

fn address(address: String, port: u32) -> Address {
    Address {
        socket: Some(Socket { address, port }),
    }
}

fn any(name: &str, bytes: Vec<u8>) -> Any {
    Any {
        type_url: format!("type.googleapis.com/envoy.extensions.filters.{name}"),
        value: bytes,
    }
}

/// A cluster of type EDS with this connect timeout.
pub fn cluster(name: &str, timeout_seconds: i64) -> Vec<u8> {
    let connect_timeout = Some(prost_types::Duration {
        seconds: timeout_seconds,
        nanos: 0,
    });
    let eds = Some(Eds {
        source: Some(ads()),
    });
    Cluster {
        name: name.to_owned(),
        discovery: 3,
        eds,
        connect_timeout,
    }
    .encode_to_vec()
}

/// The endpoints of a cluster: `IP:PORT` each.
pub fn endpoints<'a>(
    cluster: &str,
    endpoints: impl IntoIterator<Item = (&'a str, u32)>,
) -> Vec<u8> {
    let endpoints = endpoints.into_iter().map(|(ip, port)| LbEndpoint {
        endpoint: Some(Addressed {
            address: Some(address(ip.to_owned(), port)),
        }),
    });
    let localities = vec![Locality {
        endpoints: endpoints.collect(),
    }];
    Assignment {
        name: cluster.to_owned(),
        localities,
    }
    .encode_to_vec()
}

/// An HTTP listener that gets its routes by RDS.
pub fn listener(name: &str, ip: &str, port: u32, routes: &str) -> Vec<u8> {
    let router = Filter {
        name: "envoy.filters.http.router".to_owned(),
        config: Some(any("http.router.v3.Router", Vec::new())),
    };
    let manager = Manager {
        stat_prefix: name.to_owned(),
        rds: Some(Rds {
            source: Some(ads()),
            name: routes.to_owned(),
        }),
        filters: vec![router],
    };
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config: Some(any(
            "network.http_connection_manager.v3.HttpConnectionManager",
            manager.encode_to_vec(),
        )),
    };
    let chains = vec![Chain {
        filters: vec![filter],
    }];
    Listener {
        name: name.to_owned(),
        address: Some(address(ip.to_owned(), port)),
        chains,
    }
    .encode_to_vec()
}

/// A route configuration with one host for everything, and a route for each prefix.
pub fn routes<'a>(name: &str, routes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let routes = routes.into_iter().map(|(prefix, cluster)| Route {
        matching: Some(Match {
            prefix: prefix.to_owned(),
        }),
        action: Some(Action {
            cluster: cluster.to_owned(),
        }),
    });
    let host = Host {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: routes.collect(),
    };
    Routes {
        name: name.to_owned(),
        hosts: vec![host],
    }
    .encode_to_vec()
}

/// Adds service number `index`: cluster `s{index}` with `replicas` endpoints, listener `l{index}` with routes `r{index}`.
pub fn add_service(world: &mut World, index: u32, replicas: u32) {
    let [a, b] = [(index >> 8) & 0xff, index & 0xff];
    let name = format!("s{index}");
    world.put(Kind::Cluster, &name, cluster(&name, 1));
    put_endpoints(world, index, replicas, 0);
    let (listened, routed) = (format!("l{index}"), format!("r{index}"));
    world.put(
        Kind::Listener,
        &listened,
        listener(&listened, &format!("10.96.{a}.{b}"), 80, &routed),
    );
    world.put(
        Kind::Routes,
        &routed,
        routes(&routed, [("/", name.as_str())]),
    );
}

/// Gives a service `replicas` endpoints, the first of which moves with `shift`.
pub fn put_endpoints(world: &mut World, index: u32, replicas: u32, shift: u32) {
    let name = format!("s{index}");
    let first = index * 64;
    let ips = (first..first + replicas)
        .map(|it| format!("10.{}.{}.{}", it >> 16, (it >> 8) & 0xff, it & 0xff));
    let ips: Vec<String> = ips.collect();
    let ports = std::iter::once(8080 + shift).chain(std::iter::repeat(8080));
    world.put(
        Kind::Endpoints,
        &name,
        endpoints(&name, ips.iter().map(String::as_str).zip(ports)),
    );
}

/// Removes service number `index` with all that belongs to it.
pub fn remove_service(world: &mut World, index: u32) {
    world.remove(Kind::Routes, &format!("r{index}"));
    world.remove(Kind::Listener, &format!("l{index}"));
    world.remove(Kind::Endpoints, &format!("s{index}"));
    world.remove(Kind::Cluster, &format!("s{index}"));
}

/// A mesh of this many services.
pub fn mesh(services: u32, replicas: u32) -> World {
    let mut world = World::default();
    for index in 0..services {
        add_service(&mut world, index, replicas);
    }
    world
}
