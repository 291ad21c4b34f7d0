//! The result as fortio writes it (`fortio load -json`), so that `fortio report` and every tool that
//! reads fortio files can show ours.
//!
//! Durations are seconds, but for `ActualDuration` (nanoseconds). Buckets are ours, not fortio's: its
//! fixed edges are what loses everything below a millisecond; its readers take any edges.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use kmesh_origin::date::Civil;
use serde::Serialize;

use crate::distribution::{Distribution, DistributionError};
use crate::plan::{Pace, Plan, Reuse};
use crate::result::BlockResult;

/// Width of an exported bucket relative to its start: wide enough for a chart, fine enough to read.
const BUCKET_RATIO: f64 = 1.02;
/// Longest `ID` that fortio accepts.
const MAX_ID: usize = 96;

/// What the report says about a run beside its figures.
#[derive(Clone, Debug)]
pub struct Labels {
    /// URL of the run.
    pub url: String,
    /// Free text.
    pub labels: String,
    /// Requests asked for, when not by time.
    pub exactly: u64,
    /// Time asked for, when not by count.
    pub requested: Duration,
}

/// One run in fortio's shape. Field names and order follow fortio's `HTTPRunnerResults`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_excessive_bools, reason = "the fields are fortio's")]
pub struct Export {
    run_type: &'static str,
    labels: String,
    start_time: String,
    #[serde(rename = "RequestedQPS")]
    requested_qps: String,
    requested_duration: String,
    #[serde(rename = "ActualQPS")]
    actual_qps: f64,
    actual_duration: u64,
    num_threads: u32,
    version: String,
    duration_histogram: Histogram,
    errors_duration_histogram: Histogram,
    exactly: u64,
    jitter: bool,
    uniform: bool,
    no_catch_up: bool,
    #[serde(rename = "RunID")]
    run_id: u64,
    access_logger_info: &'static str,
    #[serde(rename = "ID")]
    id: String,
    ret_codes: BTreeMap<String, u64>,
    #[serde(rename = "IPCountMap")]
    ip_count_map: BTreeMap<String, u64>,
    #[serde(rename = "URL")]
    url: String,
    num_connections: u32,
    compression: bool,
    #[serde(rename = "HTTP10")]
    http10: bool,
    #[serde(rename = "H2")]
    h2: bool,
    disable_keep_alive: bool,
    allow_half_close: bool,
    #[serde(rename = "HTTPReqTimeOut")]
    http_req_time_out: u64,
    conn_reuse_range: [u32; 2],
    resolution: f64,
    offset: u64,
    sizes: Histogram,
    header_sizes: Histogram,
    sockets: Vec<u64>,
    socket_count: u64,
    connection_stats: Histogram,
    abort_on: i64,
}

/// fortio's `HistogramData`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Histogram {
    count: u64,
    min: f64,
    max: f64,
    sum: f64,
    avg: f64,
    std_dev: f64,
    data: Option<Vec<Bucket>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percentiles: Option<Vec<Percentile>>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Bucket {
    start: f64,
    end: f64,
    percent: f64,
    count: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Percentile {
    percentile: f64,
    value: f64,
}

impl Export {
    /// Converts one result. Latency is the service time, as fortio's is.
    ///
    /// # Errors
    /// When a histogram of the result cannot be decoded.
    pub fn new(
        plan: &Plan,
        result: &BlockResult,
        labels: &Labels,
    ) -> Result<Self, DistributionError> {
        let start = Civil::from_unix(result.started_unix_ns / 1_000_000_000);
        let Civil {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = start;
        let mut ret_codes: BTreeMap<String, u64> = result
            .statuses
            .iter()
            .map(|(status, count)| (status.to_string(), *count))
            .collect();
        if result.errors() > 0 {
            // fortio's code for "no answer".
            ret_codes.insert("-1".to_owned(), result.errors());
        }
        let sockets = result.connects.max(u64::from(plan.connections));
        let per_connection = |index: u64| {
            sockets / u64::from(plan.connections)
                + u64::from(index < sockets % u64::from(plan.connections))
        };
        let mut id = format!("{year:04}-{month:02}-{day:02}-{hour:02}{minute:02}{second:02}_");
        id.extend(
            labels
                .labels
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }),
        );
        id.truncate(MAX_ID);
        Ok(Self {
            run_type: "HTTP",
            labels: labels.labels.clone(),
            start_time: format!(
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z",
                result.started_unix_ns % 1_000_000_000
            ),
            requested_qps: result
                .offered_rps
                .map_or("max".to_owned(), |rate| format!("{rate}")),
            requested_duration: if labels.exactly > 0 {
                format!("exactly {} calls", labels.exactly)
            } else {
                go_duration(labels.requested)
            },
            actual_qps: result.achieved_rps,
            actual_duration: (result.duration_s * 1e9) as u64,
            num_threads: plan.connections,
            version: format!("kmesh-load {}", env!("CARGO_PKG_VERSION")),
            duration_histogram: Histogram::new(&result.latency.service, true)?,
            errors_duration_histogram: Histogram::empty(),
            exactly: labels.exactly,
            jitter: false,
            uniform: matches!(plan.pace, Pace::Open { .. }),
            no_catch_up: false,
            run_id: 0,
            access_logger_info: "",
            id,
            ret_codes,
            ip_count_map: count_targets(&plan.targets, plan.connections),
            url: labels.url.clone(),
            num_connections: 1,
            compression: false,
            http10: false,
            h2: false,
            disable_keep_alive: matches!(plan.reuse, Reuse::Short { .. }),
            allow_half_close: false,
            http_req_time_out: u64::from(plan.timeout_ms) * 1_000_000,
            conn_reuse_range: match plan.reuse {
                Reuse::Range { min, max } => [min, max],
                _ => [0, 0],
            },
            resolution: 1e-6,
            offset: 0,
            sizes: Histogram::empty(),
            header_sizes: Histogram::empty(),
            sockets: (0..u64::from(plan.connections))
                .map(per_connection)
                .collect(),
            socket_count: sockets,
            connection_stats: Histogram::new(&result.latency.connect, true)?,
            abort_on: 0,
        })
    }
}

impl Histogram {
    fn empty() -> Self {
        Self {
            count: 0,
            min: 0.0,
            max: 0.0,
            sum: 0.0,
            avg: 0.0,
            std_dev: 0.0,
            data: None,
            percentiles: None,
        }
    }

    fn new(distribution: &Distribution, percentiles: bool) -> Result<Self, DistributionError> {
        if distribution.count == 0 {
            return Ok(Self::empty());
        }
        let recorder = distribution.recorder()?;
        let histogram = recorder.histogram();
        let (min, max) = (distribution.min_us / 1e6, distribution.max_us / 1e6);
        let mut data: Vec<Bucket> = Vec::new();
        let mut total = 0;
        for value in histogram.iter_recorded() {
            let (end, count) = (
                value.value_iterated_to() as f64 / 1e9,
                value.count_since_last_iteration(),
            );
            total += count;
            let percent = 100.0 * total as f64 / distribution.count as f64;
            match data.last_mut() {
                Some(last) if end <= last.start * BUCKET_RATIO => {
                    last.end = end;
                    last.count += count;
                    last.percent = percent;
                }
                _ => data.push(Bucket {
                    start: data.last().map_or(min, |last| last.end),
                    end,
                    percent,
                    count,
                }),
            }
        }
        if let Some(last) = data.last_mut() {
            last.end = max;
        }
        let at = |percentile: f64| Percentile {
            percentile,
            value: histogram.value_at_quantile(percentile / 100.0) as f64 / 1e9,
        };
        Ok(Self {
            count: distribution.count,
            min,
            max,
            sum: distribution.mean_us * distribution.count as f64 / 1e6,
            avg: distribution.mean_us / 1e6,
            std_dev: distribution.stdev_us / 1e6,
            data: Some(data),
            percentiles: percentiles.then(|| [50.0, 75.0, 90.0, 99.0, 99.9].map(at).to_vec()),
        })
    }
}

fn count_targets(targets: &[SocketAddr], connections: u32) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for target in targets.iter().cycle().take(connections as usize) {
        *counts.entry(target.to_string()).or_default() += 1;
    }
    counts
}

/// As Go prints a duration: `5s`, `1.5s`, `250ms`.
fn go_duration(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.as_secs_f64() * 1e3);
    }
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Recorder;
    use crate::ledger::{Frame, Ledger};
    use crate::plan::{RequestClass, SeqCheck};
    use crate::request::Template;

    fn export(values_ns: &[u64]) -> serde_json::Value {
        let plan = Plan::closed(
            vec!["127.0.0.1:80".parse().unwrap()],
            4,
            vec![RequestClass::get("a", "h", "/")],
        );
        let frame = Frame {
            started_unix_ns: 784_111_777_000_000_042,
            duration_s: 2.0,
            offered_rps: None,
            spun_us: 0,
        };
        let mut result = Ledger::new(1, false, SeqCheck::Off).close(&Template::all(&plan), frame);
        let mut recorder = Recorder::new();
        for value in values_ns {
            recorder.record(*value);
        }
        result.latency.service = recorder.distribution();
        result.statuses = BTreeMap::from([(200, values_ns.len() as u64)]);
        let labels = Labels {
            url: "http://h/".to_owned(),
            labels: "a test".to_owned(),
            exactly: 0,
            requested: Duration::from_millis(2500),
        };
        serde_json::to_value(Export::new(&plan, &result, &labels).unwrap()).unwrap()
    }

    /// The names fortio 1.68 writes and its readers look for.
    #[test]
    fn the_shape_is_fortios() {
        let json = export(&[50_000, 60_000, 2_000_000]);
        for name in [
            "RunType",
            "Labels",
            "StartTime",
            "RequestedQPS",
            "RequestedDuration",
            "ActualQPS",
            "ActualDuration",
            "NumThreads",
            "Version",
            "DurationHistogram",
            "ErrorsDurationHistogram",
            "Exactly",
            "Jitter",
            "Uniform",
            "NoCatchUp",
            "RunID",
            "AccessLoggerInfo",
            "ID",
            "RetCodes",
            "IPCountMap",
            "URL",
            "NumConnections",
            "Compression",
            "HTTP10",
            "H2",
            "DisableKeepAlive",
            "AllowHalfClose",
            "HTTPReqTimeOut",
            "ConnReuseRange",
            "Resolution",
            "Offset",
            "Sizes",
            "HeaderSizes",
            "Sockets",
            "SocketCount",
            "ConnectionStats",
            "AbortOn",
        ] {
            assert!(json.get(name).is_some(), "{name} is missing");
        }
        assert_eq!(json["StartTime"], "1994-11-06T08:49:37.000000042Z");
        assert_eq!(json["ID"], "1994-11-06-084937_a_test");
        assert_eq!(
            (&json["RequestedQPS"], &json["RequestedDuration"]),
            (&"max".into(), &"2.5s".into())
        );
        assert_eq!(json["ActualDuration"], 2_000_000_000_u64);
        assert_eq!(json["Sockets"], serde_json::json!([1, 1, 1, 1]));
        assert_eq!(json["IPCountMap"]["127.0.0.1:80"], 4);
        // Go refuses `0.0` for an integer; these are the only fractions at the top level.
        let fractions = json
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, value)| value.is_f64());
        assert_eq!(
            fractions.map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["ActualQPS", "Resolution"]
        );
    }

    #[test]
    fn buckets_cover_every_value_once_and_in_order() {
        let values: Vec<u64> = (1..2000).map(|i| i * i * 100 + 10_000).collect();
        let histogram = &export(&values)["DurationHistogram"];
        let data = histogram["Data"].as_array().unwrap();
        let field = |bucket: &serde_json::Value, name: &str| bucket[name].as_f64().unwrap();
        assert!(
            data.len() > 100 && data.len() < 1000,
            "{} buckets",
            data.len()
        );
        assert_eq!(
            data.iter()
                .map(|b| b["Count"].as_u64().unwrap())
                .sum::<u64>(),
            values.len() as u64
        );
        assert!((field(&data[0], "Start") - field(histogram, "Min")).abs() < 1e-12);
        assert!((field(data.last().unwrap(), "End") - field(histogram, "Max")).abs() < 1e-12);
        assert!((field(data.last().unwrap(), "Percent") - 100.0).abs() < 1e-9);
        for pair in data.windows(2) {
            assert!((field(&pair[0], "End") - field(&pair[1], "Start")).abs() < 1e-12);
            assert!(field(&pair[0], "Percent") < field(&pair[1], "Percent"));
        }
        let p50 = &histogram["Percentiles"][0];
        assert!((field(p50, "Value") - 0.1).abs() < 0.001, "{p50}");
    }

    #[test]
    fn without_answers_the_histogram_is_fortios_empty_one() {
        assert_eq!(
            export(&[])["DurationHistogram"]["Data"],
            serde_json::Value::Null
        );
    }
}
