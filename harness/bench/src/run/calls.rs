//! System calls per request of one arm, by who makes them: the figure of the gate that neither a clock nor a busy
//! machine can blur.
//!
//! One connection in a closed loop, and a generator that sleeps while it waits: then every request costs client and
//! server the same calls, however long each takes, and a wake-up too many is a call too many. What a place does anyway
//! (a daemon looks at its configuration now and then) is counted over the same time without load, and taken off.

use super::RunError;
use super::group::{Arena, Contestant};
use crate::breakdown::probe::{Calls, Task, tasks};
use crate::scenario::{Connection, Loop, Scenario};
use kmesh_load::plan::Idle;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Place of the load generator.
pub const CLIENT: &str = "client";
/// Place of all servers together.
pub const SERVERS: &str = "servers";

/// Load before anything is counted, milliseconds: fills pools, hands connections to the kernel.
const WARM_MS: u32 = 200;
/// One counted stretch, milliseconds; without load as long.
const STRETCH_MS: u32 = 200;
/// Fewest requests for a figure: the calls around a stretch (its command, its result) must vanish in the rounding.
const ENOUGH: u64 = 10_000;
/// Stretches after which too slow a machine is given up.
const STRETCHES: usize = 150;

/// System calls of one arm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CallsPerRequest {
    /// Calls per 1,000 requests: [`CLIENT`], [`SERVERS`], and every other place under its own name (`kmeshd`).
    pub per_1000: BTreeMap<String, u64>,
    /// Requests answered while counting.
    pub requests: u64,
}

/// A place's threads and the calls they made, under load and without.
#[derive(Debug, Default)]
struct Tally {
    tasks: Vec<Task>,
    loaded: u64,
    idle: u64,
}

impl Arena {
    /// Counts the calls of one lane per request over `connection`s of the scenario.
    ///
    /// # Errors
    /// [`RunError`]: no such lane, its generator fails, requests fail, or the kernel counts no calls (root and
    /// tracepoints are needed).
    pub fn calls_per_request(
        &mut self,
        scenario: &Scenario,
        lane: &str,
        connection: Connection,
    ) -> Result<CallsPerRequest, RunError> {
        let contestant = self.contestant(lane)?;
        let failed = |message: String| RunError::Generator {
            arm: lane.to_owned(),
            message,
        };
        let scenario = &alone(scenario, connection);
        let mut plan = contestant.plan(scenario);
        plan.idle = Idle::Sleep;
        contestant.generator.prepare(&scenario.name, plan)?;
        contestant
            .generator
            .run(&scenario.name, WARM_MS, 0, Some(0.0))?;
        let mut places = places(contestant, &scenario.client);
        let mut requests = 0;
        for _ in 0..STRETCHES {
            let begun = Instant::now();
            let mut counted = start(&places)
                .map_err(|error| failed(format!("system calls are not counted: {error}")))?;
            let result = contestant
                .generator
                .run(&scenario.name, STRETCH_MS, 0, Some(0.0))?;
            let loaded = begun.elapsed();
            if result.ok != result.sent {
                let message = format!(
                    "{} of {} requests failed",
                    result.sent - result.ok,
                    result.sent
                );
                return Err(failed(message));
            }
            let unread = |error| failed(format!("system calls cannot be read: {error}"));
            let before = read(&mut counted).map_err(unread)?;
            std::thread::sleep(loaded.min(Duration::from_millis(u64::from(2 * STRETCH_MS))));
            let after = read(&mut counted).map_err(unread)?;
            for ((tally, before), after) in places.values_mut().zip(before).zip(after) {
                tally.loaded += before;
                tally.idle += after - before;
            }
            requests += result.ok;
            if requests >= ENOUGH {
                break;
            }
        }
        contestant.generator.close(&scenario.name)?;
        if requests < ENOUGH {
            return Err(failed(format!(
                "only {requests} of {ENOUGH} requests, too few to count by"
            )));
        }
        let per_1000 = places
            .into_iter()
            .map(|(place, tally)| (place, rounded(&tally, requests)))
            .collect();
        Ok(CallsPerRequest { per_1000, requests })
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
    let more = tally.loaded.saturating_sub(tally.idle);
    (more * 1000 + requests / 2) / requests.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_without_load_is_taken_off() {
        let per_1000 = |loaded, idle| {
            let tally = Tally {
                tasks: Vec::new(),
                loaded,
                idle,
            };
            rounded(&tally, 10_000)
        };
        assert_eq!(per_1000(30_020, 10), 3001);
        assert_eq!(per_1000(104, 100), 0);
        assert_eq!(per_1000(90, 100), 0);
    }
}
