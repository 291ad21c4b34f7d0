//! However the bytes of a head arrive, the scanner finds the same, and it never reads past what it was given.

mod support;

use std::sync::LazyLock;

use kmesh_api::Image;
use kmesh_api::head::Head;
use kmesh_api::limits::HEAD_MAX;
use kmesh_orchestration::http1::{Outcome, begin_request, begin_response, scan};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

static IMAGE: LazyLock<Box<Image>> = LazyLock::new(support::image);

/// Pieces of heads, good and bad: strung together they reach every phase of the scanner.
const PIECES: [&[u8]; 34] = [
    b"GET ",
    b"POST ",
    b"OPTIONS ",
    b"TRACES ",
    b"/",
    b"/a?b",
    b" HTTP/1.1\r\n",
    b"HTTP/1.1 ",
    b"200",
    b" OK\r\n",
    b"host: svc\r\n",
    b"Host:",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b":",
    b" ",
    b"\t",
    b"end-user: jason\r\n",
    b"end-user:\r\n",
    b"user-agent: a\r\n",
    b"user-agent:  b \r\n",
    b"user-agent: ",
    b"content-length: 5\r\n",
    b"content-length:",
    b"18446744073709551615",
    b"transfer-encoding: chunked\r\n",
    b"connection: close\r\n",
    b"x: 0123456789abcdef0123456789\r\n",
    b"abcdefgh",
    b"\x00",
    b"\x7f",
    b"\xff",
];

/// A head that is sound so far, pieces behind it, and perhaps one byte overwritten.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let starts: [&[u8]; 4] = [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"GET / HTTP/1.1\r\nhost: svc\r\n",
    ];
    let pieces = vec(select(&PIECES[..]), 0..12);
    let change = proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (select(starts.to_vec()), pieces, change).prop_map(|(start, pieces, change)| {
        let mut bytes = start.to_vec();
        bytes.extend(pieces.concat());
        if let Some((at, byte)) = change
            && !bytes.is_empty()
        {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

/// Everything a scan leaves in the head but the bytes.
fn scanned(bytes: &[u8], first: usize, request: bool, behind: u8) -> (Outcome, Vec<u64>) {
    let mut head = Box::new(Head::<HEAD_MAX>::new());
    head.bytes.fill(behind);
    if request {
        begin_request(&mut *head);
    } else {
        begin_response(&mut *head);
    }
    let mut outcome = Outcome::Partial;
    for end in [first, bytes.len()] {
        head.bytes[..end].copy_from_slice(&bytes[..end]);
        head.length = end as u32;
        outcome = scan(&IMAGE, &mut *head);
        if outcome != Outcome::Partial {
            break;
        }
    }
    let mut state: Vec<u64> = [
        head.position,
        head.phase,
        head.fault,
        head.flags,
        head.end,
        head.target_at,
        head.path_end,
        head.host_at,
        head.host_end,
        head.lines,
        head.status,
        head.connection_at,
    ]
    .map(u64::from)
    .to_vec();
    state.push(head.content_length);
    for found in &head.found[..head.found_count as usize] {
        state.extend([found.name, found.value].map(u64::from));
    }
    (outcome, state)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_split_changes_nothing(bytes in bytes(), request in any::<bool>()) {
        let whole = scanned(&bytes, bytes.len(), request, 0);
        for split in 0..bytes.len() {
            prop_assert_eq!(scanned(&bytes, split, request, 0), whole.clone(), "split at {}", split);
        }
    }

    #[test]
    fn what_lies_behind_the_bytes_does_not_matter(bytes in bytes(), request in any::<bool>()) {
        let zero = scanned(&bytes, bytes.len(), request, 0);
        for behind in [b'\r', b'\n', b' ', b'a', 0xff] {
            prop_assert_eq!(scanned(&bytes, bytes.len(), request, behind), zero.clone());
        }
    }

    #[test]
    fn a_verdict_stands_whatever_follows(bytes in bytes(), more in bytes(), request in any::<bool>()) {
        let (outcome, state) = scanned(&bytes, bytes.len(), request, 0);
        if outcome != Outcome::Partial {
            let both = [bytes, more].concat();
            prop_assert_eq!(scanned(&both, both.len(), request, 0), (outcome, state));
        }
    }
}
