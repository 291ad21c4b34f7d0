//! What listeners ask for before their routes are looked at, against the plainest definition of it.

mod support;

use std::sync::LazyLock;

use kmesh_api::Image;
use kmesh_api::head::Head;
use kmesh_api::limits::HEAD_MAX;
use kmesh_api::route::{RouteConfig, option};
use kmesh_orchestration::http1::{Outcome, begin_request, scan};
use kmesh_orchestration::{host, path};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// The hosts that the image knows; an id is a place plus one.
const HOSTS: [&str; 8] = [
    "svc",
    "svc:80",
    "[::1]",
    "[::1]:80",
    "reviews.default.svc.cluster.local",
    "reviews.default.svc.cluster.local:9080",
    ":",
    "a:b",
];

static IMAGE: LazyLock<(Box<Image>, u32)> = LazyLock::new(|| {
    let mut image = support::image();
    let taken = image.nodes.iter().skip(1).take_while(|node| node.base != 0);
    let mut next = taken.count() as u32 + 1;
    let ids = HOSTS.iter().zip(1..);
    let texts: Vec<_> = ids.map(|(text, id)| (text.as_bytes(), id)).collect();
    let root = support::automaton(&mut image, &mut next, &texts);
    (image, root)
});

fn scanned(target: &str, authority: &str) -> Box<Head<HEAD_MAX>> {
    let text = format!("GET {target} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    let mut head = Box::new(Head::<HEAD_MAX>::new());
    begin_request(&mut *head);
    head.bytes[..text.len()].copy_from_slice(text.as_bytes());
    head.length = text.len() as u32;
    assert_eq!(scan(&IMAGE.0, &mut *head), Outcome::Complete, "{text}");
    head
}

/// The host's id.
fn find(authority: &str, options: u32) -> Option<u32> {
    let config = RouteConfig {
        hosts: IMAGE.1,
        options,
        ..RouteConfig::default()
    };
    host::find(&IMAGE.0, &config, &mut scanned("/", authority))
}

fn without_port(authority: &str) -> &str {
    match authority.rfind([':', ']']) {
        Some(at) if authority.as_bytes()[at] == b':' => &authority[..at],
        _ => authority,
    }
}

fn is_odd(path: &str, options: u32) -> bool {
    let config = RouteConfig {
        options,
        ..RouteConfig::default()
    };
    path::is_odd(&config, &mut scanned(&format!("{path}?//.."), "svc"))
}

/// What may become another path by one of the options.
fn may_change(path: &str, options: u32) -> bool {
    let normal = |byte: u8| byte.is_ascii_alphanumeric() || b"/._~!$&'()*+,-:;=@".contains(&byte);
    options & option::PATHS != 0 && path.contains('%')
        || options & option::SINGLE_SLASHES != 0 && path.contains("//")
        || options & option::NORMAL_PATH != 0 && (path.contains("/.") || !path.bytes().all(normal))
}

fn texts(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    vec(select(pieces), 0..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn known_hosts_are_found_with_and_without_their_ports() {
    for (place, host) in HOSTS.iter().enumerate() {
        assert_eq!(find(host, 0), Some(place as u32), "{host}");
    }
    let ignoring = |host| find(host, option::IGNORE_PORT);
    assert_eq!(ignoring("svc:8080"), Some(0));
    assert_eq!(ignoring("SVC:x"), Some(0), "whatever follows the colon");
    assert_eq!(ignoring("[::1]:9"), Some(2));
    assert_eq!(ignoring("[::1]"), Some(2), "the colons are inside");
    assert_eq!(ignoring(HOSTS[5]), Some(4));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn a_host_without_its_port_is_found_as_if_it_had_been_sent_so(
        authority in texts(&["svc", ":", "80", "[", "]", "[::1]", "reviews.default.svc.cluster.local", "a", "b", "-"])
            .prop_filter("a host is not empty", |text| !without_port(text).is_empty())
    ) {
        let found = find(&authority, option::IGNORE_PORT);
        prop_assert_eq!(found, find(without_port(&authority), 0), "{}", authority);
    }

    #[test]
    fn a_path_is_odd_if_it_may_change(
        path in texts(&["/", ".", "a", "b1", "%2f", "reviews", "..", "~", "*", "[", "|", "0123456789abcdef"]),
        options in 0..16_u32,
    ) {
        let path = format!("/{path}");
        prop_assert_eq!(is_odd(&path, options), may_change(&path, options), "{} {:#b}", path, options);
    }
}
