//! `up`: one arm of a scenario, for any client of the user's.

use crate::binaries::Programs;
use crate::run::RunError;
use crate::scenario::{Protocol, Scenario};
use anyhow::Context as _;
use std::os::unix::process::ExitStatusExt as _;

/// What the shell answers for a command ended by signal `n` is 128 + n.
const SIGNALLED: i32 = 128;

/// Brings `arm` up, runs `command` (a shell if empty) in the client pod, takes everything down, and
/// returns the command's exit code.
///
/// The command finds `KMESH_URL` (what to call), `KMESH_HOST` (the host name that the routes know),
/// `KMESH_TARGETS` (all addresses, space-separated), `KMESH_ARM` and `KMESH_SCENARIO`.
///
/// # Errors
/// The arm does not come up, or the command cannot be started.
pub fn up(
    scenario: &Scenario,
    arm: &str,
    command: &[String],
    programs: &Programs,
) -> anyhow::Result<u8> {
    let kind = crate::arms::find(arm)?;
    let plan = crate::run::arm_plan(scenario, programs);
    let running = kind.up(&plan).map_err(|source| RunError::Arm {
        arm: arm.to_owned(),
        source,
    })?;
    let vip = scenario.vip.context("the scenario has no vip")?;
    let targets = running.targets(vip);
    let target = targets.first().context("the arm has no address to call")?;
    let scheme = match scenario.load.protocol {
        Protocol::Http => "http",
        Protocol::TcpEcho => "tcp",
    };
    let url = match target.port() {
        80 => format!("{scheme}://{}/", bracketed(target)),
        port => format!("{scheme}://{}:{port}/", bracketed(target)),
    };
    let (program, arguments) = split(command);
    eprintln!("{arm} is up: KMESH_URL={url}; everything goes when {program} ends");
    let all: Vec<String> = targets.iter().map(ToString::to_string).collect();
    let status = running
        .client()
        .command(&program)
        .args(arguments)
        .env("KMESH_URL", &url)
        .env("KMESH_TARGETS", all.join(" "))
        .env(
            "KMESH_HOST",
            scenario
                .traffic
                .first()
                .map_or("", |traffic| traffic.host.as_str()),
        )
        .env("KMESH_ARM", arm)
        .env("KMESH_SCENARIO", &scenario.name)
        .status()
        .with_context(|| format!("{program} cannot be started in the client pod"))?;
    drop(running);
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn bracketed(address: &std::net::SocketAddr) -> String {
    match address.ip() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn split(command: &[String]) -> (String, &[String]) {
    match command.split_first() {
        Some((program, arguments)) => (program.clone(), arguments),
        None => (
            std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned()),
            &[],
        ),
    }
}
