//! System calls per request, by who makes them: the figure of the gate that neither a clock nor a busy machine can
//! blur.
//!
//! One connection in a closed loop, and a generator that sleeps while it waits: then every request costs client and
//! server the same calls, however long each takes, and a wake-up too many is a call too many. After every stretch under
//! load comes one as long with next to none, which has all the rest: the command to the generator, its result, a
//! daemon's look at its configuration. The difference of the two is what the requests cost. The lanes take turns, so
//! that whatever else the machine does is spread over all of them.

use super::RunError;
use super::group::{Arena, Contestant};
use crate::breakdown::probe::{Calls, Task, tasks};
use crate::scenario::{Connection, Loop, Scenario};
use kmesh_load::plan::Idle;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;

/// Place of the load generator.
pub const CLIENT: &str = "client";
/// Place of all servers together.
pub const SERVERS: &str = "servers";

/// Load before anything is counted, milliseconds: fills pools, hands connections to the kernel.
const WARM_MS: u32 = 200;
/// One counted stretch, milliseconds.
const STRETCH_MS: u32 = 200;
/// The stretch with next to no load, milliseconds; the rest of its time it is quiet.
const BARE_MS: u32 = 1;
/// Fewest requests for a figure: a call or two that belong to no request must vanish in the rounding.
const ENOUGH: u64 = 10_000;
/// Stretches after which too slow a machine is given up.
const STRETCHES: usize = 150;

/// System calls of one lane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CallsPerRequest {
    /// Calls per 1,000 requests: [`CLIENT`], [`SERVERS`], and every other place under its own name (`kmeshd`).
    pub per_1000: BTreeMap<String, u64>,
    /// Requests answered while counting.
    pub requests: u64,
}

/// A place's threads and the calls they made, in the loaded and in the bare stretches.
#[derive(Debug, Default)]
struct Tally {
    tasks: Vec<Task>,
    loaded: u64,
    bare: u64,
}

/// What was counted of one lane so far.
#[derive(Debug)]
struct Lane<'a> {
    name: &'a str,
    places: BTreeMap<String, Tally>,
    loaded: u64,
    bare: u64,
}

impl Arena {
    /// Counts the calls of each lane per request over `connection`s of the scenario, in the lanes' order.
    ///
    /// # Errors
    /// [`RunError`]: no such lane, its generator fails, requests fail, or the kernel counts no calls (root and
    /// tracepoints are needed).
    pub fn calls_per_request(
        &mut self,
        scenario: &Scenario,
        lanes: &[&str],
        connection: Connection,
    ) -> Result<Vec<CallsPerRequest>, RunError> {
        let scenario = &alone(scenario, connection);
        let mut counted = Vec::new();
        for &name in lanes {
            let contestant = self.contestant(name)?;
            let mut plan = contestant.plan(scenario);
            plan.idle = Idle::Sleep;
            contestant.generator.prepare(&scenario.name, plan)?;
            contestant.answered(&scenario.name, WARM_MS)?;
            counted.push(Lane {
                name,
                places: places(contestant, &scenario.client),
                loaded: 0,
                bare: 0,
            });
        }
        for _ in 0..STRETCHES {
            for lane in &mut counted {
                lane.stretch(self.contestant(lane.name)?, &scenario.name)?;
            }
            // There and back, so that no lane is always the first.
            counted.reverse();
            if counted.iter().all(|lane| lane.requests() >= ENOUGH) {
                break;
            }
        }
        counted.sort_by_key(|lane| lanes.iter().position(|name| *name == lane.name));
        for lane in &counted {
            self.contestant(lane.name)?
                .generator
                .close(&scenario.name)?;
        }
        counted.iter().map(Lane::figures).collect()
    }
}

impl Lane<'_> {
    /// One stretch under load, and as long without.
    fn stretch(&mut self, contestant: &mut Contestant, plan: &str) -> Result<(), RunError> {
        let name = self.name;
        let failed = |what: &str, error: std::io::Error| RunError::Generator {
            arm: name.to_owned(),
            message: format!("system calls {what}: {error}"),
        };
        let mut counters = start(&self.places).map_err(|error| failed("are not counted", error))?;
        let mut counts = || read(&mut counters).map_err(|error| failed("cannot be read", error));
        let begun = Instant::now();
        let loaded = contestant.answered(plan, STRETCH_MS)?;
        let length = begun.elapsed();
        let before = counts()?;
        let begun = Instant::now();
        let bare = contestant.answered(plan, BARE_MS)?;
        std::thread::sleep(length.saturating_sub(begun.elapsed()));
        let after = counts()?;
        for ((tally, before), after) in self.places.values_mut().zip(before).zip(after) {
            tally.loaded += before;
            tally.bare += after - before;
        }
        self.loaded += loaded;
        self.bare += bare;
        Ok(())
    }

    /// Requests that a loaded stretch had more than a bare one.
    fn requests(&self) -> u64 {
        self.loaded.saturating_sub(self.bare)
    }

    fn figures(&self) -> Result<CallsPerRequest, RunError> {
        let requests = self.requests();
        if requests < ENOUGH {
            return Err(RunError::Generator {
                arm: self.name.to_owned(),
                message: format!("only {requests} of {ENOUGH} requests, too few to count by"),
            });
        }
        let per_1000 = self
            .places
            .iter()
            .map(|(place, tally)| (place.clone(), rounded(tally, requests)))
            .collect();
        Ok(CallsPerRequest { per_1000, requests })
    }
}

impl Contestant {
    /// Requests of one cell in a closed loop, every one of them answered.
    fn answered(&mut self, plan: &str, cell_ms: u32) -> Result<u64, RunError> {
        let result = self.generator.run(plan, cell_ms, 0, Some(0.0))?;
        if result.ok == result.sent {
            return Ok(result.ok);
        }
        Err(RunError::Generator {
            arm: self.name.clone(),
            message: format!(
                "{} of {} requests failed",
                result.sent - result.ok,
                result.sent
            ),
        })
    }
}

/// The scenario with one connection in a closed loop, under a name of its own.
fn alone(scenario: &Scenario, connection: Connection) -> Scenario {
    let mut alone = scenario.clone();
    alone.name = format!("{}-calls-{connection}", scenario.name);
    alone.load.connections = 1;
    alone.load.connection = connection;
    alone.load.pace = Loop::Closed;
    alone
}

/// The threads of the arm by place. The generator runs in the client's pod, so that place is the client.
fn places(contestant: &Contestant, client: &str) -> BTreeMap<String, Tally> {
    let lab = contestant.arm.lab();
    let pods: Vec<String> = lab.pods().iter().map(|pod| pod.name().to_owned()).collect();
    let mut places: BTreeMap<String, Tally> = BTreeMap::new();
    for task in tasks(lab.cgroup(), &pods) {
        let place = match task.place.as_str() {
            place if place == client => CLIENT,
            place if pods.iter().any(|pod| pod == place) => SERVERS,
            place => place,
        };
        places.entry(place.to_owned()).or_default().tasks.push(task);
    }
    places
}

/// Counters of every place, in the places' order.
fn start(places: &BTreeMap<String, Tally>) -> std::io::Result<Vec<Calls>> {
    places
        .values()
        .map(|tally| Calls::start(&tally.tasks))
        .collect()
}

fn read(counted: &mut [Calls]) -> std::io::Result<Vec<u64>> {
    counted
        .iter_mut()
        .map(|calls| calls.read().map(|(all, _)| all))
        .collect()
}

/// To the nearest call per 1,000 requests.
fn rounded(tally: &Tally, requests: u64) -> u64 {
    let more = tally.loaded.saturating_sub(tally.bare);
    (more * 1000 + requests / 2) / requests.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_without_load_is_taken_off() {
        let per_1000 = |loaded, bare| {
            let tally = Tally {
                tasks: Vec::new(),
                loaded,
                bare,
            };
            rounded(&tally, 10_000)
        };
        assert_eq!(per_1000(30_020, 10), 3001);
        assert_eq!(per_1000(104, 100), 0);
        assert_eq!(per_1000(90, 100), 0);
    }
}
