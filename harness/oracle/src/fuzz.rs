//! Bodies of the fuzz targets in `fuzz/`: properties of any input, checked by panicking.

use std::cell::RefCell;
use std::sync::OnceLock;

use kmesh_api::exchange::Chunks;
use kmesh_api::head::Head;
use kmesh_api::limits::{HEAD_MAX, UPSTREAMS_MAX};
use kmesh_api::route::CANDIDATE_LAST;
use kmesh_api::{Image, event};
use kmesh_config::{Classes, Identities, compile, parse};
use kmesh_orchestration::decide;
use kmesh_orchestration::http1::chunked::{self, Followed};
use kmesh_orchestration::http1::{begin_request, begin_response, scan};
use prost::Message as _;

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
    HALF_WRITTEN.with_borrow_mut(|image| any_tables(image, *seed, request));
}

/// Nodes, cells and candidates that [`tables`] fills; few, so that a run takes microseconds.
const FILLED: u32 = 1024;

thread_local! {
    // Kept from run to run, each of which fills the same parts of it: fresh memory for each would be most of a run's time.
    // SAFETY: all fields are integers or arrays of integers, for which any bytes are a value.
    static HALF_WRITTEN: RefCell<Box<Image>> = RefCell::new(unsafe { Box::new_zeroed().assume_init() });
}

fn any_tables(image: &mut Image, seed: [u8; 8], request: &[u8]) {
    let mut state = u64::from_le_bytes(seed) | 1;
    let mut next = || {
        // xorshift64, Marsaglia 2003: enough to fill tables with.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for node in image.nodes.iter_mut().take(FILLED as usize) {
        let random = next();
        node.base = random as u32 % FILLED;
        node.end = (random >> 32) as u32;
        node.pass = (random >> 16) as u32;
        node.other = (random >> 48) as u32 % FILLED;
        // Now and then what a request begins with, or a host.
        node.ahead = u64::from_le_bytes(if random & 1 == 0 {
            *b"/aaaaaaa"
        } else {
            *b"aaaaaaaa"
        });
        node.ahead_to = (random >> 8) as u32 % FILLED;
    }
    for cell in image.cells.iter_mut().take(FILLED as usize) {
        let random = next();
        cell.owner = random as u32 % FILLED;
        cell.next = (random >> 32) as u32;
    }
    for candidate in image.candidates.iter_mut().take(FILLED as usize) {
        *candidate = next() as u32 & (CANDIDATE_LAST | 255);
    }
    for (name, id) in image.names.iter_mut().zip(0_u64..) {
        let random = next();
        // Some of each kind, the pseudo headers among them.
        name.values = if random % 3 == 0 {
            0
        } else {
            (random >> 8) as u32
        };
        name.joined = ((random >> 40) + id) as u32 & 1;
    }
    for host in image.virtual_hosts.iter_mut().take(64) {
        let random = next();
        host.paths = random as u32 % FILLED;
        host.expressions = (random >> 32) as u32 % FILLED;
    }
    for predicate in image.predicates.iter_mut().take(256) {
        let random = next();
        predicate.name = random as u32 % 16;
        predicate.value = (random >> 8) as u32;
        predicate.patterns = (random >> 16) as u32;
        predicate.flags = (random >> 40) as u32;
    }
    image.names_root = next() as u32;
    image.queries_root = next() as u32 % FILLED;
    for route in image.routes.iter_mut().take(256) {
        let random = next();
        route.predicates_at = random as u32;
        route.predicates_count = (random >> 32) as u32;
        route.action = (random >> 8) as u32 % 7;
        route.target = (random >> 16) as u32;
        route.number_from = (random >> 50) as u32;
        route.total = (random >> 40) as u32;
        route.count = (random >> 24) as u32;
    }
    let mut head = Box::new(Head::<HEAD_MAX>::new());
    begin_request(&mut *head);
    fill(&mut head, request);
    let _ = scan(image, &mut *head);
    let _ = decide(
        image,
        next() as u32,
        &mut *head,
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

/// A chunked body ends at the same byte in one piece and in two; the first byte pair says where to split.
///
/// # Panics
/// If the property does not hold.
pub fn chunks(bytes: &[u8]) {
    let Some((at, bytes)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    // Fewer bytes than steps, so that no piece is refused for its number of lines.
    let bytes = &bytes[..bytes.len().min(2048)];
    let at = usize::from(u16::from_le_bytes(*at)) % (bytes.len() + 1);
    let follow = |chunks: &mut Chunks, mut piece: &[u8]| {
        let length = piece.len() as u32;
        chunked::follow(chunks, &mut piece, 0, length)
    };
    let mut whole = Chunks::default();
    chunked::begin(&mut whole);
    let at_once = follow(&mut whole, bytes);
    let mut parts = Chunks::default();
    chunked::begin(&mut parts);
    let in_two = match follow(&mut parts, &bytes[..at]) {
        Followed::More => match follow(&mut parts, &bytes[at..]) {
            Followed::End(end) => Followed::End(end + at as u32),
            other => other,
        },
        other => other,
    };
    assert_eq!(in_two, at_once, "split at {at}");
    if let Followed::End(end) = at_once {
        assert!(end as usize <= bytes.len(), "ends behind the last byte");
        assert_eq!(&bytes[end as usize - 2..end as usize], b"\r\n");
    }
}

/// Any bytes as a record of a ring buffer: the slot it names exists, and names itself again.
///
/// # Panics
/// If the property does not hold.
pub fn event(bytes: &[u8]) {
    let slot = event::relay(bytes);
    if let Some(slot) = slot {
        assert!((slot as usize) < UPSTREAMS_MAX, "no such slot");
        assert_eq!(slot.to_ne_bytes(), bytes, "another record");
    }
    if bytes.len() != 4 {
        assert_eq!(slot, None, "not a record");
    }
}

/// Any bytes as a resource, of the kind that the first byte says: refused with a reason or read, nothing dropped.
///
/// # Panics
/// If the property does not hold.
pub fn resource(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let kind = kmesh_xds::Kind::ALL[usize::from(*kind) % 4];
    match kmesh_xds::tree::read(kind.type_url(), bytes) {
        Ok((tree, unread)) => {
            let fields = unread
                .iter()
                .filter(|unread| matches!(unread.what, kmesh_xds::tree::Unknown::Field { .. }));
            assert!(
                unknown_fields(&tree) >= fields.count(),
                "an unknown field is not in the tree"
            );
            let _ = kmesh_xds::needs::of(kind, "fuzz", &tree);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Values under `#NUMBER`, which is where unknown fields stand.
fn unknown_fields(tree: &serde_json::Value) -> usize {
    match tree {
        serde_json::Value::Object(fields) => {
            let counts = fields.iter().map(|(name, value)| {
                let own = value.as_array().filter(|_| name.starts_with('#'));
                own.map_or(0, Vec::len) + unknown_fields(value)
            });
            counts.sum()
        }
        serde_json::Value::Array(items) => items.iter().map(unknown_fields).sum(),
        _ => 0,
    }
}

/// A target's name and body.
pub type Target = (&'static str, fn(&[u8]));

/// The targets.
pub const TARGETS: [Target; 7] = [
    ("head", head),
    ("split", split),
    ("chunks", chunks),
    ("tables", tables),
    ("config", config),
    ("event", event),
    ("resource", resource),
];

/// Longest seed, bytes: libFuzzer spends its time on long inputs otherwise.
const SEED_MAX: usize = 12 * 1024;

/// What a target's corpus begins with: the edge cases in the target's form, with names for files.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let cases = || {
        crate::edge::cases()
            .into_iter()
            .filter(|case| case.bytes.len() <= SEED_MAX)
    };
    let behind = |prefix: &'static [u8]| {
        cases().map(move |case| (case.id, [prefix, &case.bytes[..]].concat()))
    };
    match target {
        "head" => cases().map(|case| (case.id, case.bytes)).collect(),
        "split" => behind(&[40, 0]).collect(),
        "tables" => behind(&[1, 2, 3, 4, 5, 6, 7, 8]).collect(),
        "chunks" => cases()
            .filter_map(|case| {
                let body = case.bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
                Some((case.id, [&[3, 0], &case.bytes[body..]].concat()))
            })
            .collect(),
        "config" => [
            ("fuzz.yaml", RESOURCES),
            ("edge.yaml", include_str!("../edge/config.yaml")),
        ]
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        .into(),
        "resource" => resources(),
        _ => [0, 1, UPSTREAMS_MAX as u32 - 1, UPSTREAMS_MAX as u32]
            .map(|slot| (slot.to_string(), slot.to_ne_bytes().to_vec()))
            .into(),
    }
}

/// Resources that a real istiod served, each behind the byte that says what it is.
fn resources() -> Vec<(String, Vec<u8>)> {
    let served = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../datapath/xds/tests/istiod/changes-delta"
    );
    let mut seeds = Vec::new();
    for file in std::fs::read_dir(served)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        let response = kmesh_xds::wire::DeltaDiscoveryResponse::decode(&bytes[..]);
        let response = response.unwrap_or_default();
        let Some(kind) = kmesh_xds::Kind::of(&response.type_url) else {
            continue;
        };
        for (number, served) in response.resources.into_iter().enumerate() {
            let value = served.resource.unwrap_or_default().value;
            if value.len() <= SEED_MAX {
                let name = format!("{}-{number}", file.file_name().display());
                seeds.push((name, [&[kind as u8], &value[..]].concat()));
            }
        }
    }
    seeds
}

fn fill(head: &mut Head<HEAD_MAX>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(HEAD_MAX)];
    head.bytes[..bytes.len()].copy_from_slice(bytes);
    head.length = bytes.len() as u32;
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Every body on its seeds and on the inputs that were once findings (`fuzz/corpus/TARGET/`).
    #[test]
    fn the_bodies_hold_on_the_corpora() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        for (target, body) in super::TARGETS {
            let seeds = super::seeds(target);
            assert!(!seeds.is_empty(), "{target} has no seeds");
            for (_, bytes) in &seeds {
                body(bytes);
            }
            let found = corpora.join(target).read_dir().into_iter().flatten();
            for file in found.filter_map(Result::ok) {
                body(&std::fs::read(file.path()).expect("a file of the corpus can be read"));
            }
        }
        super::config(b"listeners: [");
    }
}
