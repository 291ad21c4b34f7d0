//! The edge corpus of the other direction: what servers may send instead of a response, with what real Envoy tells the client.
//!
//! `edge/responses.txt` holds the cases, `edge/verdicts/responses.txt` the recorded verdicts: the status that the client gets, or no
//! word if it gets none.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use crate::edge::{Case, Table, list_cases, write_table};
use crate::envoy::{Envoy, EnvoyError};

/// The name of the table of verdicts.
pub const TABLE: &str = "responses";
/// What an id ends with if the connection stays open behind the bytes.
const OPEN: &str = " (open)";

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its id.
    pub id: String,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether the server hangs up behind them.
    pub closes: bool,
}

/// All cases, in the order of the list.
///
/// # Panics
/// If the list is not in the form that `edge/README.md` describes.
pub fn responses() -> Vec<Response> {
    let response = |Case { id, bytes }| Response {
        closes: !id.ends_with(OPEN),
        id: id.trim_end_matches(OPEN).to_owned(),
        bytes,
    };
    let cases = list_cases(include_str!("../edge/responses.txt"));
    cases.into_iter().map(response).collect()
}

/// A server that answers a request for `/N` with the case of that number, until the process ends.
///
/// # Errors
/// If the abstract socket `name` is taken.
pub fn serve(name: &str, cases: Vec<Response>) -> io::Result<()> {
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    let cases = Arc::new(cases);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let cases = Arc::clone(&cases);
            // One that is cut off has nothing more to say.
            thread::spawn(move || answer(stream, &cases).ok());
        }
    });
    Ok(())
}

fn answer(mut stream: UnixStream, cases: &[Response]) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let text = String::from_utf8_lossy(&head);
    let number = text
        .split(' ')
        .nth(1)
        .and_then(|path| path[1..].parse().ok());
    let case = number.and_then(|number: usize| cases.get(number));
    let case = case.ok_or(io::ErrorKind::InvalidInput)?;
    stream.write_all(&case.bytes)?;
    if case.closes {
        stream.shutdown(Shutdown::Write)?;
    }
    // Until the other side hangs up.
    io::copy(&mut stream, &mut io::sink()).map(|_| ())
}

/// What Envoy tells the client in each case.
///
/// # Errors
/// If Envoy does not answer as far as `expected` says that it does.
pub fn by_envoy(program: &Path, expected: Option<&Table>) -> Result<Table, EnvoyError> {
    let cases = responses();
    let requests: Vec<_> = (0..cases.len())
        .map(|number| format!("GET /{number} HTTP/1.1\r\nhost: a\r\n\r\n"))
        .collect();
    let envoy = Envoy::start_before(program, |name| serve(name, cases.clone()))?;
    let count = |number: usize| expected.map_or(0, |table| table[number].1.len());
    let streams: Vec<_> = (requests.iter().enumerate())
        .map(|(number, request)| (request.as_bytes(), count(number)))
        .collect();
    let first = |words: Vec<String>| words.into_iter().take(1).map(status).collect();
    let words = envoy.answers(&streams)?.into_iter().map(first);
    let ids = cases.into_iter().map(|case| case.id);
    Ok(ids.zip(words).collect())
}

/// Envoy's 503 comes with the cluster's name, which stands for it among the edge cases of clients.
fn status(word: String) -> String {
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        word
    } else {
        "503".to_owned()
    }
}

/// Asks Envoy about all cases and writes the table.
///
/// # Errors
/// If Envoy does not answer, or the table cannot be written.
pub fn record(program: &Path) -> Result<usize, crate::edge::RecordError> {
    let table = by_envoy(program, None)?;
    write_table(
        TABLE,
        "Real Envoy 1.40, with these servers behind it.",
        &table,
    )?;
    Ok(table.len())
}
