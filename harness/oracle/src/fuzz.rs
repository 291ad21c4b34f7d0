//! Bodies of the fuzz targets in `fuzz/`: properties of any input, checked by panicking.

use std::sync::OnceLock;

use kmesh_api::Image;
use kmesh_api::head::Head;
use kmesh_api::limits::HEAD_MAX;
use kmesh_config::{Classes, Identities, compile, parse};
use kmesh_orchestration::decide;
use kmesh_orchestration::http1::{begin_request, begin_response, scan};

use crate::{Native, ScriptedDice, Verdict};

/// A configuration with every kind of pattern.
const RESOURCES: &str = include_str!("fuzz.yaml");

/// # Panics
/// If the built-in configuration is not supported any more.
fn image() -> &'static Image {
    static IMAGE: OnceLock<Box<Image>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let config =
            parse(RESOURCES, "fuzz.yaml").expect("the built-in configuration is supported");
        compile(&config, &mut Identities::default(), Classes::default())
            .expect("it fits the tables")
            .image
    })
}

/// Any bytes as a request and as a response: no panic, and a decision stays inside the tables.
///
/// # Panics
/// If the property does not hold.
pub fn head(bytes: &[u8]) {
    let image = image();
    let verdict = Native::new(image).judge(0, bytes, &mut ScriptedDice::new([1, 2]));
    if let Verdict::Chosen(choice) = verdict {
        let cluster = &image.clusters[choice.cluster as usize];
        let endpoints = cluster.endpoints_at..cluster.endpoints_at + cluster.endpoints_count;
        assert!(
            endpoints.contains(&choice.endpoint),
            "{choice:?} is outside its cluster"
        );
    }
    let mut head = Box::new(Head::<HEAD_MAX>::new());
    begin_response(&mut *head);
    fill(&mut head, bytes);
    let _ = scan(image, &mut *head);
}

/// Scanning in two steps equals scanning in one; the first byte pair says where to split.
///
/// # Panics
/// If the property does not hold.
pub fn split(bytes: &[u8]) {
    let Some((at, bytes)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let bytes = &bytes[..bytes.len().min(HEAD_MAX)];
    let at = usize::from(u16::from_le_bytes(*at)) % (bytes.len() + 1);
    let image = image();
    let mut whole = Box::new(Head::<HEAD_MAX>::new());
    begin_request(&mut *whole);
    fill(&mut whole, bytes);
    let at_once = scan(image, &mut *whole);
    let mut parts = Box::new(Head::<HEAD_MAX>::new());
    begin_request(&mut *parts);
    fill(&mut parts, &bytes[..at]);
    let _ = scan(image, &mut *parts);
    fill(&mut parts, bytes);
    assert_eq!(scan(image, &mut *parts), at_once, "split at {at}");
    assert_eq!(
        (parts.end, parts.flags),
        (whole.end, whole.flags),
        "split at {at}"
    );
    assert_eq!(parts.content_length, whole.content_length, "split at {at}");
}

/// Any tables: a decision ends and does not panic, whatever a half-written image holds.
pub fn tables(bytes: &[u8]) {
    let Some((seed, request)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    // SAFETY: all fields are integers or arrays of integers, for which any bytes are a value.
    let mut image: Box<Image> = unsafe { Box::new_zeroed().assume_init() };
    let mut state = u64::from_le_bytes(*seed) | 1;
    let mut next = || {
        // xorshift64, Marsaglia 2003: enough to fill tables with.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for node in image.nodes.iter_mut().take(4096) {
        let random = next();
        node.base = random as u32;
        node.end = (random >> 32) as u32;
        node.pass = (random >> 16) as u32;
    }
    for cell in image.cells.iter_mut().take(4096) {
        let random = next();
        cell.owner = random as u32 % 4096;
        cell.next = (random >> 32) as u32;
    }
    image.names_root = next() as u32;
    for route in image.routes.iter_mut().take(1024) {
        let random = next();
        route.predicates_at = random as u32;
        route.predicates_count = (random >> 32) as u32;
        route.action = (random >> 8) as u32 % 4;
        route.total = (random >> 40) as u32;
        route.count = (random >> 24) as u32;
    }
    let mut head = Box::new(Head::<HEAD_MAX>::new());
    begin_request(&mut *head);
    fill(&mut head, request);
    let _ = scan(&image, &mut *head);
    let _ = decide(
        &image,
        next() as u32,
        &head,
        &mut ScriptedDice::new([next() as u32, 7]),
    );
}

/// Any text as a configuration: refused with a reason or compiled, never a panic.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match parse(text, "fuzz") {
        Ok(config) => {
            let compiled = compile(&config, &mut Identities::default(), Classes::default());
            drop(compiled);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn fill(head: &mut Head<HEAD_MAX>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(HEAD_MAX)];
    head.bytes[..bytes.len()].copy_from_slice(bytes);
    head.length = bytes.len() as u32;
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_bodies_hold_on_simple_inputs() {
        let request = b"\x05\x00GET /a?b HTTP/1.1\r\nhost: svc.test\r\n\r\n";
        super::head(&request[2..]);
        super::split(request);
        super::tables(request);
        super::config(super::RESOURCES.as_bytes());
        super::config(b"listeners: [");
    }
}
