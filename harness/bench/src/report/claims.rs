//! The claim table: what the article says, what these results say.
//!
//! A claim is a subject in a scenario's figures and a predicate on its interval. Nothing about the
//! outcome is written here: a claim whose arm or scenario is missing in the data is "not tested".

use crate::judge;
use crate::scenario::{Expectation, Subject};
use crate::summary::{Status, Summary};
use kmesh_stats::{Interval, Predicate, Verdict};
use serde::Serialize;

/// A published claim in a form that data can answer.
#[derive(Debug, Clone, Copy)]
struct Claim {
    /// The article's words, shortened.
    text: &'static str,
    /// What was measured, for people.
    measured: &'static str,
    scenario: &'static str,
    subject: &'static str,
    predicates: &'static [&'static str],
}

/// "About the latency of no mesh" is taken as: at most this much slower.
const ABOUT: &str = "<= 1.10";

const CLAIMS: [Claim; 10] = [
    Claim {
        text: "5x over Envoy (throughput)",
        measured: "requests/s, kmesh : envoy-both, closed loop",
        scenario: "http-lb-long60-max",
        subject: "ratio(kmesh,envoy-both).throughput",
        predicates: &[">= 5"],
    },
    Claim {
        text: "5x over Envoy (latency)",
        measured: "p50, envoy-both : kmesh, closed loop",
        scenario: "http-lb-long60-max",
        subject: "ratio(envoy-both,kmesh).p50",
        predicates: &[">= 5"],
    },
    Claim {
        text: "5x over Envoy (latency)",
        measured: "p50, envoy-both : kmesh, open loop",
        scenario: "http-lb-long60",
        subject: "ratio(envoy-both,kmesh).p50",
        predicates: &[">= 5"],
    },
    Claim {
        text: "about the latency of no mesh",
        measured: "p50, kmesh : direct, closed loop",
        scenario: "http-lb-long60-max",
        subject: "ratio(kmesh,direct).p50",
        predicates: &[ABOUT],
    },
    Claim {
        text: "about the latency of no mesh",
        measured: "p50, kmesh : direct, open loop",
        scenario: "http-lb-long60",
        subject: "ratio(kmesh,direct).p50",
        predicates: &[ABOUT],
    },
    Claim {
        text: "about the latency of no mesh",
        measured: "p50, kmesh-remote : direct, open loop",
        scenario: "http-lb-long60",
        subject: "ratio(kmesh-remote,direct).p50",
        predicates: &[ABOUT],
    },
    Claim {
        text: "short connections gain as well",
        measured: "requests/s, kmesh : envoy-both, one request each",
        scenario: "http-lb-short",
        subject: "ratio(kmesh,envoy-both).throughput",
        predicates: &["> 1"],
    },
    Claim {
        text: "sockmap: 10-15 % lower latency",
        measured: "p50, envoy-both-sockmap : envoy-both",
        scenario: "http-lb-long60-max",
        subject: "ratio(envoy-both-sockmap,envoy-both).p50",
        predicates: &[">= 0.85", "<= 0.90"],
    },
    Claim {
        text: "a sidecar mesh turns 1 connection into 3",
        measured: "TCP connections per client connection, envoy-both",
        scenario: "http-lb-long60-max",
        subject: "arm(envoy-both).connections_per_client",
        predicates: &[">= 2.5", "<= 3.5"],
    },
    Claim {
        text: "L4 in the kernel costs nothing",
        measured: "round trips/s, kmesh-l4 : direct",
        scenario: "tcp-echo",
        subject: "ratio(kmesh-l4,direct).throughput",
        predicates: &[">= 0.95"],
    },
];

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClaimRow {
    /// The article's claim.
    pub claim: String,
    /// What was measured, and in which scenario.
    pub measured: String,
    /// Scenario.
    pub scenario: String,
    /// The figure; none when not tested.
    pub value: Option<Interval>,
    /// What the data says.
    pub verdict: Verdict,
    /// Why the verdict must be read with care: the run's status when it was not fit.
    pub caveat: Option<String>,
}

/// Answers every claim from the summaries given.
pub fn claim_rows(summaries: &[Summary]) -> Vec<ClaimRow> {
    CLAIMS
        .iter()
        .map(|claim| answer(claim, summaries))
        .collect()
}

fn answer(claim: &Claim, summaries: &[Summary]) -> ClaimRow {
    let summary = summaries
        .iter()
        .find(|summary| summary.scenario == claim.scenario);
    let value = summary.and_then(|summary| {
        let subject: Subject = claim.subject.parse().ok()?;
        judge::value_in_summary(&subject, summary)
    });
    let verdict = value.map_or(Verdict::NotTested, |value| {
        judge_all(claim.predicates, &value)
    });
    let caveat =
        summary
            .filter(|_| value.is_some())
            .and_then(|summary| match summary.verdict.status {
                Status::Invalid => Some("run unfit for a verdict".to_owned()),
                Status::Wrong => Some("run with wrong decisions".to_owned()),
                Status::Held | Status::Missed | Status::Undecided => None,
            });
    ClaimRow {
        claim: claim.text.to_owned(),
        measured: claim.measured.to_owned(),
        scenario: claim.scenario.to_owned(),
        value,
        verdict,
        caveat,
    }
}

/// All predicates must hold; one that is refuted refutes the claim.
fn judge_all(predicates: &[&str], value: &Interval) -> Verdict {
    let verdicts: Vec<Verdict> = predicates
        .iter()
        .filter_map(|text| text.parse::<Predicate>().ok())
        .map(|predicate| predicate.judge(value))
        .collect();
    if verdicts.contains(&Verdict::NotHeld) {
        Verdict::NotHeld
    } else if verdicts.contains(&Verdict::Undecided) {
        Verdict::Undecided
    } else {
        Verdict::Held
    }
}

/// Every claim's subject, parsed: for checks that they stay readable.
pub fn subjects() -> Vec<Result<Expectation, String>> {
    let parse = |claim: &Claim, predicate: &str| {
        Ok(Expectation {
            subject: claim.subject.parse()?,
            predicate: predicate
                .parse()
                .map_err(|error: kmesh_stats::Error| error.to_string())?,
        })
    };
    CLAIMS
        .iter()
        .flat_map(|claim| {
            claim
                .predicates
                .iter()
                .map(move |predicate| parse(claim, predicate))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claim_can_be_parsed() {
        for subject in subjects() {
            subject.unwrap();
        }
    }

    #[test]
    fn no_data_is_not_tested() {
        assert!(
            claim_rows(&[])
                .iter()
                .all(|row| row.verdict == Verdict::NotTested && row.value.is_none())
        );
    }

    #[test]
    fn a_range_claim_needs_both_ends() {
        let interval = |lo, hi| Interval {
            point: f64::midpoint(lo, hi),
            lo,
            hi,
        };
        let range = [">= 0.85", "<= 0.90"];
        assert_eq!(judge_all(&range, &interval(0.86, 0.89)), Verdict::Held);
        assert_eq!(judge_all(&range, &interval(0.86, 0.93)), Verdict::Undecided);
        assert_eq!(judge_all(&range, &interval(0.95, 0.99)), Verdict::NotHeld);
    }
}
