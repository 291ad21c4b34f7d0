//! A scenario's load as a plan for the generator of one arm.

use crate::scenario::{Arrivals, Connection, Loop, Placement, Protocol, Scenario, Traffic};
use kmesh_load::plan::{self, BodyCheck, Idle, Pace, Plan, RequestClass, Reuse, SeqCheck};
use std::net::SocketAddr;

/// The plan for one arm. `decides` is false where the client picks the endpoint: then every server of
/// the scenario may answer. An open loop's rate is set with each cell; the plan's own is a placeholder.
pub(super) fn plan(scenario: &Scenario, targets: Vec<SocketAddr>, decides: bool) -> Plan {
    let load = &scenario.load;
    Plan {
        targets,
        connections: load.connections,
        pace: match load.pace {
            Loop::Closed => Pace::Closed,
            Loop::Open => Pace::Open {
                rate: 1.0,
                arrivals: match load.arrivals {
                    Arrivals::Uniform => plan::Arrivals::Uniform,
                    Arrivals::Poisson => plan::Arrivals::Poisson,
                },
            },
        },
        reuse: match load.connection {
            Connection::KeepAlive => Reuse::Keepalive,
            Connection::Short => Reuse::Short {
                close_header: false,
                reset: false,
            },
            Connection::ShortReset => Reuse::Short {
                close_header: false,
                reset: true,
            },
        },
        protocol: match load.protocol {
            Protocol::Http => plan::Protocol::Http,
            Protocol::TcpEcho => plan::Protocol::TcpEcho {
                message_bytes: load.message_bytes,
                banner: true,
                expect: scenario.servers_of(&[]),
            },
        },
        mix: scenario
            .traffic
            .iter()
            .map(|traffic| class(scenario, traffic, decides))
            .collect(),
        timeout_ms: load.timeout_ms,
        seed: scenario.design.seed,
        idle: idle(&scenario.placement),
        seq: match load.protocol {
            Protocol::Http => SeqCheck::Required,
            // Every message carries its own number; there is no header to demand it in.
            Protocol::TcpEcho => SeqCheck::IfPresent,
        },
    }
}

/// A generator with CPUs of its own never sleeps: waking a halted CPU costs the arm that answers it an interrupt, through the
/// hypervisor on a virtual machine, and the generator its punctuality. One that shares a CPU must not take it from the servers.
fn idle(placement: &Placement) -> Idle {
    let shared = |cpu: &usize| placement.servers.is_empty() || placement.servers.contains(cpu);
    if placement.generator.is_empty() || placement.generator.iter().any(shared) {
        Idle::Hybrid
    } else {
        Idle::Spin
    }
}

fn class(scenario: &Scenario, traffic: &Traffic, decides: bool) -> RequestClass {
    let headers = traffic
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()));
    RequestClass {
        weight: traffic.weight,
        headers: headers.collect(),
        expect: scenario.servers_of(if decides { &traffic.expect } else { &[] }),
        status: traffic.status.unwrap_or(200),
        body: traffic
            .response_bytes
            .map_or(BodyCheck::Any, |bytes| BodyCheck::Pattern { bytes }),
        ..RequestClass::get(&traffic.name, &traffic.host, &traffic.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_generator_with_cpus_of_its_own_spins() {
        let placed = |generator: &[usize], servers: &[usize]| {
            idle(&Placement {
                generator: generator.to_vec(),
                servers: servers.to_vec(),
            })
        };
        assert_eq!(placed(&[0], &[1]), Idle::Spin);
        for (generator, servers) in [(&[0][..], &[0, 1][..]), (&[], &[1]), (&[0], &[])] {
            assert_eq!(placed(generator, servers), Idle::Hybrid);
        }
    }
}
