//! Requests on which two parsers may disagree, sent through an arm to recording servers: what the client hears and what the
//! servers take for requests must be as with Envoy.
//!
//! Every case travels on a connection that the datapath has already carried requests of, so the kernel meets it with a
//! free upstream at hand. Whatever would be smuggled asks for `/smuggled/`, which only the default route's server answers.
//! Cases from RFC 9112 sections 2.2, 6.3, 7.1 and 11.2, and from the smuggling literature (CL.TE, TE.CL, TE.TE, CL.0).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::lab::{self, CheckError, Options};
use crate::raw::{Dialogue, Heard};
use crate::server::REPORT;
use crate::task::Task;
use crate::world::{HOST, SERVERS};

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name, which is also in its targets.
    pub name: &'static str,
    /// Its bytes, one send each.
    pub sends: Vec<Vec<u8>>,
}

/// What a case came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What the client heard: `200 200 end`.
    pub answers: String,
    /// What the servers took for requests: `a: GET /first/plain 0`.
    pub reached: Vec<String>,
}

/// A request that must never be seen as one.
fn smuggled(name: &str) -> String {
    format!("GET /smuggled/{name} HTTP/1.1\r\nhost: {HOST}\r\n\r\n")
}

fn case(name: &'static str, sends: &[&str]) -> Case {
    let fill = |text: &&str| {
        text.replace("{name}", name)
            .replace("{host}", HOST)
            .replace("{smuggled}", &smuggled(name))
            .replace("{smuggled-length}", &smuggled(name).len().to_string())
            .replace("{smuggled-hex}", &format!("{:x}", smuggled(name).len()))
            .into_bytes()
    };
    Case {
        name,
        sends: sends.iter().map(fill).collect(),
    }
}

/// A POST with these header lines and this body, in one send.
fn post(name: &'static str, lines: &str, body: &str) -> Case {
    case(
        name,
        &[&format!(
            "POST /first/{{name}} HTTP/1.1\r\nhost: {{host}}\r\n{lines}\r\n{body}"
        )],
    )
}

/// A GET with these header lines after Host.
fn get(name: &'static str, lines: &str) -> Case {
    case(
        name,
        &[&format!(
            "GET /first/{{name}} HTTP/1.1\r\nhost: {{host}}\r\n{lines}\r\n"
        )],
    )
}

/// A POST of one chunk with these header lines.
fn coded(name: &'static str, lines: &str) -> Case {
    post(name, lines, "1\r\nx\r\n0\r\n\r\n")
}

/// A POST with these chunks.
fn chunks(name: &'static str, body: &str) -> Case {
    post(name, "transfer-encoding: chunked\r\n", body)
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        get("plain", ""),
        // Request text where a body is.
        post(
            "text-in-body",
            "content-length: {smuggled-length}\r\n",
            "{smuggled}",
        ),
        case(
            "text-in-body-later",
            &[
                "POST /first/{name} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {smuggled-length}\r\n\r\n",
                "{smuggled}",
            ],
        ),
        chunks("text-in-chunk", "{smuggled-hex}\r\n{smuggled}\r\n0\r\n\r\n"),
        case(
            "text-in-chunk-later",
            &[
                "POST /first/{name} HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n{smuggled-hex}\r\n",
                "{smuggled}",
                "\r\n0\r\n\r\n",
            ],
        ),
        chunks(
            "text-in-trailer",
            "0\r\nx-a: GET /smuggled/{name} HTTP/1.1\r\n\r\n",
        ),
        chunks(
            "text-in-extension",
            "1;a=\"GET /smuggled/{name} HTTP/1.1\"\r\nx\r\n0\r\n\r\n",
        ),
        get("get-with-body", "content-length: {smuggled-length}\r\n").with("{smuggled}"),
        case(
            "head-with-body",
            &[
                "HEAD /first/{name} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {smuggled-length}\r\n\r\n{smuggled}",
            ],
        ),
        case(
            "delete-with-body",
            &[
                "DELETE /first/{name} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {smuggled-length}\r\n\r\n{smuggled}",
            ],
        ),
        // Two lengths.
        post(
            "cl-te",
            "content-length: 6\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\nX",
        ),
        post(
            "te-cl",
            "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
            "{smuggled-hex}\r\n{smuggled}\r\n0\r\n\r\n",
        ),
        post(
            "cl-0-te",
            "content-length: 0\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        post(
            "cl-twice-same",
            "content-length: 2\r\ncontent-length: 2\r\n",
            "ab",
        ),
        post(
            "cl-twice-other",
            "content-length: 0\r\ncontent-length: {smuggled-length}\r\n",
            "{smuggled}",
        ),
        post("cl-list-same", "content-length: 2, 2\r\n", "ab"),
        post(
            "cl-list-other",
            "content-length: 0, {smuggled-length}\r\n",
            "{smuggled}",
        ),
        // Lengths that are none.
        post("cl-plus", "content-length: +2\r\n", "ab"),
        post("cl-minus", "content-length: -2\r\n", "ab"),
        post("cl-hex", "content-length: 0x2\r\n", "ab"),
        post("cl-letters", "content-length: 2a\r\n", "ab"),
        post("cl-blank-within", "content-length: 1 0\r\n", "0123456789"),
        post("cl-empty", "content-length:\r\n", ""),
        post("cl-huge", "content-length: 18446744073709551618\r\n", "ab"),
        post(
            "cl-zeros",
            "content-length: 0000000000000000000000000000002\r\n",
            "ab",
        ),
        post("cl-blanks-around", "content-length: \t 2 \t\r\n", "ab"),
        post("cl-blank-before-colon", "content-length : 2\r\n", "ab"),
        // Codings that are not quite chunked.
        coded("te-case", "Transfer-Encoding: ChunKed\r\n"),
        post("te-other", "transfer-encoding: xchunked\r\n", "{smuggled}"),
        post(
            "te-identity",
            "transfer-encoding: identity\r\ncontent-length: 2\r\n",
            "ab",
        ),
        coded("te-gzip-chunked", "transfer-encoding: gzip, chunked\r\n"),
        coded("te-chunked-gzip", "transfer-encoding: chunked, gzip\r\n"),
        coded(
            "te-twice",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        ),
        coded(
            "te-twice-other",
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        ),
        coded("te-list-twice", "transfer-encoding: chunked, chunked\r\n"),
        post("te-empty", "transfer-encoding:\r\n", ""),
        coded("te-blank-before-colon", "transfer-encoding : chunked\r\n"),
        coded("te-folded", "transfer-encoding:\r\n chunked\r\n"),
        coded("te-vertical-tab", "transfer-encoding: \x0bchunked\r\n"),
        coded("te-quoted", "transfer-encoding: \"chunked\"\r\n"),
        post(
            "te-in-name",
            "x: y\r\n transfer-encoding: chunked\r\ncontent-length: 2\r\n",
            "ab",
        ),
        // Chunks.
        chunks("chunk-bare-lf-size", "1\nx\r\n0\r\n\r\n"),
        chunks("chunk-bare-lf-data", "1\r\nx\n0\r\n\r\n"),
        chunks("chunk-bare-lf-end", "1\r\nx\r\n0\r\n\n"),
        chunks("chunk-bare-lf-extension", "1;a\nx\r\n0\r\n\r\n"),
        chunks("chunk-bare-cr", "1\rx\r\n0\r\n\r\n"),
        chunks("chunk-0x", "0x1\r\nx\r\n0\r\n\r\n"),
        chunks("chunk-minus", "-1\r\nx\r\n0\r\n\r\n"),
        chunks("chunk-overflow", "10000000000000001\r\nx\r\n0\r\n\r\n"),
        chunks("chunk-zeros", "00000000000000000001\r\nx\r\n00\r\n\r\n"),
        chunks("chunk-blank-before", " 1\r\nx\r\n0\r\n\r\n"),
        chunks("chunk-blank-after", "1 \r\nx\r\n0\r\n\r\n"),
        chunks("chunk-no-size", "\r\nx\r\n0\r\n\r\n"),
        chunks("chunk-letters", "xyz\r\n{smuggled}"),
        chunks("chunk-too-long", "1\r\nxy\r\n0\r\n\r\n"),
        chunks("chunk-upper-hex", "A\r\n0123456789\r\n0\r\n\r\n"),
        chunks("trailer-no-colon", "0\r\nbroken\r\n\r\n"),
        // Heads.
        case(
            "two-hosts",
            &["GET /first/{name} HTTP/1.1\r\nhost: {host}\r\nhost: other.test\r\n\r\n"],
        ),
        case("no-host", &["GET /first/{name} HTTP/1.1\r\nx: y\r\n\r\n"]),
        case(
            "empty-host",
            &["GET /first/{name} HTTP/1.1\r\nhost:\r\n\r\n"],
        ),
        case(
            "other-host",
            &["GET /first/{name} HTTP/1.1\r\nhost: other.test\r\n\r\n"],
        ),
        case(
            "host-blank-before-colon",
            &["GET /first/{name} HTTP/1.1\r\nhost : {host}\r\n\r\n"],
        ),
        case(
            "absolute-form",
            &["GET http://{host}/first/{name} HTTP/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "absolute-form-other-host",
            &["GET http://{host}/first/{name} HTTP/1.1\r\nhost: other.test\r\n\r\n"],
        ),
        case(
            "absolute-form-wrong-host",
            &["GET http://other.test/first/{name} HTTP/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "bare-lf-lines",
            &["GET /first/{name} HTTP/1.1\nhost: {host}\n\n"],
        ),
        case(
            "bare-lf-one-line",
            &["GET /first/{name} HTTP/1.1\r\nx: y\nhost: {host}\r\n\r\n"],
        ),
        get("bare-cr-in-value", "x: a\rb\r\n"),
        get("nul-in-value", "x: a\0b\r\n"),
        get("obs-text-in-value", "x: \u{e9}\r\n"),
        get("no-colon", "broken\r\n"),
        get("empty-name", ": y\r\n"),
        get("blank-in-name", "a b: y\r\n"),
        get("nul-in-name", "a\0b: y\r\n"),
        get("folded", "x: a\r\n b\r\n"),
        case(
            "leading-crlf",
            &["\r\nGET /first/{name} HTTP/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "leading-blank",
            &[" GET /first/{name} HTTP/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "first-line-folded",
            &["GET /first/{name} HTTP/1.1\r\n host: {host}\r\n\r\n"],
        ),
        case(
            "two-blanks",
            &["GET  /first/{name}  HTTP/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "tab-between",
            &["GET\t/first/{name}\tHTTP/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "blank-in-target",
            &["GET /first/{name} x HTTP/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "fragment",
            &["GET /first/{name}#x HTTP/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "dots",
            &["GET /second/../first/{name} HTTP/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "encoded-slash",
            &["GET %2ffirst/{name} HTTP/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "no-slash",
            &["GET first/{name} HTTP/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case("star", &["OPTIONS * HTTP/1.1\r\nhost: {host}\r\n\r\n"]),
        case(
            "method-unknown",
            &["BREW /first/{name} HTTP/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "method-lower-case",
            &["get /first/{name} HTTP/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "version-1.0",
            &["GET /first/{name} HTTP/1.0\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "version-1.2",
            &["GET /first/{name} HTTP/1.2\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "version-2.0",
            &["GET /first/{name} HTTP/2.0\r\nhost: {host}\r\n\r\n"],
        ),
        case(
            "version-lower-case",
            &["GET /first/{name} http/1.1\r\nhost: {host}\r\n\r\n"],
        ),
        case("version-none", &["GET /first/{name}\r\n\r\n"]),
        get(
            "hop-by-hop-choice",
            "connection: x-choice\r\nx-choice: second\r\n",
        ),
        get("hop-by-hop-host", "connection: host\r\n"),
        get(
            "connection-twice",
            "connection: keep-alive\r\nconnection: close\r\n",
        ),
        get("proxy-connection", "proxy-connection: close\r\n"),
        get("te-trailers", "te: trailers\r\n"),
        get("upgrade", "connection: upgrade\r\nupgrade: foo\r\n"),
        get(
            "h2c-upgrade",
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        ),
        case(
            "two-in-one-send",
            &[
                "GET /first/{name} HTTP/1.1\r\nhost: {host}\r\n\r\nGET /header/{name} HTTP/1.1\r\nhost: {host}\r\nx-choice: second\r\n\r\n",
            ],
        ),
        case(
            "good-then-garbage",
            &["GET /first/{name} HTTP/1.1\r\nhost: {host}\r\n\r\n\x01\x02 garbage\r\n\r\n"],
        ),
        case(
            "body-then-garbage",
            &["POST /first/{name} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 2\r\n\r\nabXY"],
        ),
    ];
    let many = "x-many: y\r\n".repeat(120);
    cases.push(get("many-headers", &many));
    cases.push(get("long-value", &format!("x: {}\r\n", "y".repeat(20_000))));
    cases.push(get(
        "too-long-value",
        &format!("x: {}\r\n", "y".repeat(70_000)),
    ));
    cases
}

impl Case {
    /// The same with text behind its last send.
    fn with(mut self, text: &str) -> Self {
        let more = case(self.name, &[text]);
        if let (Some(last), Some(text)) = (self.sends.last_mut(), more.sends.first()) {
            last.extend_from_slice(text);
        }
        self
    }

    /// The dialogue with the service at `target`.
    fn dialogue(&self, target: SocketAddr) -> Dialogue {
        let request = |what: &str, lines: &str| {
            format!(
                "GET /first/{what}-{} HTTP/1.1\r\nhost: {HOST}\r\n{lines}\r\n",
                self.name
            )
        };
        Dialogue {
            name: self.name.to_owned(),
            target,
            before: vec![request("before", ""), request("before", "")],
            sends: self.sends.clone(),
            after: request("after", "connection: close\r\n"),
        }
    }
}

/// Sends every case through an arm. `options.server` must be `kmesh-streams-recorder`.
///
/// # Errors
/// [`CheckError`].
pub fn observe(
    arm: &str,
    options: &Options,
) -> Result<BTreeMap<&'static str, Observed>, CheckError> {
    let lab = lab::Bench::up(arm, options)?;
    let target = lab.target();
    let cases = cases();
    let dialogues = cases.iter().map(|case| case.dialogue(target)).collect();
    let heard: Vec<Heard> = lab.run(&Task::Raw(dialogues))?;
    let mut records = Vec::new();
    for server in SERVERS {
        let lines: Vec<String> = lab.ask(server, REPORT)?;
        records.extend(lines.into_iter().map(|line| format!("{server}: {line}")));
    }
    records.sort();
    let mut observed = BTreeMap::new();
    for (case, heard) in cases.iter().zip(heard) {
        let ours = |line: &&String| {
            let mut words = line.split(' ').skip(2);
            let target = words.next().unwrap_or_default();
            let last = target.rsplit(['/', ' ']).next().unwrap_or_default();
            let last = last.split('#').next().unwrap_or_default();
            last.trim_start_matches("after-") == case.name
        };
        observed.insert(
            case.name,
            Observed {
                answers: heard.answers,
                reached: records.iter().filter(ours).cloned().collect(),
            },
        );
    }
    let garbage: Vec<String> = records
        .into_iter()
        .filter(|line| line.contains("garbage: "))
        .collect();
    observed.insert(
        "(no request)",
        Observed {
            answers: String::new(),
            reached: garbage,
        },
    );
    Ok(observed)
}
