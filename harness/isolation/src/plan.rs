//! The attacks, as command lines of `kmesh-attacker`.

use std::net::SocketAddr;

/// What happens to the node during an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meanwhile {
    /// Nothing.
    Nothing,
    /// Another daemon takes over.
    Replaced,
    /// The attacker's pod is released and enrolled again, over and over.
    Churned,
    /// The address of a server becomes another pod's.
    Moved,
}

/// An attack on the victim.
#[derive(Clone, Debug)]
pub(crate) struct Attack {
    /// Its name in reports.
    pub(crate) name: &'static str,
    /// The command lines, each a process; none in a quiet round.
    pub(crate) words: Vec<Vec<String>>,
    pub(crate) meanwhile: Meanwhile,
}

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The attacker's service, and its second listener.
    pub(crate) service: [SocketAddr; 2],
    /// Addresses of the pods.
    pub(crate) victim: String,
    pub(crate) attacker: String,
    /// The server of the victim, with its port.
    pub(crate) server: String,
    /// Name of the attacker's server.
    pub(crate) other: &'static str,
    /// First and last port of the victim.
    pub(crate) ports: [u16; 2],
}

/// Connections that a flood wants: more than one pod gets of any table.
const MANY: &str = "70000";

/// Every attack there is, for that long each. What they draw follows from `seed`.
pub(crate) fn attacks(places: &Places, seed: u64, seconds: f64) -> Vec<Attack> {
    let own = places.service[0].to_string();
    let second = places.service[1].to_string();
    let [first, last] = places.ports.map(|port| port.to_string());
    let (seed, length) = (seed.to_string(), seconds.to_string());
    let (own, second, length, seed) = (
        own.as_str(),
        second.as_str(),
        length.as_str(),
        seed.as_str(),
    );
    let (victim, server) = (places.victim.as_str(), places.server.as_str());
    let attack = |name, lines: &[&[&str]], meanwhile| Attack {
        name,
        words: lines
            .iter()
            .map(|words| words.iter().map(|word| (*word).to_owned()).collect())
            .collect(),
        meanwhile,
    };
    let plain = |name, words: &[&str]| attack(name, &[words], Meanwhile::Nothing);
    let flood = |name, who, kind| plain(name, &[who, kind, own, MANY, length]);
    let leaving: &[&[&str]] = &[
        &["nobody", "unspec", own, seed, length],
        &["userns", "reset", own, seed, length],
    ];
    vec![
        plain(
            "nobody rebuilds the victim's connections",
            &["nobody", "thief", victim, server, &first, &last, length],
        ),
        plain(
            "root of a user namespace rebuilds them",
            &["userns", "thief", victim, server, &first, &last, length],
        ),
        plain(
            "connections by TCP_REPAIR",
            &["userns", "repair", victim, server, &first, &last, length],
        ),
        plain(
            "forged segments by raw sockets",
            &[
                "container",
                "forge",
                victim,
                server,
                &first,
                &last,
                seed,
                length,
            ],
        ),
        plain("MPTCP", &["nobody", "mptcp", own, places.other, length]),
        plain(
            "a port used again at once",
            &["nobody", "reuse", own, places.other, length],
        ),
        plain(
            "sockets connected to themselves",
            &["nobody", "selves", &places.attacker, length],
        ),
        plain(
            "resets at every moment",
            &["nobody", "reset", own, seed, length],
        ),
        plain(
            "AF_UNSPEC at every moment",
            &["userns", "unspec", own, seed, length],
        ),
        plain(
            "sockets used again for another service",
            &["nobody", "again", own, second, seed, length],
        ),
        flood("connections without a word", "nobody", "idle"),
        flood("heads without an end", "userns", "head"),
        flood("answers that nobody reads", "nobody", "unread"),
        flood("pipelines that nobody reads", "nobody", "pipelined"),
        flood("exchanges without an end", "nobody", "open"),
        attack(
            "the daemon is replaced meanwhile",
            leaving,
            Meanwhile::Replaced,
        ),
        attack(
            "the attacker's pod comes and goes",
            leaving,
            Meanwhile::Churned,
        ),
        attack(
            "a server's address becomes another pod's",
            leaving,
            Meanwhile::Moved,
        ),
    ]
}

/// Puts them into an order that follows from `seed`.
pub(crate) fn shuffle(attacks: &mut [Attack], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for at in (1..attacks.len()).rev() {
        // xorshift64 (Marsaglia 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        attacks.swap(at, (state % (at as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(seed: u64) -> Vec<&'static str> {
        let at = SocketAddr::from(([10, 0, 0, 1], 80));
        let places = Places {
            service: [at, at],
            victim: "10.0.0.2".to_owned(),
            attacker: "10.0.0.3".to_owned(),
            server: "10.0.0.4:8080".to_owned(),
            other: "s2",
            ports: [1, 2],
        };
        let mut attacks = attacks(&places, seed, 1.0);
        shuffle(&mut attacks, seed);
        attacks.iter().map(|attack| attack.name).collect()
    }

    #[test]
    fn a_seed_gives_one_order_of_all_attacks() {
        assert_eq!(names(7), names(7));
        assert_ne!(names(7), names(8));
        let (mut one, mut other) = (names(7), names(8));
        one.sort_unstable();
        other.sort_unstable();
        assert_eq!(one, other);
        one.dedup();
        assert_eq!(one.len(), other.len(), "each has a name of its own");
    }
}
