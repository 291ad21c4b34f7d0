//! The edge corpus: requests that public lists name, with what real Envoy and the datapath make of each.
//!
//! `edge/*.txt` hold the cases, by list; `edge/config.yaml` is what they are routed by; `edge/verdicts/*.txt` are the recorded
//! verdicts of Envoy by profile and of the native code. A verdict is one word per answer: the cluster, or the status, or for
//! the native code `user:REASON` where it leaves the connection to user space, or `partial`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use kmesh_api::exchange::Chunks;
use kmesh_api::head::Head;
use kmesh_api::limits::HEAD_MAX;
use kmesh_api::{Image, Reason};
use kmesh_config::{Classes, Compiled, Config, Identities, compile, parse};
use kmesh_orchestration::decide;
use kmesh_orchestration::http1::chunked::{self, Followed};
use kmesh_orchestration::http1::{Length, Outcome, begin_request, request_length, scan};

use crate::envoy::{Envoy, EnvoyError, Profile};
use crate::native::{Native, ScriptedDice, Verdict};

/// A named case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its id in the list it is from.
    pub id: String,
    /// What the client sends.
    pub bytes: Vec<u8>,
}

/// A table of verdicts: ids with the words of each.
pub type Table = Vec<(String, Vec<String>)>;

const LISTS: [&str; 4] = [
    include_str!("../edge/http11probe.txt"),
    include_str!("../edge/llhttp.txt"),
    include_str!("../edge/garden.txt"),
    include_str!("../edge/envoy.txt"),
];

/// All cases, in the order of the lists.
///
/// # Panics
/// If a list is not in the form that `edge/README.md` describes.
pub fn cases() -> Vec<Case> {
    LISTS.iter().flat_map(|list| list_cases(list)).collect()
}

pub(crate) fn list_cases(list: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in list.lines() {
        if let Some(id) = line.strip_prefix("# ") {
            cases.push(Case {
                id: id.to_owned(),
                bytes: Vec::new(),
            });
        } else if let Some(case) = cases.last_mut() {
            unescape(line, &mut case.bytes);
        }
    }
    cases
}

/// `\r`, `\n`, `\t`, `\\`, `\xNN`, and `\{TEXT*COUNT}` for TEXT so many times.
fn unescape(text: &str, bytes: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let kind = rest.chars().next();
        let length = match kind {
            Some('x') => {
                let byte = u8::from_str_radix(&rest[1..3], 16);
                bytes.push(byte.unwrap_or_else(|_| panic!("not a byte: {rest:?}")));
                3
            }
            Some('{') => {
                let end = rest.find('}').unwrap_or_else(|| panic!("no end: {rest:?}"));
                let group = rest[1..end].rsplit_once('*');
                let (inner, count) = group.unwrap_or_else(|| panic!("no count: {rest:?}"));
                let count = count
                    .parse()
                    .unwrap_or_else(|_| panic!("no count: {rest:?}"));
                let mut once = Vec::new();
                unescape(inner, &mut once);
                bytes.extend(once.repeat(count));
                end + 1
            }
            Some('r') => plain(bytes, b'\r'),
            Some('n') => plain(bytes, b'\n'),
            Some('t') => plain(bytes, b'\t'),
            Some('\\') => plain(bytes, b'\\'),
            _ => panic!("unknown escape: {rest:?}"),
        };
        rest = &rest[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
}

fn plain(bytes: &mut Vec<u8>, byte: u8) -> usize {
    bytes.push(byte);
    1
}

/// What the cases are routed by.
///
/// # Panics
/// If the built-in configuration is not supported any more.
pub fn config() -> Config {
    parse(include_str!("../edge/config.yaml"), "edge/config.yaml")
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The tables compiled from [`config`].
///
/// # Panics
/// If the built-in configuration is not supported any more.
pub fn compiled() -> Compiled {
    compile(&config(), &mut Identities::default(), Classes::default())
        .unwrap_or_else(|error| panic!("{error}"))
}

/// What the native code makes of a connection's bytes, one word per request.
pub fn by_native(compiled: &Compiled, bytes: &[u8]) -> Vec<String> {
    let mut native = Native::new(&compiled.image);
    let mut words = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let verdict = native.judge(0, rest, &mut ScriptedDice::default());
        let word = match verdict {
            Verdict::Chosen(choice) => compiled.names.clusters[choice.cluster as usize]
                .name
                .clone(),
            Verdict::NoRoute => "404".to_owned(),
            Verdict::NoEndpoint | Verdict::NoCluster(_) => "503".to_owned(),
            Verdict::Answered(_) => "answered".to_owned(),
            Verdict::Partial if rest.len() >= HEAD_MAX => user(Reason::HeadTooLong as u32),
            Verdict::Partial => "partial".to_owned(),
            Verdict::Refused(reason) => user(reason),
        };
        let decided = matches!(
            verdict,
            Verdict::Chosen(_)
                | Verdict::NoRoute
                | Verdict::NoEndpoint
                | Verdict::NoCluster(_)
                | Verdict::Answered(_)
        );
        words.push(word);
        if !decided {
            break;
        }
        match end(&compiled.image, rest) {
            Some(Ok(end)) => rest = &rest[end.min(rest.len())..],
            Some(Err(reason)) => {
                words.push(user(reason as u32));
                break;
            }
            None => break,
        }
    }
    words
}

fn user(reason: u32) -> String {
    let name = Reason::ALL.get(reason as usize).map(|reason| reason.name());
    format!("user:{}", name.unwrap_or("unknown"))
}

/// What the scanner finds in the first head if the bytes come in pieces that end at `cuts`: its outcome, where it ends, and
/// everything a decision depends on.
pub fn first_head(image: &Image, bytes: &[u8], cuts: &[usize]) -> String {
    let bytes = &bytes[..bytes.len().min(HEAD_MAX)];
    let mut head = Box::new(Head::<HEAD_MAX>::new());
    begin_request(&mut *head);
    let mut outcome = Outcome::Partial;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let end = end.min(bytes.len());
        head.bytes[..end].copy_from_slice(&bytes[..end]);
        head.length = end as u32;
        outcome = scan(image, &mut *head);
        if outcome != Outcome::Partial {
            break;
        }
    }
    let complete = outcome == Outcome::Complete;
    let decision = complete.then(|| decide(image, 0, &mut *head, &mut ScriptedDice::default()));
    let marks = (head.end, head.flags, head.content_length);
    format!("{outcome:?} {:?} {decision:?}", complete.then_some(marks))
}

/// Where the first request ends, or why its body cannot be followed; `None` if it goes on beyond the bytes.
fn end(image: &Image, bytes: &[u8]) -> Option<Result<usize, Reason>> {
    let mut head = Box::new(Head::<HEAD_MAX>::new());
    begin_request(&mut *head);
    let visible = bytes.len().min(HEAD_MAX);
    head.bytes[..visible].copy_from_slice(&bytes[..visible]);
    head.length = visible as u32;
    if scan(image, &mut *head) != Outcome::Complete {
        return None;
    }
    match request_length(&head) {
        Length::Known(end) => usize::try_from(end)
            .ok()
            .filter(|end| *end <= bytes.len())
            .map(Ok),
        Length::Unknown(reason) => Some(Err(reason)),
        Length::Chunked => {
            let mut chunks = Chunks::default();
            chunked::begin(&mut chunks);
            let mut source = bytes;
            match chunked::follow(&mut chunks, &mut source, head.end, bytes.len() as u32) {
                Followed::End(end) => Some(Ok(end as usize)),
                Followed::More => None,
                Followed::Fault => Some(Err(Reason::TransferEncoding)),
            }
        }
    }
}

/// Asks Envoy in both profiles and the native code about all cases, and writes their tables.
///
/// # Errors
/// If Envoy does not answer, or a table cannot be written.
pub fn record(envoy: &Path) -> Result<usize, RecordError> {
    let (cases, config) = (cases(), config());
    let streams: Vec<_> = cases
        .iter()
        .map(|case| (case.bytes.as_slice(), 0))
        .collect();
    let table = |words: Vec<Vec<String>>| -> Table {
        let ids = cases.iter().map(|case| case.id.clone());
        ids.zip(words).collect()
    };
    for profile in Profile::ALL {
        let answers = Envoy::start_in(envoy, &config, profile)?.answers(&streams)?;
        let title = format!("Real Envoy 1.40, profile {}.", profile.name());
        write_table(profile.name(), &title, &table(answers))?;
    }
    let compiled = compiled();
    let words = cases.iter().map(|case| by_native(&compiled, &case.bytes));
    let title = "The datapath's decision code, before user space has a say.";
    write_table("native", title, &table(words.collect()))?;
    Ok(cases.len())
}

/// Why nothing is recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Envoy fails.
    #[error(transparent)]
    Envoy(#[from] EnvoyError),
    /// A table cannot be written.
    #[error("the tables of verdicts cannot be written")]
    Write(#[from] io::Error),
}

/// The file of a table of verdicts.
pub fn table_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("edge/verdicts")
        .join(format!("{name}.txt"))
}

/// Reads a table: lines `ID: WORD WORD ...`, comments with `#`.
///
/// # Errors
/// What the system says.
pub fn read_table(name: &str) -> io::Result<Table> {
    let text = fs::read_to_string(table_path(name))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines
        .filter_map(|line| line.split_once(':'))
        .map(|(id, words)| {
            let words = words.split_whitespace().map(str::to_owned).collect();
            (id.to_owned(), words)
        })
        .collect())
}

/// Writes a table with a first line that says what it is.
///
/// # Errors
/// What the system says.
pub fn write_table(name: &str, title: &str, table: &Table) -> io::Result<()> {
    let mut text = format!("# {title}\n");
    for (id, words) in table {
        text.push_str(id);
        text.push(':');
        for word in words {
            text.push(' ');
            text.push_str(word);
        }
        text.push('\n');
    }
    fs::write(table_path(name), text)
}
