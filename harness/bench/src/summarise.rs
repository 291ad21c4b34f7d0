//! From a finished run to its published form.

use crate::record::Record;
use crate::scenario::{Loop, Rate, Scenario};
use crate::summary::{Env, LoadSummary, SCHEMA, Summary};
use crate::{evaluate, judge};

/// A finished run of one scenario.
#[derive(Debug)]
pub struct Run<'a> {
    /// Arms that were measured, in the order of the report.
    pub arms: &'a [String],
    /// What they brought.
    pub record: &'a Record,
    /// Whether the quick design was used.
    pub quick: bool,
    /// Offered rate, requests per second; none in a closed loop.
    pub rate: Option<f64>,
    /// Machine, command, time.
    pub env: Env,
}

/// Computes figures and verdict.
pub fn summarise(scenario: &Scenario, run: Run<'_>) -> Summary {
    let design = scenario.design(run.quick);
    let figures = evaluate::figures(scenario, run.arms, run.record, &design);
    let (expectations, verdict) = judge::judge(scenario, run.record, &figures, run.env.steal);
    Summary {
        schema: SCHEMA.to_owned(),
        scenario: scenario.name.clone(),
        title: scenario.title.clone(),
        reproduces: scenario.reproduces.clone(),
        sweep: scenario.point.clone(),
        quick: run.quick,
        load: load(scenario, run.rate),
        design,
        placement: scenario.placement.clone(),
        envoy_profile: scenario.envoy_profile,
        fit: scenario.fit,
        arms: figures.arms,
        ratios: figures.ratios,
        added_us: figures.added_us,
        aa: figures.aa,
        expectations,
        verdict,
        blocks_run: run.record.blocks(),
        attempts: Vec::new(),
        env: run.env,
    }
}

fn load(scenario: &Scenario, rate: Option<f64>) -> LoadSummary {
    let load = &scenario.load;
    let open = load.pace == Loop::Open;
    LoadSummary {
        pace: load.pace,
        offered_rps: rate,
        rate_basis: match load.rate {
            _ if !open => "as fast as answers come".to_owned(),
            Rate::OfSlowest(share) => {
                format!("{:.0} % of the slowest arm's capacity", share * 100.0)
            }
            Rate::Fixed(_) | Rate::Unset => "fixed".to_owned(),
        },
        latency_basis: if open { "intended" } else { "service" }.to_owned(),
        connections: load.connections,
        connection: load.connection.to_string(),
        protocol: load.protocol.to_string(),
    }
}
