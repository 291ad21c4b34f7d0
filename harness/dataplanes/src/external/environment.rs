//! What a described proxy is told: everything it may need, in environment variables, and the redirection that belongs to it.

use std::{fmt::Write as _, fs::File, net::SocketAddr};

use super::description::{Proxy, Redirect};
use crate::{
    ArmPlan,
    nft::{self, Spared},
    stage::Stage,
};

/// Which side of the connection a proxy is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// In the client's pod.
    Client,
    /// In a server's pod.
    Server,
}

/// One proxy's surroundings.
#[derive(Debug)]
pub(super) struct Environment<'p> {
    pub(super) arm: &'p str,
    pub(super) role: Role,
    pub(super) pod: &'p str,
    pub(super) plan: &'p ArmPlan<'p>,
    pub(super) proxy: &'p Proxy,
    pub(super) routes: &'p File,
    pub(super) routes_path: &'p str,
}

impl Environment<'_> {
    /// The variables, as `scenarios/arms/README.md` lists them.
    pub(super) fn variables(&self, stage: &Stage) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("KMESH_ARM", self.arm.to_owned()),
            ("KMESH_SCENARIO", self.plan.scenario_name.to_owned()),
            (
                "KMESH_ROLE",
                match self.role {
                    Role::Client => "client",
                    Role::Server => "server",
                }
                .to_owned(),
            ),
            ("KMESH_POD", self.pod.to_owned()),
            ("KMESH_ROUTES", self.routes_path.to_owned()),
            (
                "KMESH_RESOURCES",
                self.plan.resources_yaml.display().to_string(),
            ),
            ("KMESH_PORTS", words(self.ports(), ToString::to_string)),
            (
                "KMESH_SERVICES",
                words(&stage.services, |service| {
                    format!("{}={}", service.name, service.vip)
                }),
            ),
            (
                "KMESH_SERVERS",
                words(&self.plan.servers, |server| {
                    let pod = stage.lab.pod(&server.pod);
                    let ip = pod.map_or_else(|_| "?".to_owned(), |pod| pod.ipv4().to_string());
                    format!("{}={ip}:{}", server.pod, server.port)
                }),
            ),
            (
                "KMESH_REDIRECT",
                match self.proxy.redirect {
                    Redirect::No => String::new(),
                    Redirect::All(port) | Redirect::Each(port) => port.to_string(),
                },
            ),
        ];
        if let Ok(pod) = stage.lab.pod(self.pod) {
            variables.push(("KMESH_IPV4", pod.ipv4().to_string()));
            variables.push(("KMESH_IPV6", pod.ipv6().to_string()));
        }
        variables
    }

    /// Ports that the pod's servers listen on.
    fn ports(&self) -> Vec<u16> {
        let mine = self.plan.servers.iter();
        mine.filter(|server| server.pod == self.pod)
            .map(|server| server.port)
            .collect()
    }

    /// The nftables rules that bring traffic to the proxy; empty if it sees to that itself.
    pub(super) fn redirection(&self, stage: &Stage) -> String {
        let spared = Spared {
            uid: (!self.proxy.as_root).then_some(nft::PROXY_UID),
            mark: self.proxy.spare_mark,
        };
        let each = |first: u16| -> Vec<(Option<SocketAddr>, u16, u16)> {
            let numbered = |number: usize| first.saturating_add(number as u16);
            match self.role {
                Role::Client => {
                    let vips = stage.services.iter().enumerate();
                    vips.map(|(number, service)| {
                        (Some(service.vip), service.vip.port(), numbered(number))
                    })
                    .collect()
                }
                Role::Server => {
                    let ports = self.ports();
                    let ports = ports.iter().enumerate();
                    ports
                        .map(|(number, port)| (None, *port, numbered(number)))
                        .collect()
                }
            }
        };
        match (self.role, self.proxy.redirect) {
            (_, Redirect::No) => String::new(),
            (Role::Client, Redirect::All(port)) => nft::intercept_outbound_to(&[], port, spared),
            (Role::Server, Redirect::All(port)) => nft::intercept_inbound_to(&[], port),
            (Role::Client, Redirect::Each(first)) => {
                nft::intercept_outbound_to(&each(first), first, spared)
            }
            (Role::Server, Redirect::Each(first)) => nft::intercept_inbound_to(&each(first), first),
        }
    }
}

fn words<T>(items: impl IntoIterator<Item = T>, word: impl Fn(&T) -> String) -> String {
    let mut text = String::new();
    for item in items {
        let gap = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{gap}{}", word(&item));
    }
    text
}
