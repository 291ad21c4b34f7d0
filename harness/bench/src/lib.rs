//! The harness: scenarios, runs, reports, gate.
