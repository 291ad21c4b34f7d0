//! Scenarios that need the same labs share them: bringing arms up costs more than measuring them.

use super::generator::Generator;
use super::swap::Followed;
use super::{Interrupt, RunError, connections, traffic};
use crate::binaries::Programs;
use crate::scenario::{Profile, Scenario};
use kmesh_dataplanes::{
    ArmPlan, EnvoyProfile, NextHop, Placement, RunningArm, ServerKind, ServerSpec,
};
use kmesh_load::plan::Plan;
use std::path::PathBuf;

/// Scenarios with the same pods, servers and resources.
#[derive(Debug)]
pub struct Group {
    /// The scenarios, in the order asked for.
    pub scenarios: Vec<Scenario>,
    /// All arms that any of them runs.
    pub arms: Vec<String>,
}

/// Groups scenarios, keeping the order of first appearance. `only` restricts the arms; empty means all.
pub fn groups(scenarios: Vec<Scenario>, only: &[String]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for mut scenario in scenarios {
        scenario
            .arms
            .run
            .retain(|arm| only.is_empty() || only.contains(arm));
        let index = groups
            .iter()
            .position(|group| same_lab(&group.scenarios[0], &scenario))
            .unwrap_or(groups.len());
        if index == groups.len() {
            groups.push(Group {
                scenarios: Vec::new(),
                arms: Vec::new(),
            });
        }
        let group = &mut groups[index];
        let new: Vec<String> = scenario
            .arms
            .run
            .iter()
            .filter(|arm| !group.arms.contains(arm))
            .cloned()
            .collect();
        group.arms.extend(new);
        group.scenarios.push(scenario);
    }
    groups
}

/// Whether two scenarios can share their labs.
pub(crate) fn same_lab(a: &Scenario, b: &Scenario) -> bool {
    a.topology == b.topology
        && a.server == b.server
        && a.client == b.client
        && a.resources == b.resources
        && a.placement == b.placement
        && a.envoy_profile == b.envoy_profile
        && a.mutant == b.mutant
        && a.swap == b.swap
}

/// One arm that is up, with its generator.
pub(super) struct Contestant {
    pub(super) name: String,
    pub(super) generator: Generator,
    /// Generators of the scenario at hand in other pods; loaded whenever the arm is measured.
    pub(super) background: Vec<(Generator, Option<f64>)>,
    pub(super) arm: Box<dyn RunningArm>,
    /// The arm's own configuration file, where the scenario changes it.
    pub(super) followed: Option<Followed>,
    /// TCP connections that were open before any load, such as a proxy's own.
    pub(super) idle_connections: f64,
}

impl Contestant {
    /// The scenario's load as its generator is told.
    pub(super) fn plan(&self, scenario: &Scenario) -> Plan {
        let targets = scenario
            .vip
            .map(|vip| self.arm.targets(vip))
            .unwrap_or_default();
        traffic::plan(scenario, targets, self.arm.decides())
    }
}

/// One cell of every block: an arm under a name of its own, so that the same arm can run twice with
/// different programs (`base` and `head` of the gate).
#[derive(Debug, Clone)]
pub struct Lane {
    /// Its name in rows and reports.
    pub name: String,
    /// The arm, one of `kmesh_dataplanes::NAMES`.
    pub arm: String,
    /// The programs it starts.
    pub programs: Programs,
    /// Response parameters that replace the scenario's in every server (the gate's mutant: `delay=...`).
    pub server_params: Option<String>,
}

/// Every arm of a group, up at once. Dropping it takes all of them down.
pub struct Arena {
    pub(super) contestants: Vec<Contestant>,
}

impl Arena {
    /// Brings all arms up, in parallel, and starts a generator in each client pod.
    ///
    /// # Errors
    /// The first arm that fails, after all others have been taken down; an interrupt.
    pub fn up(group: &Group, programs: &Programs, interrupt: &Interrupt) -> Result<Self, RunError> {
        let lane = |name: &String| Lane {
            name: name.clone(),
            arm: name.clone(),
            programs: programs.clone(),
            server_params: None,
        };
        let lanes: Vec<Lane> = group.arms.iter().map(lane).collect();
        Self::up_lanes(&group.scenarios[0], &lanes, interrupt)
    }

    /// As [`Arena::up`], for lanes.
    ///
    /// # Errors
    /// As [`Arena::up`].
    pub fn up_lanes(
        scenario: &Scenario,
        lanes: &[Lane],
        interrupt: &Interrupt,
    ) -> Result<Self, RunError> {
        let results: Vec<Result<Contestant, RunError>> = std::thread::scope(|scope| {
            let started: Vec<_> = lanes
                .iter()
                .map(|lane| scope.spawn(move || bring_up(lane, scenario)))
                .collect();
            started
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        if interrupt.asked() {
            return Err(RunError::Interrupted);
        }
        Ok(Self {
            contestants: results.into_iter().collect::<Result<_, _>>()?,
        })
    }
}

impl Arena {
    /// The cgroup of one lane's lab, in which everything of it runs.
    pub fn cgroup_of(&self, name: &str) -> Option<PathBuf> {
        let contestant = self.contestants.iter().find(|c| c.name == name)?;
        Some(contestant.arm.lab().cgroup().to_owned())
    }

    /// Opens every arm's connections for a scenario, outside of a run.
    ///
    /// # Errors
    /// A generator that cannot reach its arm.
    pub fn prepare(&mut self, scenario: &Scenario) -> Result<(), RunError> {
        for contestant in &mut self.contestants {
            let plan = contestant.plan(scenario);
            contestant.generator.prepare(&scenario.name, plan)?;
        }
        Ok(())
    }

    /// The lane of this name.
    pub(super) fn contestant(&mut self, lane: &str) -> Result<&mut Contestant, RunError> {
        self.contestants
            .iter_mut()
            .find(|contestant| contestant.name == lane)
            .ok_or_else(|| RunError::UnknownArm(lane.to_owned()))
    }

    /// Closed-loop requests per second of one arm over one cell, after [`Arena::prepare`].
    ///
    /// # Errors
    /// No such arm, or its generator fails.
    pub fn requests_per_second(
        &mut self,
        scenario: &Scenario,
        arm: &str,
        cell_ms: u32,
    ) -> Result<f64, RunError> {
        let result = self
            .contestant(arm)?
            .generator
            .run(&scenario.name, cell_ms, 0, Some(0.0))?;
        Ok(result.achieved_rps)
    }
}

/// A scenario as the arms see it.
pub(crate) fn arm_plan<'a>(scenario: &'a Scenario, programs: &Programs) -> ArmPlan<'a> {
    ArmPlan {
        scenario_name: scenario.family(),
        topology: &scenario.topology,
        client: &scenario.client,
        servers: scenario
            .server
            .iter()
            .map(|server| ServerSpec {
                pod: server.pod.clone(),
                port: server.port,
                kind: if server.tcp_echo {
                    ServerKind::TcpEcho { banner: true }
                } else {
                    ServerKind::Http {
                        default_params: server.params.clone(),
                        body_bytes: server.body_bytes,
                    }
                },
                next: server.next.as_ref().map(|next| NextHop {
                    vip: next.vip,
                    host: next.host.clone(),
                }),
            })
            .collect(),
        resources_yaml: &scenario.resources,
        vips: scenario.vips(),
        placement: Placement {
            generator: scenario.placement.generator.clone(),
            servers: scenario.placement.servers.clone(),
        },
        envoy_profile: match scenario.envoy_profile {
            Profile::Min => EnvoyProfile::Min,
            Profile::Istio => EnvoyProfile::Istio,
        },
        binaries: programs.arms.clone(),
    }
}

fn bring_up(lane: &Lane, scenario: &Scenario) -> Result<Contestant, RunError> {
    let name = lane.name.as_str();
    let followed = Followed::of(scenario, name).map_err(|source| RunError::Generator {
        arm: name.to_owned(),
        message: format!("its configuration file: {source}"),
    })?;
    let mut plan = arm_plan(scenario, &lane.programs);
    if let Some(followed) = &followed {
        plan.resources_yaml = followed.path();
    }
    let mutant = scenario
        .mutant
        .as_ref()
        .filter(|mutant| mutant.arm == lane.arm)
        .map(|mutant| &mutant.params);
    if let Some(replaced) = lane.server_params.as_ref().or(mutant) {
        for server in &mut plan.servers {
            if let ServerKind::Http { default_params, .. } = &mut server.kind {
                default_params.clone_from(replaced);
            }
        }
    }
    let kind = crate::arms::find(&lane.arm)?;
    let arm = kind.up(&plan).map_err(|source| RunError::Arm {
        arm: name.to_owned(),
        source,
    })?;
    let idle_connections = connections::established(arm.lab()).map_err(|error| RunError::Arm {
        arm: name.to_owned(),
        source: error.into(),
    })?;
    let cpu = scenario.placement.generator.first().copied();
    let generator = Generator::start(name, &lane.programs.load, arm.client(), cpu)?;
    Ok(Contestant {
        name: name.to_owned(),
        generator,
        background: Vec::new(),
        arm,
        followed,
        idle_connections,
    })
}
