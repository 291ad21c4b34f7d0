//! Runs inside a pod, as attacker or as victim, and prints one line of JSON: what it did, or what it saw.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::ExitCode;
use std::time::Duration;

use kmesh_isolation::attack::{self, Leave};
use kmesh_isolation::victim;

const USAGE: &str = "kmesh-attacker victim TARGET SERVER SECONDS | thief CLIENT-IP SERVER-IP:PORT SECONDS | \
                     reset TARGET SECONDS | unspec TARGET SECONDS | again TARGET OTHER SECONDS | hold TARGET COUNT SECONDS";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some(done) = run(&words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(4);
    };
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

/// Does what the words say; `None` if they say nothing.
fn run(words: &[&str]) -> Option<std::io::Result<String>> {
    let target = |text: &str| text.parse::<SocketAddr>().ok();
    let length = |text: &str| Duration::try_from_secs_f64(text.parse().ok()?).ok();
    let json = |deeds: attack::Deeds| Ok(serde_json::to_string(&deeds)?);
    Some(match *words {
        ["victim", at, server, seconds] => {
            let seen = victim::run(target(at)?, server, length(seconds)?);
            serde_json::to_string(&seen).map_err(Into::into)
        }
        ["thief", client, server, seconds] => {
            let client: Ipv4Addr = client.parse().ok()?;
            let server: SocketAddrV4 = server.parse().ok()?;
            attack::thief(client, server, 10_000..=u16::MAX, length(seconds)?).and_then(json)
        }
        ["reset", at, seconds] => json(attack::leave(target(at)?, Leave::Reset, length(seconds)?)),
        ["unspec", at, seconds] => json(attack::leave(
            target(at)?,
            Leave::Unspecified,
            length(seconds)?,
        )),
        ["again", at, other, seconds] => json(attack::leave(
            target(at)?,
            Leave::Again(target(other)?),
            length(seconds)?,
        )),
        ["hold", at, count, seconds] => json(attack::hold(
            target(at)?,
            count.parse().ok()?,
            length(seconds)?,
        )),
        _ => return None,
    })
}
