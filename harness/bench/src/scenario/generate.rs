//! Large configurations are described, not committed: `[generate]` says how many endpoints, routes or services there are,
//! and this writes the Envoy v3 resources for it.
//!
//! Files go to `.cache/scenarios` of the checkout, named after scenario and content, and are written once.

use super::{Scenario, Server};
use netns_lab::{PodSpec, ServiceSpec};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

/// What is generated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Generate {
    /// Servers `web-1..` in pods of their own, all endpoints of the one service. Replaces the topology's servers.
    pub endpoints: Option<u16>,
    /// Routes of the one virtual host; one of them leads to `v2`, the others to `v1`.
    pub routes: Option<Routes>,
    /// Services with a listener and virtual address each; `vip` is the last of them.
    pub services: Option<u16>,
}

/// A route table of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Routes {
    /// How many.
    pub count: u16,
    /// How they match.
    pub kind: Kind,
    /// Place (from 1) of the route to `v2`; 0 for none: then the last route, a prefix of everything, answers.
    pub hit: u16,
}

/// How generated routes match.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `path: /route/N`
    #[default]
    Exact,
    /// `prefix: /route/N/`
    Prefix,
    /// `prefix: /` with header `x-route: N`
    Header,
    /// `safe_regex: /route/N/[a-z]+`
    Regex,
}

/// First address of generated servers; the lab's pods live in 10.244.0.0/16.
const FIRST_SERVER: u32 = u32::from_be_bytes([10, 244, 1, 1]);
/// First virtual address of generated services.
const FIRST_VIP: u32 = u32::from_be_bytes([10, 96, 1, 1]);
/// Port of generated servers.
const PORT: u16 = 8080;
const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

/// Fills in topology, servers, vip and resources of a scenario that asks for it. The resources are a file in `cache` that
/// [`settle`] writes.
pub(super) fn generate(scenario: &mut Scenario, cache: &Path) {
    let Some(wanted) = scenario.generate.clone() else {
        return;
    };
    if let Some(count) = wanted.endpoints {
        servers(scenario, count);
    }
    let clusters = clusters(scenario);
    let vips: Vec<Ipv4Addr> = match wanted.services {
        Some(count) => (0..u32::from(count))
            .map(|i| Ipv4Addr::from(FIRST_VIP + i))
            .collect(),
        None => scenario
            .vip
            .iter()
            .filter_map(|vip| match vip.ip() {
                std::net::IpAddr::V4(ip) => Some(ip),
                std::net::IpAddr::V6(_) => None,
            })
            .collect(),
    };
    let port = scenario.vip.map_or(80, |vip| vip.port());
    if let (Some(_), Some(last)) = (wanted.services, vips.last()) {
        scenario.vip = Some((*last, port).into());
        if let Some(service) = scenario.topology.services.first_mut() {
            service.vip4 = Some(*last);
        }
    }
    let routes = match &wanted.routes {
        Some(table) => routes(table),
        None => vec![json!({ "match": { "prefix": "/" }, "route": { "cluster": "web" } })],
    };
    let listeners: Vec<Value> = vips
        .iter()
        .map(|vip| listener(*vip, port, &routes))
        .collect();
    let document = json!({ "static_resources": { "listeners": listeners, "clusters": clusters } });
    // JSON is YAML.
    let text = format!("{document:#}\n");
    let file = format!("{}-{:016x}.yaml", scenario.name, fnv(text.as_bytes()));
    scenario.resources = cache.join(file);
    scenario.generated = Some(text);
}

/// Writes what was generated, unless it is there: beside its place and renamed, since tests load scenarios in parallel.
///
/// # Errors
/// When it cannot be written.
pub(super) fn settle(scenario: &Scenario) -> io::Result<()> {
    let (path, Some(text)) = (&scenario.resources, &scenario.generated) else {
        return Ok(());
    };
    if path.is_file() {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let draft = folder.join(format!(
        ".{}-{}-{:?}",
        scenario.name,
        std::process::id(),
        std::thread::current().id()
    ));
    fs::write(&draft, text)?;
    fs::rename(&draft, path)
}

fn servers(scenario: &mut Scenario, count: u16) {
    let (group, body) = scenario
        .server
        .first()
        .map_or((String::new(), None), |server| {
            (server.group.clone(), server.body_bytes)
        });
    let names: Vec<String> = (1..=count).map(|i| format!("web-{i}")).collect();
    scenario
        .topology
        .pods
        .retain(|pod| pod.name == scenario.client);
    scenario
        .topology
        .pods
        .extend(names.iter().zip(0..).map(|(name, i)| PodSpec {
            name: name.clone(),
            ipv4: Some(Ipv4Addr::from(FIRST_SERVER + i)),
            ..PodSpec::default()
        }));
    scenario.server = names
        .iter()
        .map(|name| Server {
            pod: name.clone(),
            port: PORT,
            group: group.clone(),
            body_bytes: body,
            ..Server::default()
        })
        .collect();
    scenario.topology.services = vec![ServiceSpec {
        name: "web".to_owned(),
        vip4: scenario.vip.and_then(|vip| match vip.ip() {
            std::net::IpAddr::V4(ip) => Some(ip),
            std::net::IpAddr::V6(_) => None,
        }),
        ports: scenario.vip.map(|vip| vip.port()).into_iter().collect(),
        pods: names,
        ..ServiceSpec::default()
    }];
}

/// `web` of all servers, and one cluster per group.
fn clusters(scenario: &Scenario) -> Vec<Value> {
    let mut groups: Vec<&str> = scenario
        .server
        .iter()
        .map(|server| server.group.as_str())
        .collect();
    groups.sort_unstable();
    groups.dedup();
    let members = |name: &str| -> Vec<Value> {
        scenario
            .server
            .iter()
            .filter(|server| name == "web" || server.group == name)
            .filter_map(|server| {
                let pod = scenario.topology.pods.iter().find(|pod| pod.name == server.pod)?;
                let address = json!({ "socket_address": { "address": pod.ipv4?.to_string(), "port_value": server.port } });
                Some(json!({ "endpoint": { "address": address } }))
            })
            .collect()
    };
    std::iter::once("web")
        .chain(groups.into_iter().filter(|group| !group.is_empty()))
        .map(|name| {
            json!({
                "name": name, "type": "STATIC", "lb_policy": "ROUND_ROBIN", "connect_timeout": "1s",
                "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": members(name) }] }
            })
        })
        .collect()
}

fn routes(table: &Routes) -> Vec<Value> {
    let mut routes: Vec<Value> = (1..=table.count)
        .map(|i| {
            let matching = match table.kind {
                Kind::Exact => json!({ "path": format!("/route/{i}") }),
                Kind::Prefix => json!({ "prefix": format!("/route/{i}/") }),
                Kind::Header => json!({
                    "prefix": "/",
                    "headers": [{ "name": "x-route", "string_match": { "exact": i.to_string() } }]
                }),
                Kind::Regex => json!({ "safe_regex": { "regex": format!("/route/{i}/[a-z]+") } }),
            };
            let cluster = if i == table.hit { "v2" } else { "v1" };
            json!({ "match": matching, "route": { "cluster": cluster } })
        })
        .collect();
    // Where no route was meant to be hit, the last one still answers, so that every arm has something to send.
    routes.push(json!({ "match": { "prefix": "/" }, "route": { "cluster": "v1" } }));
    routes
}

fn listener(vip: Ipv4Addr, port: u16, routes: &[Value]) -> Value {
    let name = format!("web-{vip}-{port}");
    json!({
        "name": name,
        "address": { "socket_address": { "address": vip.to_string(), "port_value": port } },
        "bind_to_port": false,
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": HCM,
                "stat_prefix": name,
                "route_config": { "name": name, "virtual_hosts": [{
                    "name": "svc", "domains": ["svc.test", vip.to_string()], "routes": routes
                }] },
                "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": { "@type": ROUTER } }]
            }
        }] }]
    })
}

/// FNV-1a, 64 bits: names files by content, no more.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_route_leads_to_v2_and_the_last_catches_all() {
        let table = Routes {
            count: 3,
            kind: Kind::Prefix,
            hit: 2,
        };
        let made = routes(&table);
        let clusters: Vec<&str> = made
            .iter()
            .filter_map(|route| route["route"]["cluster"].as_str())
            .collect();
        assert_eq!(clusters, ["v1", "v2", "v1", "v1"]);
        assert_eq!(made[1]["match"]["prefix"], "/route/2/");
    }
}
