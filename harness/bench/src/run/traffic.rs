//! A scenario's load as a plan for the generator of one arm.

use crate::scenario::{
    Arrivals, Background, Connection, Loop, Padding, Placement, Protocol, Scenario, Traffic,
};
use kmesh_load::plan::{self, BodyCheck, Idle, Pace, Plan, RequestClass, Reuse, SeqCheck};
use kmesh_load::replay;
use std::net::SocketAddr;

/// The plan for one arm. `decides` is false where the client picks the endpoint: then every server of
/// the scenario may answer. An open loop's rate is set with each cell; the plan's own is a placeholder.
pub(super) fn plan(scenario: &Scenario, targets: Vec<SocketAddr>, decides: bool) -> Plan {
    let load = &scenario.load;
    let (mix, replay) = mix(scenario, decides);
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
            Connection::Reuse => {
                let (min, max) = load.reuse.unwrap_or((1, 1));
                Reuse::Range { min, max }
            }
        },
        protocol: match load.protocol {
            Protocol::Http => plan::Protocol::Http,
            Protocol::TcpEcho => plan::Protocol::TcpEcho {
                message_bytes: load.message_bytes,
                banner: true,
                expect: scenario.servers_of(&[]),
            },
        },
        mix,
        replay,
        timeout_ms: load.timeout_ms,
        seed: scenario.design.seed,
        // Background generators share the measured one's CPU.
        idle: if scenario.background.is_empty() {
            idle(&scenario.placement)
        } else {
            Idle::Hybrid
        },
        seq: match load.protocol {
            Protocol::Http => SeqCheck::Required,
            // Every message carries its own number; there is no header to demand it in.
            Protocol::TcpEcho => SeqCheck::IfPresent,
        },
    }
}

/// The kinds of request: the scenario's, or those of its log with what the scenario expects of them by name.
fn mix(scenario: &Scenario, decides: bool) -> (Vec<RequestClass>, Option<plan::Replay>) {
    let own = |traffic| class(scenario, traffic, decides);
    if scenario.log.is_empty() {
        return (scenario.traffic.iter().map(own).collect(), None);
    }
    let (mut kinds, order) = replay::classes(&scenario.log);
    for kind in &mut kinds {
        // The log's name, or that name with a number for kinds that share it.
        let named = |traffic: &&Traffic| {
            kind.name
                .strip_prefix(&traffic.name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        if let Some(traffic) = scenario.traffic.iter().find(named) {
            let expected = own(traffic);
            kind.expect = expected.expect;
            kind.status = expected.status;
            kind.body = expected.body;
        }
    }
    (kinds, Some(order))
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
    let own = traffic
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()));
    let headers = padding(traffic.padding).into_iter().chain(own);
    let method = match (traffic.method.as_str(), traffic.body_bytes) {
        ("", 0) => "GET",
        ("", _) => "POST",
        (method, _) => method,
    };
    RequestClass {
        method: method.to_owned(),
        body_bytes: traffic.body_bytes,
        weight: traffic.weight,
        headers: headers.collect(),
        expect: scenario.servers_of(if decides { &traffic.expect } else { &[] }),
        status: traffic.status.unwrap_or(200),
        body: match traffic.response_bytes {
            _ if traffic.echo => BodyCheck::Echo,
            Some(bytes) => BodyCheck::Pattern { bytes },
            None => BodyCheck::Any,
        },
        ..RequestClass::get(&traffic.name, &traffic.host, &traffic.path)
    }
}

/// Headers that only take room: `a-pad-000: xxx`, together as long as asked for, line ends included.
fn padding(wanted: Padding) -> Vec<(String, String)> {
    /// `a-pad-000: ` and the line end.
    const FRAME: u32 = 13;
    let share = |i: u32| {
        let (each, more) = (wanted.bytes / wanted.headers, wanted.bytes % wanted.headers);
        each + u32::from(i < more)
    };
    (0..wanted.headers)
        .map(|i| {
            let value = "x".repeat(share(i).saturating_sub(FRAME) as usize);
            (format!("a-pad-{i:03}"), value)
        })
        .collect()
}

/// The load of one pod in the background: plain requests like the first kind of the scenario's own.
pub(super) fn background(
    scenario: &Scenario,
    background: &Background,
    targets: Vec<SocketAddr>,
    decides: bool,
) -> Plan {
    let first = scenario.traffic.first();
    Plan {
        targets,
        connections: background.connections,
        pace: background.rate.map_or(Pace::Closed, |rate| Pace::Open {
            rate,
            arrivals: plan::Arrivals::Uniform,
        }),
        reuse: Reuse::Keepalive,
        // Its thread shares a CPU with the measured generator: it must not spin.
        idle: Idle::Sleep,
        replay: None,
        mix: first
            .map(|traffic| class(scenario, traffic, decides))
            .into_iter()
            .collect(),
        ..plan(scenario, Vec::new(), decides)
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

    #[test]
    fn padding_is_as_long_as_asked_for() {
        for (headers, bytes) in [(0, 0), (1, 64), (40, 3072), (80, 8192), (3, 100)] {
            let made = padding(Padding { headers, bytes });
            let length: usize = made
                .iter()
                .map(|(name, value)| name.len() + value.len() + 4)
                .sum();
            assert_eq!((made.len(), length), (headers as usize, bytes as usize));
        }
    }
}
