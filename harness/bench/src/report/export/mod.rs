//! A result in other programs' formats: CSV, Prometheus text, fortio's JSON, bencher's metric format.

mod bencher;
mod fortio;
mod prometheus;
mod table;

use super::stored::Stored;

/// All exports of one scenario as (file name, text).
pub(super) fn all(stored: &Stored) -> Vec<(String, String)> {
    let mut files = vec![
        ("summary.csv".to_owned(), table::csv(&stored.summary)),
        ("metrics.prom".to_owned(), prometheus::text(&stored.summary)),
        ("bencher.json".to_owned(), bencher::json(&stored.summary)),
    ];
    files.extend(fortio::runs(stored));
    files
}
