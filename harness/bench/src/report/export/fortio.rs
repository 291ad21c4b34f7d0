//! Each arm as a run of fortio, for `fortio report -data-dir exports`. The whole run is one: all blocks
//! merged, service time as fortio measures it, in buckets fine enough that nothing is interpolated.

use crate::report::stored::Stored;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kmesh_load::distribution::{Distribution, Recorder};
use kmesh_load::fortio::{Export, Labels};
use kmesh_load::plan::{Pace, Plan, RequestClass, Reuse};
use kmesh_load::result::{BlockResult, ErrorKind, Latency};
use kmesh_stats::Latency as Histogram;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// `fortio-SCENARIO-ARM.json` for every arm with a histogram.
pub(super) fn runs(stored: &Stored) -> Vec<(String, String)> {
    let scenario = &stored.summary.scenario;
    stored
        .summary
        .arms
        .iter()
        .filter_map(|arm| {
            let export = run(stored, &arm.name)?;
            let text = serde_json::to_string_pretty(&export).ok()?;
            Some((format!("fortio-{scenario}-{}.json", arm.name), text + "\n"))
        })
        .collect()
}

fn run(stored: &Stored, arm: &str) -> Option<Export> {
    let service = distribution(&stored.record.merged.get(arm)?.service)?;
    let empty = Recorder::new().distribution();
    let sum = |field: fn(&crate::record::Row) -> u64| stored.record.of(arm).map(field).sum::<u64>();
    let (ok, errors) = (sum(|row| row.ok), sum(|row| row.errors));
    let duration_s: f64 = stored.record.of(arm).map(|row| row.duration_s).sum();
    let summary = &stored.summary;
    let offered = summary
        .arms
        .iter()
        .find(|candidate| candidate.name == arm)
        .and_then(|arm| arm.offered_rps);
    // fortio asks for an address; a stored result has none, and the figure does not depend on it.
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mut plan = Plan::closed(
        vec![nowhere],
        summary.load.connections.max(1),
        vec![RequestClass::get("all", &summary.scenario, "/")],
    );
    plan.pace = offered.map_or(Pace::Closed, |rate| Pace::Open {
        rate,
        arrivals: kmesh_load::plan::Arrivals::Uniform,
    });
    if summary.load.connection != "keep-alive" {
        plan.reuse = Reuse::Short {
            close_header: false,
            reset: summary.load.connection == "short-reset",
        };
    }
    let result = BlockResult {
        started_unix_ns: stored
            .record
            .of(arm)
            .map(|row| row.started_unix_ns)
            .min()
            .unwrap_or(0),
        duration_s,
        offered_rps: offered,
        achieved_rps: service.count as f64 / duration_s.max(f64::MIN_POSITIVE),
        spun_us: 0,
        sent: sum(|row| row.sent),
        ok,
        dropped: sum(|row| row.dropped),
        wrong_decisions: 0,
        wrong_status: 0,
        wrong_seq: 0,
        wrong_body: 0,
        stray_bytes: 0,
        errors: (errors > 0)
            .then_some((ErrorKind::Io, errors))
            .into_iter()
            .collect(),
        statuses: [(200, ok)].into(),
        served_by: std::collections::BTreeMap::new(),
        connects: sum(|row| row.connects),
        bytes_out: 0,
        bytes_in: 0,
        latency: Latency {
            service,
            intended: empty.clone(),
            connect: empty.clone(),
            first_byte: empty.clone(),
            lag: empty,
        },
        examples: Vec::new(),
    };
    let labels = Labels {
        url: format!("http://{}/", summary.scenario),
        labels: format!("{} {arm}", summary.scenario),
        exactly: 0,
        requested: Duration::from_secs_f64(duration_s),
    };
    Export::new(&plan, &result, &labels).ok()
}

fn distribution(latency: &Histogram) -> Option<Distribution> {
    let at = |q| latency.quantile_us(q);
    Some(Distribution {
        count: latency.count(),
        min_us: at(0.0)?,
        mean_us: latency.mean_us()?,
        stdev_us: latency.stdev_us()?,
        p50_us: at(0.5)?,
        p90_us: at(0.9)?,
        p99_us: at(0.99)?,
        p999_us: at(0.999)?,
        max_us: latency.max_us()?,
        hdr: STANDARD.encode(latency.to_v2().ok()?),
    })
}
