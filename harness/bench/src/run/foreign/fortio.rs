//! fortio's command line and report.

use super::{Load, Said};
use serde::Deserialize;
use std::collections::BTreeMap;

pub(super) fn arguments(load: &Load<'_>) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "load",
        "-quiet",
        "-qps",
        "0",
        "-r",
        "0.000001",
        "-p",
        "50",
        "-json",
        "-",
        "-allow-initial-errors",
    ]
    .map(ToOwned::to_owned)
    .into();
    arguments.extend([
        "-c".to_owned(),
        load.connections.to_string(),
        "-t".to_owned(),
        format!("{}s", load.seconds),
        "-H".to_owned(),
        format!("Host: {}", load.host),
    ]);
    arguments.extend(load.headers_and_url());
    arguments
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    #[serde(rename = "ActualQPS")]
    actual_qps: f64,
    duration_histogram: Histogram,
    ret_codes: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Histogram {
    percentiles: Vec<Percentile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Percentile {
    percentile: f64,
    value: f64,
}

pub(super) fn parse(text: &str) -> Option<Said> {
    let report: Report = serde_json::from_str(text).ok()?;
    let percentiles = &report.duration_histogram.percentiles;
    let median = percentiles
        .iter()
        .find(|p| (p.percentile - 50.0).abs() < 1e-9)?;
    let wrong = report.ret_codes.iter().filter(|(code, _)| *code != "200");
    Some(Said {
        rps: report.actual_qps,
        p50_us: median.value * 1e6,
        failed: wrong.map(|(_, count)| count).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_report_is_read() {
        let report = r#"{"RunType": "HTTP", "ActualQPS": 1828.5, "RetCodes": {"200": 1840, "503": 7},
            "DurationHistogram": {"Count": 1847, "Percentiles": [{"Percentile": 50, "Value": 0.000064}]}}"#;
        let said = parse(report).unwrap();
        assert_eq!((said.rps, said.failed), (1828.5, 7));
        assert!((said.p50_us - 64.0).abs() < 1e-9);
        assert_eq!(parse("Aborting"), None);
    }
}
