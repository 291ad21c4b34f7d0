//! The claim table: what the article says, what these results say.
//!
//! A claim is a subject in a scenario's figures and a predicate on its interval, asked of a closed and of
//! an open loop where both make sense. Nothing about the outcome is written here: a claim whose arm or
//! scenario is missing in the data is "not tested".

use super::stored::Stored;
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
    /// The article's figure.
    figure: &'static str,
    /// What was measured, for people.
    measured: &'static str,
    predicates: &'static [&'static str],
    /// Where to look: loop, scenario, subject.
    questions: &'static [Question],
}

/// Where the data has the answer.
#[derive(Debug, Clone, Copy)]
struct Question {
    /// `closed`, `open`, or `count` for what is no matter of timing.
    pace: &'static str,
    scenario: &'static str,
    subject: &'static str,
}

const fn closed(scenario: &'static str, subject: &'static str) -> Question {
    Question {
        pace: "closed",
        scenario,
        subject,
    }
}

const fn open(scenario: &'static str, subject: &'static str) -> Question {
    Question {
        pace: "open",
        scenario,
        subject,
    }
}

const fn count(scenario: &'static str, subject: &'static str) -> Question {
    Question {
        pace: "count",
        scenario,
        subject,
    }
}

/// "About the latency of no mesh" is taken as: at most this much slower.
const ABOUT: &str = "<= 1.10";
/// The headline scenario in a closed and in an open loop.
const MAX: &str = "http-lb-long60-max";
const LONG: &str = "http-lb-long60";

const CLAIMS: [Claim; 11] = [
    Claim {
        text: "5x over Envoy (throughput)",
        figure: "5x",
        measured: "requests/s, kmesh : envoy-both",
        predicates: &[">= 5"],
        questions: &[closed(MAX, "ratio(kmesh,envoy-both).throughput")],
    },
    Claim {
        text: "5x over Envoy (latency)",
        figure: "5x (4.8x at 4096 connections)",
        measured: "p50, envoy-both : kmesh",
        predicates: &[">= 5"],
        questions: &[
            closed(MAX, "ratio(envoy-both,kmesh).p50"),
            open(LONG, "ratio(envoy-both,kmesh).p50"),
        ],
    },
    Claim {
        text: "about the latency of no mesh (same node)",
        figure: "\"comparable\"",
        measured: "p50, kmesh : direct",
        predicates: &[ABOUT],
        questions: &[
            closed(MAX, "ratio(kmesh,direct).p50"),
            open(LONG, "ratio(kmesh,direct).p50"),
        ],
    },
    Claim {
        text: "about the latency of no mesh (other node)",
        figure: "\"comparable\"",
        measured: "p50, kmesh-remote : direct",
        predicates: &[ABOUT],
        questions: &[
            closed(MAX, "ratio(kmesh-remote,direct).p50"),
            open(LONG, "ratio(kmesh-remote,direct).p50"),
        ],
    },
    Claim {
        text: "a quarter of Envoy's CPU at equal load",
        figure: "60 % : 15 % at 10 000 requests/s",
        measured: "CPU per request, envoy-both : kmesh",
        predicates: &[">= 4"],
        questions: &[
            closed(MAX, "ratio(envoy-both,kmesh).cpu_us_per_request"),
            open(LONG, "ratio(envoy-both,kmesh).cpu_us_per_request"),
        ],
    },
    Claim {
        text: "short connections gain as well",
        figure: "no figure",
        measured: "requests/s, kmesh : envoy-both, one request each",
        predicates: &["> 1"],
        questions: &[closed(
            "http-lb-short",
            "ratio(kmesh,envoy-both).throughput",
        )],
    },
    Claim {
        text: "sockmap: 10-15 % lower latency",
        figure: "9.4 to 8.1 ms at 60 connections",
        measured: "p50, envoy-both-sockmap : envoy-both",
        predicates: &[">= 0.85", "<= 0.90"],
        questions: &[
            closed("sockmap", "ratio(envoy-both-sockmap,envoy-both).p50"),
            open(LONG, "ratio(envoy-both-sockmap,envoy-both).p50"),
        ],
    },
    Claim {
        text: "a sidecar mesh turns 1 connection into 3",
        figure: "3",
        measured: "TCP connections per client connection, envoy-both",
        predicates: &[">= 2.5", "<= 3.5"],
        questions: &[count(MAX, "arm(envoy-both).connections_per_client")],
    },
    Claim {
        text: "a sidecar mesh turns 2 stack traversals into 6",
        figure: "6",
        measured: "TCP stack traversals per message, envoy-both",
        predicates: &[">= 5.5", "<= 6.5"],
        questions: &[count(MAX, "breakdown(envoy-both).traversals")],
    },
    Claim {
        text: "little of a mesh's time is governance",
        figure: "10 %",
        measured: "share of added CPU time in the proxies' own code, envoy-both",
        predicates: &["<= 0.15"],
        questions: &[count(MAX, "breakdown(envoy-both).governance")],
    },
    Claim {
        text: "L4 in the kernel costs nothing",
        figure: "no figure",
        measured: "round trips/s, kmesh-l4 : direct",
        predicates: &[">= 0.95"],
        questions: &[closed("tcp-echo", "ratio(kmesh-l4,direct).throughput")],
    },
];

/// One answer of the table: one claim in one loop.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClaimRow {
    /// The article's claim.
    pub claim: String,
    /// The article's figure.
    pub figure: String,
    /// What was measured.
    pub measured: String,
    /// `closed`, `open`, or `count` for what is no matter of timing.
    #[serde(rename = "loop")]
    pub pace: String,
    /// Scenario.
    pub scenario: String,
    /// The figure; none when not tested.
    pub value: Option<Interval>,
    /// What the data says.
    pub verdict: Verdict,
    /// Why the verdict must be read with care: the run's status when it was not fit.
    pub caveat: Option<String>,
    /// Measured by `--quick`: a look, not a verdict.
    pub quick: bool,
}

/// Answers every claim from stored results, breakdowns included.
pub fn claim_rows_of(results: &[Stored]) -> Vec<ClaimRow> {
    rows(|question| {
        let stored = results
            .iter()
            .find(|stored| stored.summary.scenario == question.scenario)?;
        let value = match question.subject.strip_prefix("breakdown(") {
            Some(rest) => {
                let (arm, field) = rest.split_once(").")?;
                let value = stored.breakdown.as_ref()?.figure(arm, field)?;
                exactly(value)
            }
            None => in_summary(question, &stored.summary)?,
        };
        Some((value, &stored.summary))
    })
}

/// Answers every claim from the summaries given; what a breakdown would answer is not tested.
pub fn claim_rows(summaries: &[Summary]) -> Vec<ClaimRow> {
    rows(|question| {
        let summary = summaries
            .iter()
            .find(|summary| summary.scenario == question.scenario)?;
        Some((in_summary(question, summary)?, summary))
    })
}

fn exactly(value: f64) -> Interval {
    Interval {
        point: value,
        lo: value,
        hi: value,
    }
}

fn in_summary(question: &Question, summary: &Summary) -> Option<Interval> {
    let subject: Subject = question.subject.parse().ok()?;
    judge::value_in_summary(&subject, summary)
}

fn rows<'a>(answer: impl Fn(&Question) -> Option<(Interval, &'a Summary)>) -> Vec<ClaimRow> {
    let row = |claim: &Claim, question: &Question| {
        let found = answer(question);
        let caveat = match found.map(|(_, summary)| summary.verdict.status) {
            Some(Status::Invalid) => Some("run unfit for a verdict".to_owned()),
            Some(Status::Wrong) => Some("run with wrong decisions".to_owned()),
            Some(Status::Held | Status::Missed | Status::Undecided) | None => None,
        };
        ClaimRow {
            claim: claim.text.to_owned(),
            figure: claim.figure.to_owned(),
            measured: claim.measured.to_owned(),
            pace: question.pace.to_owned(),
            scenario: question.scenario.to_owned(),
            value: found.map(|(value, _)| value),
            verdict: found.map_or(Verdict::NotTested, |(value, _)| {
                judge_all(claim.predicates, &value)
            }),
            caveat,
            quick: found.is_some_and(|(_, summary)| summary.quick),
        }
    };
    CLAIMS
        .iter()
        .flat_map(|claim| {
            claim
                .questions
                .iter()
                .map(move |question| (claim, question))
        })
        .map(|(claim, question)| row(claim, question))
        .collect()
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

/// Every claim's subject that a summary answers, parsed: for checks that they stay readable.
pub fn subjects() -> Vec<Result<Expectation, String>> {
    let parse = |question: &Question, predicate: &str| {
        Ok(Expectation {
            subject: question.subject.parse()?,
            predicate: predicate
                .parse()
                .map_err(|error: kmesh_stats::Error| error.to_string())?,
        })
    };
    CLAIMS
        .iter()
        .flat_map(|claim| {
            claim
                .questions
                .iter()
                .filter(|question| !question.subject.starts_with("breakdown("))
                .flat_map(move |question| {
                    claim
                        .predicates
                        .iter()
                        .map(move |predicate| parse(question, predicate))
                })
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
