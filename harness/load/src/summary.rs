//! A result in words, for people.

use std::fmt::Write as _;

use crate::distribution::Distribution;
use crate::engine::Snapshot;
use crate::result::BlockResult;

/// The text that `kmesh-load run` prints.
pub fn text(result: &BlockResult) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_summary(&mut out, result);
    out
}

fn write_summary(out: &mut String, result: &BlockResult) -> std::fmt::Result {
    write!(
        out,
        "{} requests in {:.3} s, {:.1} answers/s",
        result.sent, result.duration_s, result.achieved_rps
    )?;
    match result.offered_rps {
        Some(rate) => writeln!(
            out,
            " of {rate:.1} offered (open loop), {} dropped",
            result.dropped
        )?,
        None => writeln!(out, " (closed loop)")?,
    }
    writeln!(
        out,
        "ok {}  wrong {}  errors {}",
        result.ok,
        result.wrong(),
        result.errors()
    )?;
    for (what, count) in [
        ("wrong decision", result.wrong_decisions),
        ("wrong sequence", result.wrong_seq),
        ("wrong status", result.wrong_status),
        ("wrong body", result.wrong_body),
        ("stray bytes", result.stray_bytes),
    ] {
        if count > 0 {
            writeln!(out, "  {what}: {count}")?;
        }
    }
    for (kind, count) in &result.errors {
        writeln!(out, "  {}: {count}", kind.name())?;
    }
    for example in &result.examples {
        writeln!(out, "  e.g. {example}")?;
    }
    writeln!(
        out,
        "\nlatency (us)      p50        p90        p99      p99.9        max       mean      count"
    )?;
    let latency = &result.latency;
    for (name, distribution) in [
        ("service", &latency.service),
        ("intended", &latency.intended),
        ("connect", &latency.connect),
        ("first byte", &latency.first_byte),
        ("own lag", &latency.lag),
    ] {
        if distribution.count > 0 {
            write_row(out, name, distribution)?;
        }
    }
    if result.offered_rps.is_some() {
        writeln!(
            out,
            "service counts from the actual start, intended from the due time (no coordinated omission)"
        )?;
    }
    writeln!(out)?;
    for (status, count) in &result.statuses {
        writeln!(out, "status {status}: {count}")?;
    }
    for (class, servers) in &result.served_by {
        for (server, count) in servers {
            let server = if server.is_empty() {
                "(not said)"
            } else {
                server
            };
            writeln!(out, "{class} served by {server}: {count}")?;
        }
    }
    writeln!(
        out,
        "{} connects, {} bytes out, {} bytes in",
        result.connects, result.bytes_out, result.bytes_in
    )
}

fn write_row(out: &mut String, name: &str, d: &Distribution) -> std::fmt::Result {
    let figures = [d.p50_us, d.p90_us, d.p99_us, d.p999_us, d.max_us, d.mean_us];
    write!(out, "{name:<10}")?;
    for figure in figures {
        write!(out, " {figure:>10.1}")?;
    }
    writeln!(out, " {:>10}", d.count)
}

/// One line of live progress.
pub fn progress(snapshot: &Snapshot, before: &Snapshot) -> String {
    let seconds = snapshot
        .elapsed
        .saturating_sub(before.elapsed)
        .as_secs_f64();
    let rate = if seconds > 0.0 {
        (snapshot.sent - before.sent) as f64 / seconds
    } else {
        0.0
    };
    format!(
        "{:>4} s  {rate:>9.0} requests/s  p50 {:.0} us  p99 {:.0} us  wrong {}  errors {}",
        snapshot.elapsed.as_secs(),
        snapshot.p50_us,
        snapshot.p99_us,
        snapshot.wrong,
        snapshot.errors
    )
}
