//! The harness: scenarios, runs, verdicts, reports.
//!
//! The way of a run: [`scenario`] files say what to build and send; [`run`] brings all arms up at once
//! and measures them in balanced blocks into [`record`]s; [`evaluate`] turns rows into figures and
//! [`judge`] into a verdict; [`summary`] is the published form, [`report`] what people read.
//! Everything after `run` is pure, so that a report can be made again from what is stored.
#![forbid(unsafe_code)]

pub mod arms;
pub mod binaries;
pub mod bpf;
pub mod breakdown;
pub mod cli;
pub mod commands;
pub mod doctor;
pub mod evaluate;
pub mod exit;
pub mod explain;
pub mod gate;
pub mod judge;
pub mod machine;
pub mod record;
pub mod report;
pub mod run;
pub mod scenario;
pub mod summarise;
pub mod summary;
pub mod up;
pub mod verify;
