//! Servers that call servers: what a chain's answers are signed with.
//!
//! Each server in the middle puts its name before the signature of the answer it got (`a/b-2/c-1`), so one answer tells
//! every hop's decision, and an expectation in full judges them all.

use super::Server;
use serde::Deserialize;
use std::net::SocketAddr;

/// Longest chain.
pub(super) const LONGEST: usize = 8;

/// The service that a server asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// Its address.
    pub vip: SocketAddr,
    /// `Host` of the requests to it.
    pub host: String,
    /// Pods or groups that may answer.
    pub servers: Vec<String>,
}

impl Next {
    fn may_be(&self, server: &Server) -> bool {
        self.servers.contains(&server.pod) || self.servers.contains(&server.group)
    }
}

/// Servers that no other server calls: the load's first hop.
pub(super) fn entries(servers: &[Server]) -> impl Iterator<Item = &Server> {
    let called = |server: &Server| {
        let mut nexts = servers.iter().filter_map(|other| other.next.as_ref());
        nexts.any(|next| next.may_be(server))
    };
    servers.iter().filter(move |server| !called(server))
}

/// Everything that an answer of `first` can be signed with.
pub(super) fn signatures(servers: &[Server], first: &Server) -> Vec<String> {
    walk(servers, first, LONGEST)
}

/// Whether every chain from `first` ends.
pub(super) fn ends(servers: &[Server], first: &Server) -> bool {
    fn within(servers: &[Server], server: &Server, left: usize) -> bool {
        let Some(next) = &server.next else {
            return true;
        };
        let mut following = servers.iter().filter(|other| next.may_be(other));
        left > 1 && following.all(|other| within(servers, other, left - 1))
    }
    within(servers, first, LONGEST)
}

fn walk(servers: &[Server], server: &Server, left: usize) -> Vec<String> {
    let Some(next) = &server.next else {
        return vec![server.pod.clone()];
    };
    if left <= 1 {
        return Vec::new();
    }
    servers
        .iter()
        .filter(|other| next.may_be(other))
        .flat_map(|other| walk(servers, other, left - 1))
        .map(|rest| format!("{}/{rest}", server.pod))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(pod: &str, group: &str, next: &[&str]) -> Server {
        Server {
            pod: pod.to_owned(),
            group: group.to_owned(),
            next: (!next.is_empty()).then(|| Next {
                vip: SocketAddr::from(([10, 96, 0, 1], 80)),
                host: "next.test".to_owned(),
                servers: next.iter().map(|&name| name.to_owned()).collect(),
            }),
            ..Server::default()
        }
    }

    #[test]
    fn every_way_through_has_a_signature() {
        let servers = [
            server("a", "", &["b"]),
            server("b-1", "b", &["c"]),
            server("b-2", "b", &["c"]),
            server("c", "", &[]),
        ];
        let first: Vec<&Server> = entries(&servers).collect();
        assert_eq!(first, [&servers[0]]);
        assert_eq!(signatures(&servers, first[0]), ["a/b-1/c", "a/b-2/c"]);
        assert!(ends(&servers, first[0]));
    }

    #[test]
    fn a_circle_never_ends() {
        let servers = [server("a", "", &["b"]), server("b", "", &["b"])];
        assert!(!ends(&servers, &servers[0]));
        assert!(signatures(&servers, &servers[0]).is_empty());
    }
}
