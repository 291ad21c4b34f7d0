//! However a chunked body is cut, its end is found at the same byte, and nothing but a chunked body has one.

use kmesh_api::exchange::{Chunks, chunk};
use kmesh_orchestration::http1::chunked::{Followed, begin, follow};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Follows `body` in the pieces that `cuts` make; the end's offset in all of it.
fn end(body: &[u8], cuts: &[usize]) -> Option<(usize, bool)> {
    let mut chunks = Chunks::default();
    begin(&mut chunks);
    let mut at = 0;
    let ends = cuts.iter().copied().chain([body.len()]);
    for to in ends {
        let to = to.clamp(at, body.len());
        let mut piece = &body[at..to];
        let length = piece.len() as u32;
        match follow(&mut chunks, &mut piece, 0, length) {
            Followed::End(offset) => {
                return Some((at + offset as usize, chunks.trailers != 0));
            }
            Followed::More => at = to,
            Followed::Fault => return None,
        }
    }
    None
}

#[test]
fn a_body_ends_after_its_last_line() {
    let cases: [(&str, bool); 9] = [
        ("0\r\n\r\n", false),
        ("000\r\n\r\n", false),
        ("5\r\nhello\r\n0\r\n\r\n", false),
        ("A\r\n0123456789\r\n0\r\n\r\n", false),
        ("a;name=value\r\n0123456789\r\n0;last\r\n\r\n", false),
        ("2\r\n\r\n\r\n0\r\n\r\n", false),
        ("3\r\n0\r\n\r\n0\r\n\r\n", false),
        ("0\r\nexpires: never\r\n\r\n", true),
        ("1\r\nx\r\n0\r\na: 1\r\nb:\r\n\r\n", true),
    ];
    for (body, trailers) in cases {
        let behind = format!("{body}GET /next HTTP/1.1\r\n");
        for cut in 0..=body.len() {
            assert_eq!(
                end(behind.as_bytes(), &[cut]),
                Some((body.len(), trailers)),
                "{body:?} cut at {cut}"
            );
        }
        for short in 0..body.len() {
            assert_eq!(
                end(&body.as_bytes()[..short], &[]),
                None,
                "{body:?} up to {short}"
            );
        }
    }
}

#[test]
fn what_a_server_might_read_otherwise_is_a_fault() {
    let faults = [
        "\r\n",
        ";x\r\n",
        "g\r\n",
        "0x5\r\nhello\r\n",
        "+5\r\nhello\r\n",
        "-1\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\nhello\n0\n\n",
        "5\rhello",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n",
        "5;a\0\r\nhello\r\n",
        "0\r\n folded\r\n\r\n",
        "0\r\n: nameless\r\n\r\n",
        "0\r\na: 1\n\r\n",
        "0\r\n\n",
        "fffffffffffffffff\r\n",
        "000000000000000000000000100000000000000000\r\n",
    ];
    for body in faults {
        for cut in 0..body.len() {
            let whole = format!("{body}0\r\n\r\n");
            assert_eq!(end(whole.as_bytes(), &[cut]), None, "{body:?} cut at {cut}");
        }
    }
}

#[test]
fn a_piece_of_too_many_lines_is_a_fault() {
    let mut chunks = Chunks::default();
    begin(&mut chunks);
    let body = "1\r\nx\r\n".repeat(1000);
    let length = u32::try_from(body.len()).unwrap();
    assert_eq!(
        follow(&mut chunks, &mut body.as_bytes(), 0, length),
        Followed::Fault
    );
    // In pieces the same body is no burden.
    let body = body + "0\r\n\r\n";
    let cuts: Vec<usize> = (1..10).map(|piece| piece * 600).collect();
    assert_eq!(end(body.as_bytes(), &cuts), Some((body.len(), false)));
}

/// A chunk's content, its extension, and whether its size is written in capitals.
fn chunk_parts() -> impl Strategy<Value = (Vec<u8>, &'static str, bool)> {
    let extensions = select(vec!["", ";a", ";a=\"b c\"", ";\t x"]);
    (vec(any::<u8>(), 1..60), extensions, any::<bool>())
}

proptest! {
    #[test]
    fn the_end_does_not_depend_on_the_cuts(
        parts in vec(chunk_parts(), 0..6),
        trailers in vec(select(vec!["a: 1", "b:", "c:\td"]), 0..3),
        cuts in vec(0usize..400, 0..8),
        behind in vec(any::<u8>(), 0..20),
    ) {
        let mut body = Vec::new();
        for (data, extension, capitals) in &parts {
            let size = if *capitals { format!("{:X}", data.len()) } else { format!("{:x}", data.len()) };
            body.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
            body.extend_from_slice(data);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n");
        for line in &trailers {
            body.extend_from_slice(format!("{line}\r\n").as_bytes());
        }
        body.extend_from_slice(b"\r\n");
        let length = body.len();
        body.extend_from_slice(&behind);
        let mut cuts = cuts;
        cuts.sort_unstable();
        prop_assert_eq!(end(&body, &cuts), Some((length, !trailers.is_empty())));
    }

    #[test]
    fn nothing_makes_it_read_past_the_piece(bytes in vec(any::<u8>(), 0..200), from in 0u32..50) {
        let mut chunks = Chunks::default();
        begin(&mut chunks);
        let length = u32::try_from(bytes.len()).unwrap();
        let _ = follow(&mut chunks, &mut bytes.as_slice(), from.min(length), length);
        prop_assert!(chunks.position <= length);
        prop_assert!(chunks.phase >= chunk::SIZE && chunks.phase <= chunk::FAULT);
    }
}
