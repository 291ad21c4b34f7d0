//! Golden vectors of the head scanner: `vectors/*.txt` hold each head with what is found in it. `BLESS=1` rewrites them.
//!
//! A case is a line `# title`, lines of head (escapes `\r`, `\n`, `\t`, `\xNN`; the line end itself is no part of it) and
//! lines beginning with `=>`. Every head is scanned whole, split in two at every byte, and byte by byte.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fmt::Write as _;
use std::path::Path;

use kmesh_api::head::{Head, flag};
use kmesh_api::limits::HEAD_MAX;
use kmesh_api::{Image, Reason};
use kmesh_orchestration::http1::{
    Outcome, begin_request, begin_response, request_length, response_length, scan,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Request,
    Response,
}

#[test]
fn requests() {
    check("requests.txt", Message::Request);
}

#[test]
fn responses() {
    check("responses.txt", Message::Response);
}

fn check(file: &str, message: Message) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(file);
    let old = std::fs::read_to_string(&path).unwrap();
    let image = support::image();
    let mut new = String::new();
    let mut cases = 0;
    for case in old.split_inclusive("\n\n") {
        let (title, text) = case.trim().split_once('\n').unwrap();
        assert!(
            title.starts_with("# "),
            "{file}: case without title: {case:?}"
        );
        let head: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("=>"))
            .collect();
        let bytes = unescape(&head.concat());
        let found = scan_every_way(&image, &bytes, message, title);
        writeln!(new, "{title}\n{}\n{found}", head.join("\n")).unwrap();
        cases += 1;
    }
    let new = new.trim_end().to_owned() + "\n";
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &new).unwrap();
        return;
    }
    assert!(cases > 10, "{file} has only {cases} cases");
    for (line, (old, new)) in old.lines().zip(new.lines()).enumerate() {
        assert_eq!(
            new,
            old,
            "{file} line {}: left is what the scanner finds",
            line + 1
        );
    }
    assert_eq!(new.lines().count(), old.lines().count(), "{file}");
}

/// Scans whole, in two parts for every split, and byte by byte; all must find the same.
fn scan_every_way(image: &Image, bytes: &[u8], message: Message, title: &str) -> String {
    let whole = scan_parts(image, bytes, message, &[bytes.len()]);
    for split in 0..bytes.len() {
        let parts = scan_parts(image, bytes, message, &[split, bytes.len()]);
        assert_eq!(parts, whole, "{title}: split at {split}");
    }
    let single: Vec<usize> = (1..=bytes.len()).collect();
    assert_eq!(
        scan_parts(image, bytes, message, &single),
        whole,
        "{title}: byte by byte"
    );
    whole
}

/// Makes the bytes up to each of `ends` visible in turn.
fn scan_parts(image: &Image, bytes: &[u8], message: Message, ends: &[usize]) -> String {
    let mut head = Box::new(Head::<HEAD_MAX>::new());
    // What an earlier message left behind must not matter.
    head.bytes.fill(0xff);
    head.node = u32::MAX;
    head.joined = u32::MAX;
    match message {
        Message::Request => begin_request(&mut *head),
        Message::Response => begin_response(&mut *head),
    }
    let mut outcome = Outcome::Partial;
    for end in ends {
        head.bytes[..*end].copy_from_slice(&bytes[..*end]);
        head.length = *end as u32;
        outcome = scan(image, &mut head);
        if outcome != Outcome::Partial {
            break;
        }
    }
    describe(&head, outcome, message)
}

fn describe(head: &Head<HEAD_MAX>, outcome: Outcome, message: Message) -> String {
    match outcome {
        Outcome::Partial => return "=> partial\n".to_owned(),
        Outcome::Refused(reason) => {
            let reason = Reason::ALL[reason as usize].name();
            return format!("=> refused, {reason}, at byte {}\n", head.position - 1);
        }
        Outcome::Complete => {}
    }
    let mut text = String::new();
    let part = |from: u32, to: u32| {
        String::from_utf8_lossy(&head.bytes[from as usize..to as usize]).into_owned()
    };
    write!(
        text,
        "=> complete, {} bytes, {} headers",
        head.end, head.lines
    )
    .unwrap();
    if message == Message::Request {
        write!(text, ", path {:?}", part(head.target_at, head.path_end)).unwrap();
        write!(text, ", host {:?}", part(head.host_at, head.host_end)).unwrap();
    } else {
        write!(text, ", status {}", head.status).unwrap();
    }
    text.push('\n');
    let flags = [
        (flag::CONTENT_LENGTH, "content-length"),
        (flag::CHUNKED, "chunked"),
        (flag::CONNECTION, "connection"),
        (flag::UPGRADE, "upgrade"),
        (flag::EXPECT, "expect"),
        (flag::HOST, "host"),
        (flag::HEAD_METHOD, "HEAD"),
        (flag::CONNECT_METHOD, "CONNECT"),
    ];
    let set: Vec<&str> = flags
        .iter()
        .filter(|(bit, _)| head.flags & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if !set.is_empty() {
        writeln!(text, "=> flags {}", set.join(" ")).unwrap();
    }
    for found in &head.found[..head.found_count as usize] {
        let name = match found.name {
            support::USER => "end-user",
            support::AGENT => "user-agent",
            other => panic!("a value of name {other} was recorded"),
        };
        writeln!(text, "=> {name} has value {}", found.value).unwrap();
    }
    if message == Message::Request {
        writeln!(text, "=> length {:?}", request_length(head)).unwrap();
    } else {
        writeln!(text, "=> length {:?}", response_length(head, false)).unwrap();
        let to_head = response_length(head, true);
        if to_head != response_length(head, false) {
            writeln!(text, "=> length {to_head:?} to HEAD").unwrap();
        }
    }
    text
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let (byte, length) = match &rest[at + 1..at + 2] {
            "r" => (b'\r', 2),
            "n" => (b'\n', 2),
            "t" => (b'\t', 2),
            "\\" => (b'\\', 2),
            "x" => (u8::from_str_radix(&rest[at + 2..at + 4], 16).unwrap(), 4),
            other => panic!("unknown escape {other:?} in {text:?}"),
        };
        bytes.push(byte);
        rest = &rest[at + length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
