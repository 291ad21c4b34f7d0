//! Runs inside a pod, as attacker or as victim: says `ready` when it has begun, and prints one line of JSON when it ends, what it did or what
//! it saw.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::ExitCode;
use std::time::Duration;

use kmesh_isolation::attack::{self, Deeds, Ends, Flood, Leave};
use kmesh_isolation::{rights, victim};

const USAGE: &str = "kmesh-attacker WHO WHAT..., where WHO is container, userns or nobody, and WHAT\n  \
                     victim TARGET SERVER SECONDS\n  \
                     thief|repair CLIENT-IP SERVER-IP:PORT FIRST LAST SECONDS\n  \
                     reset|unspec TARGET SEED SECONDS | again TARGET OTHER SEED SECONDS\n  \
                     idle|head|unread|pipelined|open TARGET COUNT SECONDS\n  \
                     mptcp|reuse TARGET SERVER SECONDS | selves OWN-IP SECONDS\n  \
                     forge VICTIM-IP SERVER-IP:PORT FIRST LAST SEED SECONDS";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some(work) = words
        .split_first()
        .and_then(|(who, what)| Some((rights::Who::named(who)?, parse(what)?)))
    else {
        eprintln!("{USAGE}");
        return ExitCode::from(4);
    };
    let (who, work) = work;
    let done = rights::become_who(who).and_then(|()| work());
    match done {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kmesh-attacker {}: {error}", words.join(" "));
            ExitCode::from(3)
        }
    }
}

fn ready() {
    println!("ready");
    // Whoever waits for it is gone if it cannot be said.
    let _ = io::stdout().flush();
}

type Work = Box<dyn FnOnce() -> io::Result<String>>;

fn deeds(attack: impl FnOnce() -> io::Result<Deeds> + 'static) -> Work {
    Box::new(move || Ok(serde_json::to_string(&attack()?)?))
}

/// What the words say; `None` if they say nothing.
fn parse(words: &[&str]) -> Option<Work> {
    let target = |text: &str| text.parse::<SocketAddr>().ok();
    let ip = |text: &str| text.parse::<Ipv4Addr>().ok();
    let server = |text: &str| text.parse::<SocketAddrV4>().ok();
    let length = |text: &str| Duration::try_from_secs_f64(text.parse().ok()?).ok();
    Some(match *words {
        ["victim", at, name, seconds] => {
            let (at, name, length) = (target(at)?, name.to_owned(), length(seconds)?);
            Box::new(move || {
                Ok(serde_json::to_string(&victim::run(
                    at, &name, length, ready,
                ))?)
            })
        }
        [
            kind @ ("thief" | "repair"),
            client,
            at,
            first,
            last,
            seconds,
        ] => {
            let (client, at, length) = (ip(client)?, server(at)?, length(seconds)?);
            let ports = first.parse().ok()?..=last.parse().ok()?;
            let ends = match kind {
                "thief" => Ends::Shaken,
                _ => Ends::Decreed,
            };
            deeds(move || attack::thief(client, at, ports, ends, length, ready))
        }
        [kind @ ("reset" | "unspec"), at, seed, seconds] => {
            let how = match kind {
                "reset" => Leave::Reset,
                _ => Leave::Unspecified,
            };
            leave(target(at)?, how, seed.parse().ok()?, length(seconds)?)
        }
        ["again", at, other, seed, seconds] => {
            let how = Leave::Again(target(other)?);
            leave(target(at)?, how, seed.parse().ok()?, length(seconds)?)
        }
        [kind, at, count, seconds] if flood(kind).is_some() => {
            let (flood, at, most) = (flood(kind)?, target(at)?, count.parse().ok()?);
            let length = length(seconds)?;
            deeds(move || {
                ready();
                Ok(attack::flood(at, flood, most, length))
            })
        }
        [kind @ ("mptcp" | "reuse"), at, name, seconds] => {
            let (at, name, length) = (target(at)?, name.to_owned(), length(seconds)?);
            let attack = match kind {
                "mptcp" => attack::mptcp,
                _ => attack::reuse,
            };
            deeds(move || {
                ready();
                attack(at, &name, length)
            })
        }
        ["selves", own, seconds] => {
            let (own, length) = (ip(own)?, length(seconds)?);
            deeds(move || {
                ready();
                attack::selves(own, length)
            })
        }
        ["forge", victim, at, first, last, seed, seconds] => {
            let (victim, at, length) = (ip(victim)?, server(at)?, length(seconds)?);
            let ports = first.parse().ok()?..=last.parse().ok()?;
            let seed = seed.parse().ok()?;
            deeds(move || {
                ready();
                attack::forge(victim, ports, at, seed, length)
            })
        }
        _ => return None,
    })
}

fn flood(kind: &str) -> Option<Flood> {
    Some(match kind {
        "idle" => Flood::Idle,
        "head" => Flood::Head,
        "unread" => Flood::Unread,
        "pipelined" => Flood::Pipelined,
        "open" => Flood::Open,
        _ => return None,
    })
}

fn leave(target: SocketAddr, how: Leave, seed: u64, length: Duration) -> Work {
    deeds(move || {
        ready();
        Ok(attack::leave(target, how, seed, length))
    })
}
