//! Large configurations, to see what size costs: routes, of which a tenth are expressions, and hosts.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use kmesh_config::Config;
use kmesh_config::model::{
    ClusterConfig, LbPolicy, ListenerConfig, ListenerKind, PathMatch, RouteAction,
    RouteConfiguration, RouteRule, VirtualHostConfig,
};

use kmesh_config::policy::{ClusterPolicy, HttpOptions};

use crate::request::Request;

/// A listener with `hosts` virtual hosts, the last of which has `routes` routes, to a cluster of two endpoints. Every tenth route is
/// a regular expression.
pub fn config(hosts: usize, routes: usize) -> Config {
    let host = |i: usize| VirtualHostConfig {
        name: format!("host-{i}"),
        domains: vec![domain(i)],
        routes: if i + 1 == hosts {
            (0..routes).map(route).collect()
        } else {
            vec![route(0)]
        },
    };
    let endpoint = |last| SocketAddr::from((Ipv4Addr::new(10, 244, 0, last), 8080));
    Config {
        origin: "many".to_owned(),
        listeners: vec![ListenerConfig {
            name: "web".to_owned(),
            address: SocketAddr::from((Ipv4Addr::new(10, 96, 0, 1), 80)),
            kind: ListenerKind::Http(RouteConfiguration {
                name: "many".to_owned(),
                virtual_hosts: (0..hosts).map(host).collect(),
                options: HttpOptions::default(),
            }),
        }],
        clusters: vec![ClusterConfig {
            name: "c".to_owned(),
            lb: LbPolicy::RoundRobin,
            endpoints: vec![endpoint(1), endpoint(2)],
            max_connections: 1024,
            max_pending_requests: 1024,
            connect_timeout: Duration::from_secs(5),
            policy: ClusterPolicy::default(),
        }],
    }
}

fn domain(host: usize) -> String {
    format!("service-{host}.default.svc.cluster.local")
}

fn route(number: usize) -> RouteRule {
    let path = if number % 10 == 8 {
        PathMatch::Regex(format!("/service-{number}/[0-9]+(?:/.*)?"))
    } else {
        PathMatch::Prefix(format!("/service-{number}/"))
    };
    RouteRule::to(path, RouteAction::Cluster("c".to_owned()))
}

/// A request of `bytes` bytes for the last route of the last of `hosts` hosts.
pub fn request(hosts: usize, routes: usize, bytes: usize) -> Request {
    let target = format!("/service-{}/item", routes - 1);
    sized(Request::get(&domain(hosts - 1), &target), bytes)
}

/// A request of `bytes` bytes for the last regular expression of the last of `hosts` hosts; `routes` is a multiple of ten.
pub fn request_by_expression(hosts: usize, routes: usize, bytes: usize) -> Request {
    let target = format!("/service-{}/17/x", routes - 2);
    sized(Request::get(&domain(hosts - 1), &target), bytes)
}

/// The request with the headers of `curl`, and one more that fills it up.
fn sized(request: Request, bytes: usize) -> Request {
    let request = request
        .with("user-agent", "curl/7.88.1")
        .with("accept", "*/*");
    let fill = bytes.saturating_sub(request.to_bytes().len() + "x-fill: \r\n".len());
    request.with("x-fill", &"f".repeat(fill))
}
