//! Our generator against somebody else's: same arm, same pod, same CPU, same request, closed loop, in turns.

use super::foreign::{Foreign, Load};
use super::group::{Arena, Contestant};
use super::{Interrupt, RunError, traffic};
use crate::scenario::{Connection, Loop, Protocol, Scenario, Traffic};
use kmesh_load::plan::Idle;
use kmesh_stats::{Bootstrap, Interval, paired, rank};
use serde::Serialize;

/// Difference in either figure up to which two generators agree.
pub const AGREE: f64 = 0.05;
/// Discarded start of our own turns, milliseconds. The others have none.
const WARMUP_MS: u32 = 150;

/// How to check.
#[derive(Debug, Clone, Copy)]
pub struct CrossOptions {
    /// Turns of each generator.
    pub rounds: usize,
    /// Length of a turn, seconds.
    pub seconds: u32,
}

/// One generator against ours on one arm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Crossed {
    /// The arm.
    pub arm: String,
    /// The other generator.
    pub generator: Foreign,
    /// Connections of both.
    pub connections: u32,
    /// Our requests per second, median of the turns.
    pub ours_rps: f64,
    /// Theirs.
    pub theirs_rps: f64,
    /// Theirs : ours, paired by turn.
    pub throughput: Interval,
    /// Our median latency, microseconds, median of the turns.
    pub ours_p50_us: f64,
    /// Theirs.
    pub theirs_p50_us: f64,
    /// Theirs : ours, paired by turn.
    pub p50: Interval,
    /// Requests of both that failed.
    pub failed: u64,
    /// Whether both figures agree within [`AGREE`].
    pub agrees: bool,
    /// Why they may not.
    pub differs: &'static str,
}

/// Why another generator cannot send a scenario's load.
///
/// # Errors
/// A sentence that says what of it is beyond them.
pub fn suits(scenario: &Scenario) -> Result<&Traffic, String> {
    if scenario.load.protocol != Protocol::Http {
        return Err("it is not HTTP".to_owned());
    }
    if scenario.load.connection != Connection::KeepAlive {
        return Err(
            "its connections are not kept alive, and not all generators can do that".to_owned(),
        );
    }
    match &scenario.traffic[..] {
        [only] => Ok(only),
        several => Err(format!(
            "it mixes {} kinds of requests, and they send one",
            several.len()
        )),
    }
}

/// Checks one arm that is up, in turns: ours, theirs, theirs, ours, ...
///
/// # Errors
/// The scenario does not suit, the generator is missing, or a generator fails.
pub fn cross(
    arena: &mut Arena,
    scenario: &Scenario,
    arm: &str,
    generator: Foreign,
    options: CrossOptions,
    interrupt: &Interrupt,
) -> Result<Crossed, RunError> {
    let failed = |message: String| RunError::Generator {
        arm: arm.to_owned(),
        message,
    };
    let traffic = suits(scenario).map_err(|why| {
        failed(format!(
            "{} cannot send {}: {why}",
            generator.name(),
            scenario.name
        ))
    })?;
    let contestant = arena
        .contestants
        .iter_mut()
        .find(|contestant| contestant.name == arm)
        .ok_or_else(|| RunError::UnknownArm(arm.to_owned()))?;
    // They know one address; so that both do the same, ours gets that one only.
    let targets = scenario
        .vip
        .map(|vip| contestant.arm.targets(vip))
        .unwrap_or_default();
    let Some(target) = targets.first().copied() else {
        return Err(failed("the arm has no address to call".to_owned()));
    };
    let headers = traffic.headers.iter();
    let load = Load {
        target,
        host: &traffic.host,
        path: &traffic.path,
        headers: headers
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        connections: scenario.load.connections,
        seconds: options.seconds,
        cpu: scenario.placement.generator.first().copied(),
    };
    let mut closed = scenario.clone();
    closed.load.pace = Loop::Closed;
    let name = format!("{} for {}", scenario.name, generator.name());
    let mut plan = traffic::plan(&closed, vec![target], contestant.arm.decides());
    // As the others wait: a generator that never sleeps is a lighter load for the arm, which need not wake it.
    plan.idle = Idle::Sleep;
    contestant.generator.prepare(&name, plan)?;
    let mut turns = Turns::default();
    for round in 0..options.rounds {
        if interrupt.asked() {
            return Err(RunError::Interrupted);
        }
        if round % 2 == 0 {
            turns.ours(contestant, &name, options)?;
            turns.theirs(contestant, generator, &load).map_err(failed)?;
        } else {
            turns.theirs(contestant, generator, &load).map_err(failed)?;
            turns.ours(contestant, &name, options)?;
        }
    }
    contestant.generator.close(&name)?;
    turns
        .judged(arm, generator, scenario.load.connections)
        .map_err(failed)
}

/// Figures by turn: `[ours, theirs]`.
#[derive(Debug, Default)]
struct Turns {
    rps: [Vec<f64>; 2],
    p50_us: [Vec<f64>; 2],
    failed: u64,
}

impl Turns {
    fn ours(
        &mut self,
        contestant: &mut Contestant,
        name: &str,
        options: CrossOptions,
    ) -> Result<(), RunError> {
        let cell_ms = options.seconds * 1000;
        let result = contestant
            .generator
            .run(name, cell_ms, WARMUP_MS, Some(0.0))?;
        self.rps[0].push(result.achieved_rps);
        self.p50_us[0].push(result.latency.service.p50_us);
        self.failed += result.errors() + result.wrong();
        Ok(())
    }

    fn theirs(
        &mut self,
        contestant: &Contestant,
        generator: Foreign,
        load: &Load<'_>,
    ) -> Result<(), String> {
        let said = generator.run(contestant.arm.client(), load)?;
        self.rps[1].push(said.rps);
        self.p50_us[1].push(said.p50_us);
        self.failed += said.failed;
        Ok(())
    }

    fn judged(&self, arm: &str, generator: Foreign, connections: u32) -> Result<Crossed, String> {
        self.measured(generator)?;
        self.compared(arm, generator, connections)
            .map_err(|error| error.to_string())
    }

    /// Fails if a turn has no figure that could be compared.
    fn measured(&self, generator: Foreign) -> Result<(), String> {
        let tables = [("throughput", &self.rps), ("median", &self.p50_us)];
        for (figure, sides) in tables {
            for (who, turns) in ["our generator", generator.name()].iter().zip(sides) {
                if let Some(turn) = turns.iter().position(|value| *value <= 0.0) {
                    let turn = turn + 1;
                    return Err(format!(
                        "{who} measured a {figure} of 0 in turn {turn}: was it kept from running by something else?"
                    ));
                }
            }
        }
        Ok(())
    }

    fn compared(
        &self,
        arm: &str,
        generator: Foreign,
        connections: u32,
    ) -> Result<Crossed, kmesh_stats::Error> {
        let bootstrap = Bootstrap {
            level: 0.95,
            resamples: 10_000,
            seed: 1,
        };
        let ratio = |figures: &[Vec<f64>; 2]| paired::ratio(&figures[1], &figures[0], &bootstrap);
        let (throughput, p50) = (ratio(&self.rps)?, ratio(&self.p50_us)?);
        let near = |interval: &Interval| (interval.point - 1.0).abs() <= AGREE;
        Ok(Crossed {
            arm: arm.to_owned(),
            generator,
            connections,
            ours_rps: rank::median(&self.rps[0])?,
            theirs_rps: rank::median(&self.rps[1])?,
            agrees: near(&throughput) && near(&p50) && self.failed == 0,
            throughput,
            ours_p50_us: rank::median(&self.p50_us[0])?,
            theirs_p50_us: rank::median(&self.p50_us[1])?,
            p50,
            failed: self.failed,
            differs: generator.differs(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_needs_both_figures_and_no_failure() {
        let turns = |rps: f64, p50: f64, failed: u64| Turns {
            rps: [vec![1000.0; 5], vec![rps; 5]],
            p50_us: [vec![100.0; 5], vec![p50; 5]],
            failed,
        };
        let agrees = |turns: Turns| turns.judged("direct", Foreign::Wrk, 60).unwrap().agrees;
        assert!(agrees(turns(1040.0, 97.0, 0)));
        assert!(!agrees(turns(1060.0, 97.0, 0)));
        assert!(!agrees(turns(1040.0, 90.0, 0)));
        let starved = turns(0.0, 90.0, 0).judged("direct", Foreign::Wrk, 60);
        assert!(
            starved
                .unwrap_err()
                .starts_with("wrk measured a throughput of 0 in turn 1")
        );
        assert!(!agrees(turns(1000.0, 100.0, 1)));
    }
}
