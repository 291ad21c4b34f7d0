//! nftables rules, as text for the `nft` program that is run inside a pod.

use std::{fmt::Write as _, io::Write as _, net::SocketAddr, path::Path, process::Stdio};

use netns_lab::Pod;

use crate::{error::ArmError, resources::Service};

/// Port of the sidecar's outbound listener, as in Istio.
pub(crate) const OUTBOUND_PORT: u16 = 15001;
/// Port of the sidecar's inbound listener, as in Istio.
pub(crate) const INBOUND_PORT: u16 = 15006;
/// User and group that the sidecar runs as, as in Istio; its own connections are left alone.
pub(crate) const PROXY_UID: u32 = 1337;

/// Service translation in the client's namespace with the shape of kube-proxy's nft mode: one lookup of (address,
/// protocol, port) in a verdict map, one chain per service that draws an endpoint with `numgen random`, one chain per
/// endpoint with the translation. A service without endpoints answers with a reset, as kube-proxy's does.
pub(crate) fn service_dnat(services: &[Service]) -> String {
    let mut text = String::new();
    for (family, v4) in [("ip", true), ("ip6", false)] {
        let mine = services
            .iter()
            .enumerate()
            .filter(|(_, service)| service.vip.is_ipv4() == v4);
        let mut chains = String::new();
        let mut map = Vec::new();
        let mut refused = Vec::new();
        for (number, service) in mine {
            let key = format!("{} . tcp . {}", service.vip.ip(), service.vip.port());
            let endpoints: Vec<_> = service
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.is_ipv4() == v4)
                .collect();
            if endpoints.is_empty() {
                refused.push(key);
                continue;
            }
            map.push(format!("{key} : goto service-{number}"));
            endpoint_chains(&mut chains, family, number, &endpoints);
        }
        table(&mut text, family, &chains, &map, &refused);
    }
    text
}

fn endpoint_chains(chains: &mut String, family: &str, number: usize, endpoints: &[&SocketAddr]) {
    let choices: Vec<_> = (0..endpoints.len())
        .map(|choice| format!("{choice} : goto endpoint-{number}-{choice}"))
        .collect();
    for (choice, endpoint) in endpoints.iter().enumerate() {
        let _ = writeln!(
            chains,
            "  chain endpoint-{number}-{choice} {{ meta l4proto tcp dnat {family} to {endpoint}; }}"
        );
    }
    let count = endpoints.len();
    let _ = writeln!(
        chains,
        "  chain service-{number} {{ numgen random mod {count} vmap {{ {} }}; }}",
        choices.join(", ")
    );
}

fn table(text: &mut String, family: &str, chains: &str, map: &[String], refused: &[String]) {
    if map.is_empty() && refused.is_empty() {
        return;
    }
    let address = if family == "ip" {
        "ipv4_addr"
    } else {
        "ipv6_addr"
    };
    let _ = writeln!(text, "table {family} kmesh-dnat {{");
    text.push_str(chains);
    let elements = |items: &[String]| {
        if items.is_empty() {
            String::new()
        } else {
            format!(" elements = {{ {} }};", items.join(", "))
        }
    };
    let key = format!("type {address} . inet_proto . inet_service");
    let _ = writeln!(
        text,
        "  map service-ips {{ {key} : verdict;{} }}",
        elements(map)
    );
    let _ = writeln!(
        text,
        "  set no-endpoint-ips {{ {key};{} }}",
        elements(refused)
    );
    let lookup = format!("{family} daddr . meta l4proto . th dport");
    let _ = writeln!(
        text,
        "  chain nat-output {{ type nat hook output priority -100; {lookup} vmap @service-ips; }}"
    );
    let _ = writeln!(
        text,
        "  chain filter-output {{ type filter hook output priority 0; {lookup} @no-endpoint-ips reject with tcp reset; }}"
    );
    text.push_str("}\n");
}

/// Outbound interception as Istio does it: every TCP connection the pod opens goes to the sidecar, but for the sidecar's
/// own and those to the pod itself.
pub(crate) fn intercept_outbound() -> String {
    let sidecar = Spared {
        uid: Some(PROXY_UID),
        mark: None,
    };
    intercept_outbound_to(&[], OUTBOUND_PORT, sidecar)
}

/// Whose packets interception leaves alone: the proxy's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spared {
    /// Those of sockets of this user.
    pub(crate) uid: Option<u32>,
    /// Those with this mark.
    pub(crate) mark: Option<u32>,
}

/// Connections to intercept: where they go (any address if none), to which port, and the proxy's port for them.
pub(crate) type Intercepted = (Option<SocketAddr>, u16, u16);

/// Sends these outbound connections to a proxy in the pod, or all TCP to `port` if there are none.
pub(crate) fn intercept_outbound_to(each: &[Intercepted], port: u16, spared: Spared) -> String {
    let mut rules = String::new();
    if let Some(uid) = spared.uid {
        let _ = writeln!(rules, "    meta skuid {uid} return");
    }
    if let Some(mark) = spared.mark {
        let _ = writeln!(rules, "    meta mark {mark} return");
    }
    rules.push_str("    oifname lo return\n");
    redirections(&mut rules, each, port);
    format!(
        "table inet kmesh-sidecar {{\n  chain outbound {{ type nat hook output priority -100;\n{rules}  }}\n}}\n"
    )
}

/// Sends these connections from outside to a proxy in the pod, or all TCP to `port` if there are none.
pub(crate) fn intercept_inbound_to(each: &[Intercepted], port: u16) -> String {
    let mut rules = "    iifname lo return\n".to_owned();
    redirections(&mut rules, each, port);
    format!(
        "table inet kmesh-sidecar {{\n  chain inbound {{ type nat hook prerouting priority -100;\n{rules}  }}\n}}\n"
    )
}

fn redirections(rules: &mut String, each: &[Intercepted], port: u16) {
    if each.is_empty() {
        let _ = writeln!(rules, "    meta l4proto tcp redirect to :{port}");
    }
    for (address, from, to) in each {
        let address = match address {
            None => String::new(),
            Some(SocketAddr::V4(address)) => format!("ip daddr {} ", address.ip()),
            Some(SocketAddr::V6(address)) => format!("ip6 daddr {} ", address.ip()),
        };
        let _ = writeln!(rules, "    {address}tcp dport {from} redirect to :{to}");
    }
}

/// Inbound interception as Istio does it: every TCP connection that reaches the pod from outside goes to the sidecar.
pub(crate) fn intercept_inbound() -> String {
    intercept_inbound_to(&[], INBOUND_PORT)
}

/// Loads rules into a pod's namespace; they go with it.
pub(crate) fn load(nft: &Path, pod: &Pod, rules: &str) -> Result<(), ArmError> {
    let failed = |call| {
        move |source| ArmError::Process {
            program: format!("nft in pod {}", pod.name()),
            call,
            source,
        }
    };
    let mut command = pod.command(nft);
    command
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = pod.spawn(command)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It reads all before it says anything, so the pipes can't block each other; an early end shows below.
        let _ = stdin.write_all(rules.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed("wait"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', " | ");
    Err(ArmError::Nft {
        pod: pod.name().to_owned(),
        said,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Protocol;

    fn service(vip: &str, endpoints: &[&str]) -> Service {
        Service {
            name: "web".to_owned(),
            vip: vip.parse().unwrap(),
            protocol: Protocol::Http,
            host: "web.test".to_owned(),
            endpoints: endpoints.iter().map(|e| e.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn every_endpoint_has_an_equal_share_of_the_draw() {
        let text = service_dnat(&[service(
            "10.96.0.1:80",
            &["10.244.0.2:8080", "10.244.0.3:8080"],
        )]);
        assert!(
            text.contains(
                "numgen random mod 2 vmap { 0 : goto endpoint-0-0, 1 : goto endpoint-0-1 }"
            ),
            "{text}"
        );
        assert!(text.contains("dnat ip to 10.244.0.3:8080"), "{text}");
        assert!(
            text.contains("10.96.0.1 . tcp . 80 : goto service-0"),
            "{text}"
        );
        assert!(!text.contains("ip6"), "{text}");
    }

    #[test]
    fn families_have_tables_of_their_own_and_an_empty_service_resets() {
        let text = service_dnat(&[
            service("[fd00:10:96::1]:80", &["[fd00:10:244::2]:8080"]),
            service("10.96.0.9:80", &[]),
        ]);
        assert!(text.contains("dnat ip6 to [fd00:10:244::2]:8080"), "{text}");
        assert!(text.contains("set no-endpoint-ips { type ipv4_addr . inet_proto . inet_service; elements = { 10.96.0.9 . tcp . 80 }; }"), "{text}");
    }
}
