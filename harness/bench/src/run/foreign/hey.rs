//! hey's command line and report.

use super::{Load, Said};

pub(super) fn arguments(load: &Load<'_>) -> Vec<String> {
    let mut arguments = vec![
        "-c".to_owned(),
        load.connections.to_string(),
        "-z".to_owned(),
        format!("{}s", load.seconds),
        "-disable-compression".to_owned(),
        "-host".to_owned(),
        load.host.to_owned(),
    ];
    arguments.extend(load.headers_and_url());
    arguments
}

pub(super) fn parse(text: &str) -> Option<Said> {
    let lines = || text.lines().map(str::trim);
    let after = |label: &str| lines().find_map(|line| line.strip_prefix(label).map(str::trim));
    // "[200]	10852 responses"; errors are listed as "[3]	Get ...: connection refused".
    let counted = |line: &str, error: bool| -> Option<u64> {
        let (bracket, rest) = line.strip_prefix('[')?.split_once(']')?;
        if error {
            return bracket.parse().ok();
        }
        let answers = rest.trim().strip_suffix("responses")?.trim().parse().ok()?;
        (bracket != "200").then_some(answers)
    };
    let section = |title: &str, error: bool| -> u64 {
        lines()
            .skip_while(|line| *line != title)
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| counted(line, error))
            .sum()
    };
    let seconds: f64 = after("50% in")?.strip_suffix("secs")?.trim().parse().ok()?;
    Some(Said {
        rps: after("Requests/sec:")?.parse().ok()?,
        p50_us: seconds * 1e6,
        failed: section("Status code distribution:", false) + section("Error distribution:", true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\nSummary:\n  Total:\t1.0046 secs\n  Requests/sec:\t10802.8014\n  \n\nLatency distribution:\n  \
        10% in 0.0002 secs\n  50% in 0.0003 secs\n\nStatus code distribution:\n  [200]\t10852 responses\n\n";

    #[test]
    fn its_report_is_read() {
        let said = parse(REPORT).unwrap();
        assert_eq!((said.rps, said.failed), (10802.8014, 0));
        assert!((said.p50_us - 300.0).abs() < 1e-6);
        let failing = format!(
            "{}  [503]\t3 responses\n\nError distribution:\n  [2]\tGet \"http://x/\": dial tcp: refused\n",
            REPORT.trim_end_matches('\n').to_owned() + "\n"
        );
        assert_eq!(parse(&failing).unwrap().failed, 5);
        assert_eq!(parse("usage"), None);
    }
}
