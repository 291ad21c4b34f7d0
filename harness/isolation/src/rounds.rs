//! The rounds: a quiet one, then one for each attack, against a victim that works.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use kmesh_probe::status::Share;
use serde::Serialize;

use crate::attack::Deeds;
use crate::error::IsolationError;
use crate::node::{
    AFTER, ATTACKER, BEFORE, Node, OTHER, OWN, PORTS, Programs, SECOND, SERVICE, VICTIM,
};
use crate::plan::{Attack, Meanwhile, Places, attacks, shuffle};
use crate::process::Running;
use crate::victim::Seen;

/// An attack and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// The attack.
    pub attack: &'static str,
    /// The attacker's side; nothing in the quiet round.
    pub deeds: Deeds,
    /// The victim's.
    pub seen: Seen,
    /// The victim's p99 as a multiple of the quiet round's.
    pub p99_ratio: f64,
    /// What the daemon's checker found wrong by the end of the round.
    pub violations: Vec<String>,
}

impl Round {
    /// Answers and requests that reached another pod than the one meant.
    pub fn stolen(&self) -> u64 {
        self.seen.stolen + self.deeds.taken + self.deeds.foreign
    }
}

/// What came of all of them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// The victim's requests.
    pub compared: u64,
    /// Answers or requests that reached another pod than the one meant.
    pub stolen: u64,
    /// The victim's requests without a good answer.
    pub failed: u64,
    /// Slots that the daemon's checker found wrong.
    pub violations: u64,
    /// The greatest ratio of the victim's p99 to that of the quiet round.
    pub worst_p99_ratio: f64,
    /// What the pods had of what all share in the end, and were refused.
    pub shares: Vec<Share>,
    /// The quiet round, then the attacks.
    pub rounds: Vec<Round>,
}

/// Brings a node up, runs the attacks in the order that follows from `seed`, and says what came of it. The rounds take `length` together.
///
/// # Errors
/// [`IsolationError`] if there is nothing to judge.
pub fn run(programs: &Programs, seed: u64, length: Duration) -> Result<Outcome, IsolationError> {
    let mut node = Node::up(programs)?;
    let places = places(&node)?;
    let count = attacks(&places, seed, 0.0).len() + 1;
    let each = length / count as u32;
    let mut all = attacks(&places, seed, each.as_secs_f64());
    shuffle(&mut all, seed);
    let quiet = Attack {
        name: "quiet",
        words: Vec::new(),
        meanwhile: Meanwhile::Nothing,
    };
    let mut outcome = Outcome::default();
    for attack in std::iter::once(quiet).chain(all) {
        let mut round = round(&mut node, &attack, each)?;
        let first = outcome.rounds.first();
        let quiet = first.map_or(round.seen.p99_us, |first| first.seen.p99_us);
        round.p99_ratio = round.seen.p99_us as f64 / quiet.max(1) as f64;
        outcome.add(round);
    }
    let status = node.status()?;
    outcome.violations += status.leases.wrong;
    outcome.shares = status.shares;
    Ok(outcome)
}

impl Outcome {
    fn add(&mut self, round: Round) {
        eprintln!(
            "{}: {} answered, {} failed, {} went wrong; p99 {} us, {:.2} of the quiet round's",
            round.attack,
            round.seen.answered,
            round.seen.failed,
            round.stolen(),
            round.seen.p99_us,
            round.p99_ratio
        );
        for example in round.seen.examples.iter().chain(&round.violations) {
            eprintln!("  {example}");
        }
        let seen = &round.seen;
        self.compared += seen.answered + seen.failed + seen.stolen;
        self.stolen += round.stolen();
        self.failed += seen.failed;
        self.violations += round.violations.len() as u64;
        self.worst_p99_ratio = self.worst_p99_ratio.max(round.p99_ratio);
        self.rounds.push(round);
    }
}

fn places(node: &Node<'_>) -> Result<Places, IsolationError> {
    Ok(Places {
        service: [SERVICE, SECOND].map(|port| node.service(ATTACKER, port)),
        victim: node.lab.pod(VICTIM)?.ipv4().to_string(),
        attacker: node.lab.pod(ATTACKER)?.ipv4().to_string(),
        server: node.endpoint(OWN)?.to_string(),
        other: OTHER,
        ports: PORTS,
    })
}

fn victim(
    node: &Node<'_>,
    port: u16,
    servers: &str,
    length: Duration,
) -> Result<Running, IsolationError> {
    let target = node.service(VICTIM, port).to_string();
    let length = length.as_secs_f64().to_string();
    let words = ["nobody", "victim", &target, servers, &length];
    node.start(VICTIM, &words.map(str::to_owned))
}

fn round(node: &mut Node<'_>, attack: &Attack, length: Duration) -> Result<Round, IsolationError> {
    let end = Instant::now() + length;
    let attackers = attack.words.iter().map(|words| node.start(ATTACKER, words));
    let attackers: Vec<Running> = attackers.collect::<Result<_, _>>()?;
    let seen = victim(node, SERVICE, OWN, length)?;
    let moved = match attack.meanwhile {
        Meanwhile::Nothing => None,
        Meanwhile::Replaced => {
            node.daemon(&["--replace"])?;
            None
        }
        Meanwhile::Churned => {
            churn(node, end)?;
            None
        }
        Meanwhile::Moved => Some(address_moves(node, length)?),
    };
    let mut seen: Seen = seen.outcome()?;
    if let Some(moved) = moved {
        seen.add(moved.outcome()?);
    }
    let mut deeds = Deeds::default();
    for attacker in attackers {
        deeds.add(&attacker.outcome()?);
    }
    Ok(Round {
        attack: attack.name,
        deeds,
        seen,
        p99_ratio: 1.0,
        violations: node.status()?.leases.violations,
    })
}

/// Releases and enrols the attacker's pod until `end`, and leaves it enrolled.
fn churn(node: &Node<'_>, end: Instant) -> Result<(), IsolationError> {
    let without = Node::pods_but(ATTACKER);
    let has = |status: &kmesh_probe::Status| status.pods.iter().any(|pod| pod == ATTACKER);
    loop {
        node.enrol(&without)?;
        node.followed("release a pod", |status| !has(status))?;
        node.enrol(&Node::pods_but(""))?;
        node.followed("enrol a pod again", has)?;
        if Instant::now() > end {
            return Ok(());
        }
    }
}

/// Takes a server out of the configuration and gives its address to another pod, while a victim of its own works; and all back again.
fn address_moves(node: &Node<'_>, length: Duration) -> Result<Running, IsolationError> {
    let servers = format!("{BEFORE},{OWN}");
    let victim = victim(node, SECOND, &servers, length)?;
    let generation = |node: &Node<'_>| Ok::<u64, IsolationError>(node.status()?.generation);
    let now = generation(node)?;
    node.configure(OWN)?;
    node.followed("leave an endpoint out", |status| status.generation > now)?;
    let old = node.lab.pod(BEFORE)?.ipv4();
    let own = node.lab.pod(AFTER)?.ipv4();
    hand_over(node, [BEFORE, AFTER], old.into(), own.into())?;
    Ok(victim)
}

/// Gives the address of the first pod to the second, which loses its own, while neither is enrolled.
fn hand_over(
    node: &Node<'_>,
    [from, to]: [&'static str; 2],
    address: IpAddr,
    own: IpAddr,
) -> Result<(), IsolationError> {
    let left: Vec<&str> = Node::pods_but(from)
        .into_iter()
        .filter(|pod| *pod != to)
        .collect();
    node.enrol(&left)?;
    node.followed("release two pods", |status| {
        !status.pods.iter().any(|pod| pod == from || pod == to)
    })?;
    let prefix = |address: IpAddr| format!("{address}/16");
    node.ip(from, &["addr", "flush", "dev", "eth0"])?;
    node.ip(to, &["addr", "flush", "dev", "eth0"])?;
    node.ip(to, &["addr", "add", &prefix(address), "dev", "eth0"])?;
    node.ip(from, &["addr", "add", &prefix(own), "dev", "eth0"])?;
    node.enrol(&Node::pods_but(""))?;
    node.followed("enrol two pods again", |status| {
        [from, to]
            .iter()
            .all(|pod| status.pods.iter().any(|have| have == pod))
    })
}
