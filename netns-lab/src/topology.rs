//! What a lab consists of, as the user writes it: pods, services, CPUs. Pure data and its checks;
//! nothing here touches the kernel, so a scenario can be refused before anything is built.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize, de::IgnoredAny};
use toml::Spanned;

use crate::address::{GATEWAY4, GATEWAY6};

/// Most pods in one lab: a Linux bridge takes 1023 ports (`BR_MAX_PORTS`).
pub const MAX_PODS: usize = 1000;
/// Longest name of a lab, pod or service, in bytes. It becomes part of a cgroup's name.
pub const MAX_NAME: usize = 40;

/// A lab to be built: one bridge, pods on it, and services in front of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Name of the lab; part of its id. Lower-case letters, digits and `-`.
    #[serde(default = "default_name")]
    pub name: String,
    /// The pods, in the order that decides default addresses.
    #[serde(default)]
    pub pods: Vec<PodSpec>,
    /// The services, in the order that decides default virtual addresses.
    #[serde(default)]
    pub services: Vec<ServiceSpec>,
}

/// One pod: a network namespace with `lo` and `eth0`, and a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodSpec {
    /// Name of the pod, unique in the lab.
    pub name: String,
    /// IPv4 address; by default `10.244.x.y`, by order.
    #[serde(default)]
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address; by default `fd00:10:244::x:y`, by order.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// CPUs that processes of this pod may use; empty means all.
    #[serde(default)]
    pub cpus: Vec<usize>,
}

/// A service: virtual addresses that stand for some pods. The lab only routes them; a data plane
/// under test gives them meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// Name of the service, unique among services.
    pub name: String,
    /// Virtual IPv4 address; by default `10.96.x.y`, by order.
    #[serde(default)]
    pub vip4: Option<Ipv4Addr>,
    /// Virtual IPv6 address; by default `fd00:10:96::x`, by order.
    #[serde(default)]
    pub vip6: Option<Ipv6Addr>,
    /// Ports of the service.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Names of the pods behind it; may be empty (a service without endpoints).
    #[serde(default)]
    pub pods: Vec<String>,
}

/// Why a topology was refused. The message names the line (when it came from TOML) and the field.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// Not TOML, a wrong type, or an unknown or missing field.
    #[error("topology line {line}, column {column}: {message}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// What the parser expected, in one line.
        message: String,
    },
    /// Readable, but it can't be built.
    #[error("topology {}{field}: {problem}", line.map(|l| format!("line {l}, ")).unwrap_or_default())]
    Invalid {
        /// Line of the table the field is in, from 1; none if the topology did not come from TOML.
        line: Option<usize>,
        /// Path of the field, such as `pods[2].ipv4`.
        field: String,
        /// What is wrong with its value.
        problem: Problem,
    },
}

/// What is wrong with one field of a topology.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Empty, too long, or with other characters than allowed.
    #[error(
        "name {0:?} is not 1 to {MAX_NAME} of a-z, 0-9 and '-', beginning with a letter or digit"
    )]
    BadName(String),
    /// Two objects with one name.
    #[error("name {name:?} is already taken by {by}")]
    NameTaken {
        /// The name.
        name: String,
        /// Field path of its first use.
        by: String,
    },
    /// Two objects with one address.
    #[error("address {address} is already taken by {by}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Field path of its first use, or `the lab's gateway`.
        by: String,
    },
    /// Loopback, multicast, unspecified, broadcast, v4-mapped or link-local.
    #[error("address {0} is not an ordinary unicast address")]
    NotUnicast(IpAddr),
    /// A service names a pod that isn't there.
    #[error("there is no pod {name:?}; pods are: {known}")]
    UnknownPod {
        /// The name.
        name: String,
        /// The names that exist, comma-separated.
        known: String,
    },
    /// Port 0.
    #[error("port 0 can't be listened on")]
    PortZero,
    /// More pods than a bridge has ports.
    #[error("{0} pods are more than the {MAX_PODS} a bridge can hold")]
    TooManyPods(usize),
}

fn default_name() -> String {
    "lab".to_owned()
}

impl Topology {
    /// Reads and checks a topology.
    ///
    /// # Errors
    /// [`TopologyError`] with the line of the offending table and the field's path.
    pub fn from_toml(text: &str) -> Result<Self, TopologyError> {
        let topology: Self = toml::from_str(text).map_err(|e| syntax(text, &e))?;
        topology.validate().map_err(|error| match error {
            TopologyError::Invalid { field, problem, .. } => TopologyError::Invalid {
                line: line_of(text, &field),
                field,
                problem,
            },
            other @ TopologyError::Syntax { .. } => other,
        })?;
        Ok(topology)
    }

    /// Checks names, addresses and references. [`crate::Lab::up`] does this as well.
    ///
    /// # Errors
    /// [`TopologyError::Invalid`] for the first bad field, in the order they are written.
    pub fn validate(&self) -> Result<(), TopologyError> {
        check_name(&self.name).map_err(|problem| invalid("name".to_owned(), problem))?;
        if self.pods.len() > MAX_PODS {
            return Err(invalid(
                "pods".to_owned(),
                Problem::TooManyPods(self.pods.len()),
            ));
        }
        let mut addresses = HashMap::from([
            (IpAddr::V4(GATEWAY4), "the lab's gateway".to_owned()),
            (IpAddr::V6(GATEWAY6), "the lab's gateway".to_owned()),
        ]);
        let mut pods = HashMap::new();
        for (i, pod) in self.pods.iter().enumerate() {
            let field = |name: &str| format!("pods[{i}].{name}");
            claim_name(&mut pods, &pod.name, field("name"))?;
            claim_address(&mut addresses, pod.ipv4.map(IpAddr::V4), field("ipv4"))?;
            claim_address(&mut addresses, pod.ipv6.map(IpAddr::V6), field("ipv6"))?;
        }
        let mut services = HashMap::new();
        for (i, service) in self.services.iter().enumerate() {
            let field = |name: &str| format!("services[{i}].{name}");
            claim_name(&mut services, &service.name, field("name"))?;
            claim_address(&mut addresses, service.vip4.map(IpAddr::V4), field("vip4"))?;
            claim_address(&mut addresses, service.vip6.map(IpAddr::V6), field("vip6"))?;
            if let Some(at) = service.ports.iter().position(|port| *port == 0) {
                return Err(invalid(field(&format!("ports[{at}]")), Problem::PortZero));
            }
            for (at, name) in service.pods.iter().enumerate() {
                if !pods.contains_key(name.as_str()) {
                    let known = self
                        .pods
                        .iter()
                        .map(|p| p.name.as_str())
                        .collect::<Vec<_>>();
                    let problem = Problem::UnknownPod {
                        name: name.clone(),
                        known: known.join(", "),
                    };
                    return Err(invalid(field(&format!("pods[{at}]")), problem));
                }
            }
        }
        Ok(())
    }
}

/// Checks a name that becomes part of a cgroup's or a socket's name.
pub(crate) fn check_name(name: &str) -> Result<(), Problem> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    let good = bytes.len() <= MAX_NAME
        && bytes.first().is_some_and(|b| allowed(*b))
        && bytes.iter().all(|b| allowed(*b) || *b == b'-');
    if good {
        Ok(())
    } else {
        Err(Problem::BadName(name.to_owned()))
    }
}

fn invalid(field: String, problem: Problem) -> TopologyError {
    TopologyError::Invalid {
        line: None,
        field,
        problem,
    }
}

fn claim_name<'t>(
    taken: &mut HashMap<&'t str, String>,
    name: &'t str,
    field: String,
) -> Result<(), TopologyError> {
    if let Err(problem) = check_name(name) {
        return Err(invalid(field, problem));
    }
    if let Some(by) = taken.get(name) {
        let problem = Problem::NameTaken {
            name: name.to_owned(),
            by: by.clone(),
        };
        return Err(invalid(field, problem));
    }
    taken.insert(name, field);
    Ok(())
}

fn claim_address(
    taken: &mut HashMap<IpAddr, String>,
    address: Option<IpAddr>,
    field: String,
) -> Result<(), TopologyError> {
    let Some(address) = address else {
        return Ok(());
    };
    if !is_unicast(address) {
        return Err(invalid(field, Problem::NotUnicast(address)));
    }
    if let Some(by) = taken.get(&address) {
        let by = by.clone();
        return Err(invalid(field, Problem::AddressTaken { address, by }));
    }
    taken.insert(address, field);
    Ok(())
}

fn is_unicast(address: IpAddr) -> bool {
    let odd = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !odd && match address {
        IpAddr::V4(v4) => !v4.is_broadcast() && !v4.is_link_local() && v4.octets()[0] != 0,
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none(),
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> TopologyError {
    let (line, column) = position(text, error.span().map_or(0, |span| span.start));
    TopologyError::Syntax {
        line,
        column,
        message: error.message().replace('\n', ", "),
    }
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (
        before.matches('\n').count() + 1,
        before.len() - line_start + 1,
    )
}

/// The line of the table that `field` (such as `pods[2].ipv4`) is in, found by a second parse:
/// spans in [`Topology`] itself would burden everyone who builds one in code.
fn line_of(text: &str, field: &str) -> Option<usize> {
    #[derive(Deserialize)]
    struct Spans {
        name: Option<Spanned<IgnoredAny>>,
        #[serde(default)]
        pods: Vec<Spanned<IgnoredAny>>,
        #[serde(default)]
        services: Vec<Spanned<IgnoredAny>>,
    }
    let spans: Spans = toml::from_str(text).ok()?;
    let span = if field == "name" {
        spans.name.as_ref()?.span()
    } else {
        let (list, rest) = field.split_once('[')?;
        let index: usize = rest.split(']').next()?.parse().ok()?;
        let tables = if list == "pods" {
            &spans.pods
        } else {
            &spans.services
        };
        tables.get(index)?.span()
    };
    Some(position(text, span.start).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "canary"

[[pods]]
name = "client"
cpus = [0]

[[pods]]
name = "web-1"
ipv4 = "10.244.9.9"
ipv6 = "fd00:10:244::9:9"
cpus = [1]

[[services]]
name = "web"
vip4 = "10.96.0.80"
ports = [80, 8080]
pods = ["web-1"]
"#;

    fn refusal(text: &str) -> String {
        Topology::from_toml(text)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn reads_every_field() {
        let topology = Topology::from_toml(GOOD).unwrap();
        assert_eq!(topology.name, "canary");
        assert_eq!(topology.pods[0].cpus, [0]);
        assert_eq!(topology.pods[1].ipv4, Some(Ipv4Addr::new(10, 244, 9, 9)));
        assert_eq!(topology.services[0].ports, [80, 8080]);
        assert_eq!(topology.services[0].pods, ["web-1"]);
        assert_eq!(topology.services[0].vip6, None);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let topology = Topology::from_toml(GOOD).unwrap();
        let text = toml::to_string(&topology).unwrap();
        assert_eq!(Topology::from_toml(&text).unwrap(), topology);
    }

    #[test]
    fn a_service_may_have_no_pods_and_a_lab_no_name() {
        let topology = Topology::from_toml("[[services]]\nname = \"void\"\n").unwrap();
        assert_eq!(topology.name, "lab");
        assert!(topology.services[0].pods.is_empty());
    }

    #[test]
    fn refusals_name_line_and_field() {
        let cases = [
            (
                GOOD.replace("cpus = [0]", "cpu = [0]"),
                "line 6, column 1: unknown field `cpu`",
            ),
            (
                GOOD.replace("cpus = [0]", "cpus = 0"),
                "line 6, column 8: invalid type: integer",
            ),
            (
                GOOD.replace("10.244.9.9", "10.244.9.999"),
                "line 10, column 8: invalid IPv4",
            ),
            (
                GOOD.replace("= \"web-1\"", "= \"Web_1\""),
                "line 8, pods[1].name: name \"Web_1\" is not",
            ),
            (
                GOOD.replace("= \"web-1\"", "= \"client\""),
                "line 8, pods[1].name: name \"client\" is already taken by pods[0].name",
            ),
            (
                GOOD.replace("[\"web-1\"]", "[\"web-2\"]"),
                "line 14, services[0].pods[0]: there is no pod \"web-2\"; pods are: client, web-1",
            ),
            (
                GOOD.replace("80, 8080", "80, 0"),
                "line 14, services[0].ports[1]: port 0",
            ),
            (
                GOOD.replace("10.96.0.80", "10.244.9.9"),
                "line 14, services[0].vip4: address 10.244.9.9 is already taken by pods[1].ipv4",
            ),
            (
                GOOD.replace("10.96.0.80", "127.0.0.1"),
                "line 14, services[0].vip4: address 127.0.0.1 is not an ordinary",
            ),
            (
                GOOD.replace("10.244.9.9", "10.244.255.254"),
                "line 8, pods[1].ipv4: address 10.244.255.254 is already taken by the lab's gateway",
            ),
            (GOOD.replace("canary", ""), "line 2, name: name \"\" is not"),
        ];
        for (text, expected) in cases {
            let message = refusal(&text);
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
    }

    #[test]
    fn more_pods_than_bridge_ports_are_refused() {
        let pods = (0..=MAX_PODS).map(|i| PodSpec {
            name: format!("p{i}"),
            ..PodSpec::default()
        });
        let topology = Topology {
            name: "big".to_owned(),
            pods: pods.collect(),
            services: Vec::new(),
        };
        let message = topology.validate().unwrap_err().to_string();
        assert!(
            message.contains("1001 pods are more than the 1000"),
            "{message}"
        );
    }
}
