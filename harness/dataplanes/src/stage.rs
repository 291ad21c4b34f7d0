//! The part that all arms share: the lab, the servers in its pods, and the proof that a request gets through.

use std::{
    collections::HashSet,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use netns_lab::{Lab, MAX_NAME, Pod};

use crate::{
    error::ArmError,
    http,
    plan::{ArmPlan, ServerKind, ServerSpec},
    program::{Program, with_piped_stdout},
    resources::{Protocol, Resources, Service},
};

/// How long one attempt to reach a server may take.
const ATTEMPT: Duration = Duration::from_secs(2);

/// A lab with the plan's servers in it.
#[derive(Debug)]
pub(crate) struct Stage {
    // Dropped first: programs go before the lab they run in.
    pub(crate) servers: Vec<Program>,
    pub(crate) client: String,
    pub(crate) resources: Resources,
    pub(crate) services: Vec<Service>,
    /// Whether callers connect to the endpoints instead of the virtual address.
    pub(crate) to_endpoints: bool,
    pub(crate) lab: Lab,
}

impl Stage {
    /// Checks the plan and builds the lab; no server runs yet.
    pub(crate) fn build(plan: &ArmPlan<'_>, arm: &str) -> Result<Self, ArmError> {
        let resources = Resources::read(plan.resources_yaml)?;
        let services = resources.services()?;
        for vip in &plan.vips {
            if !services.iter().any(|service| service.vip == *vip) {
                return Err(ArmError::NoSuchService { vip: *vip });
            }
        }
        for pod in plan
            .servers
            .iter()
            .map(|server| server.pod.as_str())
            .chain([plan.client])
        {
            if !plan.topology.pods.iter().any(|spec| spec.name == pod) {
                return Err(ArmError::NoSuchPod {
                    pod: pod.to_owned(),
                });
            }
        }
        let mut topology = plan.topology.clone();
        topology.name = lab_name(plan.scenario_name, arm);
        let lab = Lab::up(&topology)?;
        Ok(Self {
            servers: Vec::new(),
            client: plan.client.to_owned(),
            resources,
            services,
            to_endpoints: false,
            lab,
        })
    }

    /// The pod that requests come from.
    pub(crate) fn client(&self) -> Result<&Pod, ArmError> {
        Ok(self.lab.pod(&self.client)?)
    }

    /// Starts every server of the plan and waits until all listen.
    pub(crate) fn start_servers(&mut self, plan: &ArmPlan<'_>) -> Result<(), ArmError> {
        require(
            &plan.binaries.origin,
            "kmesh-origin",
            "build it with cargo build --release -p kmesh-origin",
        )?;
        for spec in &plan.servers {
            let next = self.next_of(spec);
            let server = start_server(self.lab.pod(&spec.pod)?, spec, plan, next)?;
            self.servers.push(server);
        }
        for server in &mut self.servers {
            server.await_line("ready")?;
        }
        Ok(())
    }

    /// Where a caller has to connect to reach the service at `vip`.
    pub(crate) fn targets(&self, vip: SocketAddr) -> Vec<SocketAddr> {
        let mut services = self.services.iter();
        match services.find(|service| service.vip == vip) {
            Some(service) if self.to_endpoints => service.endpoints.clone(),
            _ => vec![vip],
        }
    }

    /// A server's `--next`.
    fn next_of(&self, spec: &ServerSpec) -> Option<String> {
        let next = spec.next.as_ref()?;
        let targets = self.targets(next.vip);
        let targets: Vec<String> = targets.iter().map(SocketAddr::to_string).collect();
        Some(format!("{}={}", next.host, targets.join(",")))
    }

    /// Waits until the client reaches every server by its own address, and by its virtual one (if `by_vip`) every service of
    /// the plan that one of these servers is behind: the others have nobody to answer, as the scenario wants it.
    pub(crate) fn await_traffic(
        &mut self,
        plan: &ArmPlan<'_>,
        by_vip: bool,
    ) -> Result<(), ArmError> {
        let client = self.lab.pod(&self.client)?;
        let mut answering = HashSet::new();
        for (server, spec) in self.servers.iter_mut().zip(&plan.servers) {
            for ip in addresses(self.lab.pod(&spec.pod)?) {
                let address = SocketAddr::new(ip, spec.port);
                answering.insert(address);
                let protocol = spec.kind.protocol();
                server.await_success(|| {
                    attempt(client, address, protocol, "ready.invalid", |status| {
                        status == 200
                    })
                })?;
            }
        }
        let Some(any) = self.servers.first_mut().filter(|_| by_vip) else {
            return Ok(());
        };
        for service in self
            .services
            .iter()
            .filter(|service| plan.vips.contains(&service.vip))
        {
            if service
                .endpoints
                .iter()
                .any(|endpoint| answering.contains(endpoint))
            {
                let ready = |status| status != 503;
                any.await_success(|| {
                    attempt(client, service.vip, service.protocol, &service.host, ready)
                })?;
            }
        }
        Ok(())
    }
}

impl ServerKind {
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Self::Http { .. } => Protocol::Http,
            Self::TcpEcho { .. } => Protocol::Tcp,
        }
    }
}

/// Fails with what to do if a program is not there.
pub(crate) fn require(
    path: &std::path::Path,
    program: &'static str,
    remedy: &'static str,
) -> Result<(), ArmError> {
    if path.is_file() {
        Ok(())
    } else {
        Err(ArmError::Missing {
            program,
            path: path.to_owned(),
            remedy,
        })
    }
}

/// `<scenario>-<arm>`, cut to what a lab's name may be. The arm is the part that must survive.
fn lab_name(scenario: &str, arm: &str) -> String {
    let room = MAX_NAME - arm.len() - 1;
    let scenario: String = scenario.chars().filter(char::is_ascii).take(room).collect();
    format!("{}-{arm}", scenario.to_lowercase().trim_end_matches('-'))
}

fn addresses(pod: &Pod) -> [IpAddr; 2] {
    [IpAddr::V4(pod.ipv4()), IpAddr::V6(pod.ipv6())]
}

fn start_server(
    pod: &Pod,
    spec: &ServerSpec,
    plan: &ArmPlan<'_>,
    next: Option<String>,
) -> Result<Program, ArmError> {
    let mut command = pod.command(&plan.binaries.origin);
    let flag = match &spec.kind {
        ServerKind::Http { .. } => "--listen",
        ServerKind::TcpEcho { .. } => "--tcp-echo",
    };
    for address in addresses(pod) {
        command
            .arg(flag)
            .arg(SocketAddr::new(address, spec.port).to_string());
    }
    command.args(["--name", &spec.pod]);
    if let Some(next) = next {
        command.args(["--next", &next]);
    }
    match &spec.kind {
        ServerKind::Http {
            default_params,
            body_bytes,
        } => {
            if !default_params.is_empty() {
                command.args(["--default-params", default_params]);
            }
            if let Some(bytes) = body_bytes {
                command.args(["--body-size", &bytes.to_string()]);
            }
        }
        ServerKind::TcpEcho { banner } => {
            command.args(banner.then_some("--tcp-echo-banner"));
        }
    }
    // A single-threaded server belongs on one CPU; with more than one allowed, the pod's own placement holds.
    if let [cpu] = plan.placement.servers[..] {
        command.args(["--cpu", &cpu.to_string()]);
    }
    with_piped_stdout(&mut command);
    Program::start(
        format!("kmesh-origin in pod {}", spec.pod),
        command,
        |command| pod.spawn(command),
    )
}

/// One real exchange from inside the client pod.
fn attempt(
    client: &Pod,
    address: SocketAddr,
    protocol: Protocol,
    host: &str,
    ready: impl Fn(u16) -> bool + Send,
) -> Result<(), String> {
    let exchange = move || match protocol {
        Protocol::Http => {
            let status = http::fetch(address, host, "/", ATTEMPT)?.status;
            if ready(status) {
                Ok(())
            } else {
                Err(io::Error::other(format!("status {status}")))
            }
        }
        Protocol::Tcp => echo(address),
    };
    let outcome = client.run(exchange).map_err(|error| error.to_string())?;
    outcome.map_err(|error| format!("{address}: {error}"))
}

/// Sends a byte that no server name contains and waits for it; a banner before it is skipped.
fn echo(address: SocketAddr) -> io::Result<()> {
    const MARK: u8 = 0;
    let mut stream = TcpStream::connect_timeout(&address, ATTEMPT)?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    stream.write_all(&[MARK])?;
    let mut buffer = [0xff; 256];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count if buffer[..count].contains(&MARK) => return Ok(()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_scenario_name_does_not_push_the_arm_out() {
        assert_eq!(lab_name("header-canary", "kmesh"), "header-canary-kmesh");
        let long = lab_name(&"x".repeat(60), "envoy-client");
        assert!(
            long.len() <= MAX_NAME && long.ends_with("-envoy-client"),
            "{long}"
        );
    }
}
