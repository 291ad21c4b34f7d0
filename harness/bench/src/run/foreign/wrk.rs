//! wrk's command line and report.

use super::{Load, Said};

pub(super) fn arguments(load: &Load<'_>) -> Vec<String> {
    let mut arguments: Vec<String> = ["-t1", "--latency"].map(ToOwned::to_owned).into();
    arguments.extend([
        format!("-c{}", load.connections),
        format!("-d{}s", load.seconds),
        "-H".to_owned(),
        format!("Host: {}", load.host),
    ]);
    arguments.extend(load.headers_and_url());
    arguments
}

pub(super) fn parse(text: &str) -> Option<Said> {
    let after = |label: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(label).map(str::trim))
    };
    // "Socket errors: connect 0, read 3, write 0, timeout 1"
    let sockets = after("Socket errors:").map_or(0, |list| {
        list.split([' ', ','])
            .filter_map(|word| word.parse::<u64>().ok())
            .sum()
    });
    let statuses =
        after("Non-2xx or 3xx responses:").map_or(Some(0), |count| count.parse().ok())?;
    Some(Said {
        rps: after("Requests/sec:")?.parse().ok()?,
        p50_us: microseconds(after("50%")?)?,
        failed: sockets + statuses,
    })
}

/// `83.00us`, `1.02ms`, `1.20s`, `1.00m`.
fn microseconds(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7)];
    units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "Running 1s test @ http://127.0.0.1:18999/\n  1 threads and 4 connections\n  \
        Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     0.89ms    1.62ms  10.85ms   86.82%\n  \
        Latency Distribution\n     50%   83.00us\n     75%    1.02ms\n  24654 requests in 1.01s, 6.14MB read\n\
        Requests/sec:  24372.09\nTransfer/sec:      6.07MB\n";

    #[test]
    fn its_report_is_read() {
        let said = parse(REPORT).unwrap();
        assert_eq!((said.rps, said.p50_us, said.failed), (24372.09, 83.0, 0));
        let failing = REPORT.replace(
            "Requests/sec",
            "  Socket errors: connect 0, read 3, write 0, timeout 1\n  Non-2xx or 3xx responses: 7\nRequests/sec",
        );
        assert_eq!(parse(&failing).unwrap().failed, 11);
        assert_eq!(parse("unable to connect"), None);
        assert_eq!(microseconds("1.02ms"), Some(1020.0));
    }
}
