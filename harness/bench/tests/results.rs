//! From rows to a folder and back: figures, verdicts, schema, report.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kmesh_bench::binaries::{scenario_directory, workspace};
use kmesh_bench::breakdown::{ArmBreakdown, Breakdown, Counts, Missing, PARTS, Part};
use kmesh_bench::record::{Merged, Record, Row};
use kmesh_bench::report::{self, Format, claim_rows, read_summaries, write_scenario};
use kmesh_bench::scenario::{Catalogue, Scenario};
use kmesh_bench::summarise::{Run, summarise};
use kmesh_bench::summary::{Env, Status, Summary};
use kmesh_stats::{Latency, Rng, Verdict};

fn scenario(name: &str) -> Scenario {
    let mut scenario = Catalogue::new(scenario_directory()).load(name).unwrap();
    // Debug builds resample slowly, and the figures put in have little noise.
    scenario.design.resamples = 500;
    scenario
}

/// Requests/s and p50 in microseconds that an arm is given.
fn speed(arm: &str) -> (f64, f64) {
    match arm {
        "envoy-client" => (27_000.0, 2_100.0),
        "envoy-both" => (13_000.0, 4_350.0),
        "kmesh" | "kmesh-l4" => (270_000.0, 100.0),
        "kmesh-remote" => (107_000.0, 380.0),
        _ => (160_000.0, 165.0),
    }
}

/// A run as the lab would bring it, with 3 % noise.
fn record(scenario: &Scenario) -> Record {
    let mut rng = Rng::new(5);
    let mut record = Record {
        deciding: vec!["envoy-both".into(), "kmesh".into()],
        ..Record::default()
    };
    let open = scenario.load.pace == kmesh_bench::scenario::Loop::Open;
    for block in 0..scenario.design.blocks {
        for (position, arm) in scenario.arms.run.iter().enumerate() {
            let noise = 1.0 + 0.03 * (rng.below(2001) as f64 / 1000.0 - 1.0);
            let (rps, p50) = speed(arm);
            record.rows.push(Row {
                block,
                position,
                arm: arm.clone(),
                duration_s: 0.6,
                offered_rps: if open { 6_500.0 } else { 0.0 },
                achieved_rps: rps * noise,
                sent: 1_000,
                ok: 1_000,
                p50_us: p50 / noise,
                p90_us: 2.0 * p50,
                p99_us: 4.0 * p50,
                intended_p50_us: if open { p50 / noise } else { 0.0 },
                cpu_us_per_request: p50 / 20.0,
                kernel_requests: if arm == "kmesh" { 1_000 } else { 0 },
                ..Row::default()
            });
            let merged = record.merged.entry(arm.clone()).or_default();
            merged.service.record((p50 * noise * 1_000.0) as u64);
            if open {
                merged.intended.record((p50 * noise * 1_000.0) as u64);
            }
        }
    }
    record
        .connections_per_client
        .insert("envoy-both".into(), 3.0);
    record
}

fn summary(scenario: &Scenario, record: &Record) -> Summary {
    let run = Run {
        arms: &scenario.arms.run,
        record,
        quick: false,
        rate: None,
        env: Env {
            started: "2026-11-22T00:00:00Z".into(),
            ..Env::default()
        },
    };
    summarise(scenario, run)
}

#[test]
fn the_figures_are_the_ones_put_in() {
    let scenario = scenario("http-lb-long60-max");
    let summary = summary(&scenario, &record(&scenario));
    let ratio =
        kmesh_bench::evaluate::find_ratio(&summary.ratios, "throughput", "kmesh", "envoy-both")
            .unwrap();
    assert!(
        (ratio.interval.point / (270.0 / 13.0) - 1.0).abs() < 0.03,
        "{ratio:?}"
    );
    let inverse =
        kmesh_bench::evaluate::find_ratio(&summary.ratios, "throughput", "envoy-both", "kmesh")
            .unwrap();
    assert!((inverse.interval.point * ratio.interval.point - 1.0).abs() < 1e-9);
    assert!(
        summary.aa.iter().all(|aa| aa.interval.contains(1.0)),
        "{:?}",
        summary.aa
    );
    assert_eq!(
        summary.verdict.status,
        Status::Held,
        "{:?}",
        summary.verdict
    );
}

#[test]
fn a_missed_expectation_is_exit_1_and_names_itself() {
    let scenario = scenario("http-lb-long60-max");
    let mut record = record(&scenario);
    record
        .rows
        .iter_mut()
        .filter(|row| row.arm == "kmesh")
        .for_each(|row| row.achieved_rps /= 10.0);
    let summary = summary(&scenario, &record);
    assert_eq!(
        (summary.verdict.status, summary.verdict.exit_code),
        (Status::Missed, 1)
    );
    assert!(summary.verdict.reasons.iter().any(|reason| {
        reason.code == "expectation"
            && reason
                .message
                .contains("ratio(kmesh,envoy-both).throughput")
    }));
}

#[test]
fn a_failed_request_is_exit_1() {
    let scenario = scenario("http-lb-long60-max");
    let mut record = record(&scenario);
    record.rows[9].errors = 1;
    assert_eq!(summary(&scenario, &record).verdict.exit_code, 1);
}

#[test]
fn a_wrong_decision_is_exit_2_whatever_else_happened() {
    let scenario = scenario("http-lb-long60-max");
    let mut record = record(&scenario);
    record.rows[3].wrong = 1;
    record
        .rows
        .iter_mut()
        .filter(|row| row.arm == "direct-aa")
        .for_each(|row| row.achieved_rps *= 2.0);
    assert_eq!(summary(&scenario, &record).verdict.exit_code, 2);
}

#[test]
fn an_unfit_machine_is_exit_3_with_the_reason() {
    let long60 = scenario("http-lb-long60");
    let code_of = |spoil: &dyn Fn(&mut Record, &mut Env)| {
        let mut record = record(&long60);
        let mut env = Env::default();
        spoil(&mut record, &mut env);
        let run = Run {
            arms: &long60.arms.run,
            record: &record,
            quick: false,
            rate: Some(6_500.0),
            env,
        };
        let verdict = summarise(&long60, run).verdict;
        (
            verdict.exit_code,
            verdict
                .reasons
                .into_iter()
                .map(|reason| reason.code)
                .collect::<Vec<_>>(),
        )
    };
    let aa = |record: &mut Record, _: &mut Env| {
        record
            .rows
            .iter_mut()
            .filter(|row| row.arm == "direct-aa")
            .for_each(|row| row.intended_p50_us *= 1.2);
    };
    let steal = |_: &mut Record, env: &mut Env| env.steal = 0.05;
    let lag = |record: &mut Record, _: &mut Env| {
        let mut lag = Latency::new();
        lag.record(500_000);
        record.merged.insert(
            "direct".into(),
            Merged {
                lag,
                ..Merged::default()
            },
        );
    };
    let late = |record: &mut Record, _: &mut Env| {
        record
            .rows
            .iter_mut()
            .filter(|row| row.arm == "direct")
            .for_each(|row| row.dropped = 100);
    };
    let drift = |record: &mut Record, _: &mut Env| {
        record
            .rows
            .iter_mut()
            .for_each(|row| row.intended_p50_us *= 1.0 + row.block as f64 / 14.0);
    };
    assert_eq!(code_of(&|_, _| ()), (0, vec![]));
    assert_eq!(code_of(&aa), (3, vec!["aa".to_owned()]));
    assert_eq!(code_of(&steal), (3, vec!["steal".to_owned()]));
    assert_eq!(code_of(&lag), (3, vec!["lag".to_owned()]));
    assert_eq!(code_of(&late), (3, vec!["send-rate".to_owned()]));
    assert_eq!(code_of(&drift), (3, vec!["drift".to_owned()]));
}

#[test]
fn a_split_that_chance_does_not_explain_is_a_wrong_decision() {
    let weighted = scenario("weighted-90-10");
    let split = |v2: u64| {
        let mut record = record(&weighted);
        let total = 100_000;
        record.served_by.insert(
            "kmesh".into(),
            [("web-1".to_owned(), total - v2), ("web-3".to_owned(), v2)].into(),
        );
        record
            .served_by
            .insert("direct".into(), [("web-3".to_owned(), total)].into());
        summary(&weighted, &record).verdict.exit_code
    };
    assert_eq!(split(10_000), 0);
    assert_eq!(split(10_300), 0, "3 sigma");
    assert_eq!(split(11_000), 2, "10 sigma");
}

#[test]
fn a_folder_holds_what_the_schema_says_and_can_be_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let schema = std::fs::read_to_string(workspace().join("results/schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    for name in ["http-lb-long60-max", "http-lb-long60", "tcp-echo"] {
        let scenario = scenario(name);
        let record = record(&scenario);
        let folder = write_scenario(
            dir.path(),
            &summary(&scenario, &record),
            &record,
            &[("artefacts/x/y.json".into(), b"{}".to_vec())],
        )
        .unwrap();
        let text = std::fs::read_to_string(folder.join("summary.json")).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&serde_json::from_str(&text).unwrap())
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
        let csv = std::fs::read_to_string(folder.join("raw.csv")).unwrap();
        assert_eq!(csv.lines().count(), record.rows.len() + 1);
        let mut files: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(
            files,
            ["artefacts", "histograms.hlog", "raw.csv", "summary.json"],
            "{name}: all whole, nothing half written"
        );
        assert!(folder.join("artefacts/x/y.json").is_file());
    }
    let back = read_summaries(dir.path()).unwrap();
    assert_eq!(back.len(), 3);
    assert_eq!(
        back[1],
        summary(
            &scenario("http-lb-long60-max"),
            &record(&scenario("http-lb-long60-max"))
        )
    );
    // Rows and histograms come back as they were.
    let stored = report::read_all(dir.path()).unwrap();
    let again = &stored[1].record;
    assert_eq!(
        again.merged["kmesh"].service,
        record(&scenario("http-lb-long60-max")).merged["kmesh"].service
    );
    assert_eq!(
        again.rows.len(),
        record(&scenario("http-lb-long60-max")).rows.len()
    );
    // A page from the folder alone.
    let reported = std::process::Command::new(env!("CARGO_BIN_EXE_kmesh-bench"))
        .arg("report")
        .arg(dir.path())
        .args(["--write"])
        .output()
        .unwrap();
    assert_eq!(reported.status.code(), Some(0));
    let table = String::from_utf8_lossy(&reported.stdout);
    assert!(
        table.contains("5x over Envoy") && table.contains("not measured here yet"),
        "{table}"
    );
    let page = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains("Where the mesh loses") && page.contains("http-lb-long60-max"));
    for outside in ["<script", "<link", "@import", "url(", " src="] {
        assert!(!page.contains(outside), "the page needs {outside}");
    }
    assert!(
        std::fs::read_to_string(dir.path().join("README.md"))
            .unwrap()
            .contains("| article's claim |")
    );
}

#[test]
fn a_breakdown_is_drawn_and_answers_its_claims() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = scenario("http-lb-long60-max");
    let record = record(&scenario);
    write_scenario(dir.path(), &summary(&scenario, &record), &record, &[]).unwrap();
    let arm = |name: &str, traversals, governance: f64| ArmBreakdown {
        name: name.into(),
        requests: 1_000,
        counts: Counts {
            traversals: Some(traversals),
            ..Counts::default()
        },
        parts: PARTS
            .iter()
            .map(|(part, _)| Part {
                name: (*part).into(),
                us: if *part == "governance" {
                    governance
                } else {
                    traversals
                },
            })
            .collect(),
        samples: 100,
        ..ArmBreakdown::default()
    };
    let breakdown = Breakdown {
        schema: "kmesh-breakdown/1".into(),
        scenario: scenario.name.clone(),
        reference: "direct".into(),
        arms: vec![arm("direct", 2.0, 0.0), arm("envoy-both", 6.02, 30.0)],
        missing: vec![Missing {
            figure: "copies".into(),
            reason: "refused by this kernel".into(),
        }],
        command: vec!["kmesh-bench".into()],
    };
    let file = report::write_breakdown(dir.path(), &breakdown).unwrap();
    let schema =
        std::fs::read_to_string(workspace().join("results/breakdown-schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let stored = std::fs::read_to_string(&file).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&serde_json::from_str(&stored).unwrap())
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let results = report::read_all(dir.path()).unwrap();
    let rows = report::claim_rows_of(&results);
    let of = |measured: &str| {
        rows.iter()
            .find(|row| row.measured.contains(measured))
            .unwrap()
    };
    assert_eq!(of("traversals").verdict, Verdict::Held);
    assert_eq!(
        of("proxies' own code").verdict,
        Verdict::NotHeld,
        "45 % of what was added"
    );
    let page = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains("Where the time goes") && page.contains("refused by this kernel"));
    assert!(file.with_file_name("waterfall.svg").is_file());
}

#[test]
fn the_schema_refuses_what_it_does_not_know() {
    let schema = std::fs::read_to_string(workspace().join("results/schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let scenario = scenario("http-lb-long60-max");
    let mut value = serde_json::to_value(summary(&scenario, &record(&scenario))).unwrap();
    assert!(validator.is_valid(&value));
    value["arms"][0]["speed"] = 1.into();
    assert!(!validator.is_valid(&value));
}

#[test]
fn the_claim_table_reads_the_data() {
    let summaries: Vec<Summary> = ["http-lb-long60-max", "http-lb-long60"]
        .map(|name| {
            let s = scenario(name);
            summary(&s, &record(&s))
        })
        .into();
    let rows = claim_rows(&summaries);
    let of = |measured: &str| {
        rows.iter()
            .find(|row| row.measured.contains(measured))
            .unwrap()
    };
    assert_eq!(of("requests/s, kmesh : envoy-both").verdict, Verdict::Held);
    assert_eq!(of("p50, kmesh-remote : direct").verdict, Verdict::NotHeld);
    assert_eq!(of("traversals").verdict, Verdict::NotTested);
    assert_eq!(of("TCP connections").verdict, Verdict::Held);
    let text = report::claim_table(&summaries, Format::Text);
    assert!(
        text.contains("not measured here yet") && text.contains("[20."),
        "{text}"
    );
    assert!(report::claim_table(&summaries, Format::Markdown).starts_with("| article's claim |"));
}

#[test]
fn foreign_folders_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    assert!(
        read_summaries(dir.path())
            .unwrap_err()
            .to_string()
            .contains("no */summary.json")
    );
    let file = dir.path().join("s/summary.json");
    std::fs::create_dir(dir.path().join("s")).unwrap();
    std::fs::write(&file, "{\"schema\": \"other/7\"}").unwrap();
    assert!(
        read_summaries(dir.path())
            .unwrap_err()
            .to_string()
            .contains("other/7")
    );
    std::fs::write(&file, "{").unwrap();
    assert!(
        read_summaries(dir.path())
            .unwrap_err()
            .to_string()
            .contains("not a summary")
    );
}

#[test]
fn two_results_are_compared_ratio_by_ratio() {
    let scenario = scenario("http-lb-long60-max");
    let before = summary(&scenario, &record(&scenario));
    let mut slower = record(&scenario);
    slower
        .rows
        .iter_mut()
        .filter(|row| row.arm == "kmesh")
        .for_each(|row| row.achieved_rps /= 2.0);
    let lines = report::compared(
        std::slice::from_ref(&before),
        &[summary(&scenario, &slower)],
    );
    let line = lines
        .iter()
        .find(|line| line.metric == "throughput" && line.num == "kmesh" && line.den == "direct")
        .unwrap();
    assert!(line.apart && (line.b.point / line.a.point - 0.5).abs() < 1e-9);
    assert!(!lines.iter().find(|line| line.num == "dnat").unwrap().apart);
}
