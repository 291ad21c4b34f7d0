//! The books of one block: judges each answer, counts it once, and closes with a [`BlockResult`].

use std::collections::BTreeMap;

use crate::distribution::Recorder;
use crate::plan::SeqCheck;
use crate::request::{SEQ_DIGITS, Template};
use crate::response::Answer;
use crate::result::{BlockResult, ErrorKind, Latency};

/// Wrong answers and errors kept as text.
const MAX_EXAMPLES: usize = 5;

/// One request, as its connection remembers it. Times are nanoseconds on the engine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// Index of the class in the mix.
    pub class: usize,
    /// Sequence number as sent.
    pub seq: [u8; SEQ_DIGITS],
    /// When it was due; equals `start_ns` in a closed loop.
    pub due_ns: u64,
    /// When it started, with its connect if it needed one.
    pub start_ns: u64,
    /// When its bytes were written.
    pub sent_ns: u64,
    /// When the first byte of the answer came; 0 before that.
    pub first_byte_ns: u64,
    /// It belongs to the measured part of the block.
    pub counted: bool,
}

/// Counters and histograms of one block.
#[derive(Debug)]
pub struct Ledger {
    open_loop: bool,
    seq: SeqCheck,
    service: Recorder,
    intended: Recorder,
    connect: Recorder,
    first_byte: Recorder,
    lag: Recorder,
    sent: u64,
    ok: u64,
    dropped: u64,
    /// Bytes no request asked for.
    pub stray_bytes: u64,
    /// Bytes written for counted requests.
    pub bytes_out: u64,
    /// Bytes read for counted requests.
    pub bytes_in: u64,
    wrong: [u64; 4],
    errors: BTreeMap<ErrorKind, u64>,
    statuses: BTreeMap<u16, u64>,
    /// Per class: server and count, the one seen last in front.
    served_by: Vec<Vec<(Vec<u8>, u64)>>,
    last_status: (u16, u64),
    completed_in_window: u64,
    examples: Vec<String>,
}

/// How a complete answer can be wrong, in the order it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Decision,
    Seq,
    Status,
    Body,
}

/// The figures of a block that the ledger does not know itself.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Start of the measured part, nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// Length of the measured part, seconds.
    pub duration_s: f64,
    /// Offered rate, requests per second.
    pub offered_rps: Option<f64>,
    /// CPU time spent on polls that found nothing, microseconds.
    pub spun_us: u64,
}

impl Ledger {
    /// Empty books for a mix of `classes` classes.
    pub fn new(classes: usize, open_loop: bool, seq: SeqCheck) -> Self {
        Self {
            open_loop,
            seq,
            service: Recorder::new(),
            intended: Recorder::new(),
            connect: Recorder::new(),
            first_byte: Recorder::new(),
            lag: Recorder::new(),
            sent: 0,
            ok: 0,
            dropped: 0,
            stray_bytes: 0,
            bytes_out: 0,
            bytes_in: 0,
            wrong: [0; 4],
            errors: BTreeMap::new(),
            statuses: BTreeMap::new(),
            served_by: vec![Vec::new(); classes],
            last_status: (200, 0),
            completed_in_window: 0,
            examples: Vec::new(),
        }
    }

    /// A request starts; `free_since_ns` is when its connection became free.
    pub fn start(&mut self, request: &Request, free_since_ns: u64) {
        if !request.counted {
            return;
        }
        self.sent += 1;
        if self.open_loop {
            self.lag.record(
                request
                    .start_ns
                    .saturating_sub(request.due_ns.max(free_since_ns)),
            );
        }
    }

    /// A request fell due and was never started; when the block ended it had waited `waited_ns`.
    ///
    /// That wait goes into the intended times as the least this request would have taken. Left out, a
    /// server that stalls at the end of a block would look as if it had not.
    pub fn drop_due(&mut self, waited_ns: u64) {
        self.dropped += 1;
        self.intended.record(waited_ns);
    }

    /// A connection for a counted request was opened in so many nanoseconds.
    pub fn connected(&mut self, ns: u64) {
        self.connect.record(ns);
    }

    /// A complete answer arrived at `now_ns`; `in_window` if that is before the end of the block.
    pub fn complete(
        &mut self,
        request: &Request,
        template: &Template,
        answer: &Answer,
        now_ns: u64,
        in_window: bool,
    ) {
        if in_window {
            self.completed_in_window += 1;
        }
        if !request.counted {
            return;
        }
        self.service.record(now_ns - request.start_ns);
        self.first_byte
            .record(request.first_byte_ns.saturating_sub(request.sent_ns));
        if self.open_loop {
            self.intended.record(now_ns - request.due_ns);
        }
        self.count_status(answer.status);
        count_server(&mut self.served_by[request.class], &answer.served_by);
        match self.judge(request, template, answer) {
            None => self.ok += 1,
            Some(wrong) => {
                self.wrong[wrong as usize] += 1;
                if self.examples.len() < MAX_EXAMPLES {
                    let text = describe(wrong, request, template, answer);
                    self.examples.push(text);
                }
            }
        }
    }

    /// A request ended without a complete answer.
    pub fn fail(&mut self, request: &Request, template: &Template, kind: ErrorKind, detail: &str) {
        if !request.counted {
            return;
        }
        *self.errors.entry(kind).or_default() += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples
                .push(format!("{}: {}: {detail}", template.name, kind.name()));
        }
    }

    /// Requests started, right answers, wrong answers and errors so far.
    pub fn counts(&self) -> (u64, u64, u64, u64) {
        (
            self.sent,
            self.ok,
            self.wrong.iter().sum(),
            self.errors.values().sum(),
        )
    }

    /// Service times so far.
    pub fn service(&self) -> &Recorder {
        &self.service
    }

    fn judge(&self, request: &Request, template: &Template, answer: &Answer) -> Option<Wrong> {
        let expect = &template.expect;
        if !expect.is_empty()
            && !expect
                .iter()
                .any(|name| name.as_bytes() == answer.served_by)
        {
            return Some(Wrong::Decision);
        }
        let seq_wrong = if answer.seq.is_empty() {
            self.seq == SeqCheck::Required
        } else {
            self.seq != SeqCheck::Off && answer.seq != request.seq
        };
        if seq_wrong {
            return Some(Wrong::Seq);
        }
        if answer.status != template.status {
            return Some(Wrong::Status);
        }
        let damaged = template.body_hash.is_some()
            && answer.body_hash.is_some()
            && answer.body_hash != template.body_hash;
        (damaged || !answer.body_matches).then_some(Wrong::Body)
    }

    fn count_status(&mut self, status: u16) {
        if self.last_status.0 == status {
            self.last_status.1 += 1;
        } else {
            self.book_status();
            self.last_status = (status, 1);
        }
    }

    fn book_status(&mut self) {
        let (status, count) = self.last_status;
        if status != 0 && count > 0 {
            *self.statuses.entry(status).or_default() += count;
        }
        self.last_status.1 = 0;
    }

    /// Closes the books.
    pub fn close(mut self, templates: &[Template], frame: Frame) -> BlockResult {
        self.book_status();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let served_by = templates
            .iter()
            .zip(&self.served_by)
            .map(|(template, servers)| {
                let mut counts = BTreeMap::new();
                for (server, count) in servers {
                    *counts.entry(text(server)).or_default() += count;
                }
                (template.name.clone(), counts)
            });
        BlockResult {
            started_unix_ns: frame.started_unix_ns,
            duration_s: frame.duration_s,
            offered_rps: frame.offered_rps,
            spun_us: frame.spun_us,
            achieved_rps: if frame.duration_s > 0.0 {
                self.completed_in_window as f64 / frame.duration_s
            } else {
                0.0
            },
            sent: self.sent,
            ok: self.ok,
            dropped: self.dropped,
            wrong_decisions: self.wrong[Wrong::Decision as usize],
            wrong_status: self.wrong[Wrong::Status as usize],
            wrong_seq: self.wrong[Wrong::Seq as usize],
            wrong_body: self.wrong[Wrong::Body as usize],
            stray_bytes: self.stray_bytes,
            errors: self.errors,
            statuses: self.statuses,
            served_by: served_by.collect(),
            connects: self.connect.count(),
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            latency: Latency {
                service: self.service.distribution(),
                intended: self.intended.distribution(),
                connect: self.connect.distribution(),
                first_byte: self.first_byte.distribution(),
                lag: self.lag.distribution(),
            },
            examples: self.examples,
        }
    }
}

/// Few servers answer one class, so a list beats a map; the last one is kept in front.
fn count_server(servers: &mut Vec<(Vec<u8>, u64)>, name: &[u8]) {
    match servers.iter().position(|(known, _)| known == name) {
        Some(at) => servers[at].1 += 1,
        None => servers.push((name.to_vec(), 1)),
    }
}

fn describe(wrong: Wrong, request: &Request, template: &Template, answer: &Answer) -> String {
    let name = &template.name;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match wrong {
        Wrong::Decision => {
            format!(
                "{name}: answered by \"{}\", expected {}",
                text(&answer.served_by),
                template.expect.join(" or ")
            )
        }
        Wrong::Seq => format!(
            "{name}: answer to request \"{}\", asked {}",
            text(&answer.seq),
            text(&request.seq)
        ),
        Wrong::Status => format!(
            "{name}: status {}, expected {} (from \"{}\")",
            answer.status,
            template.status,
            text(&answer.served_by)
        ),
        Wrong::Body => format!(
            "{name}: body of {} bytes is not what was expected, or the request body arrived damaged (from \"{}\")",
            answer.body_len,
            text(&answer.served_by)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, RequestClass};
    use crate::request::seq_digits;

    fn template() -> Template {
        let class = RequestClass {
            expect: vec!["v1".to_owned(), "v2".to_owned()],
            ..RequestClass::get("c", "h", "/")
        };
        Template::all(&Plan::closed(
            vec!["127.0.0.1:1".parse().unwrap()],
            1,
            vec![class],
        ))
        .remove(0)
    }

    fn right() -> (Request, Answer) {
        let request = Request {
            seq: seq_digits(5),
            due_ns: 1_000,
            start_ns: 2_000,
            counted: true,
            ..Request::default()
        };
        let answer = Answer {
            status: 200,
            keep_alive: true,
            served_by: b"v1".to_vec(),
            seq: seq_digits(5).to_vec(),
            body_matches: true,
            ..Answer::default()
        };
        (request, answer)
    }

    fn result(seq: SeqCheck, cases: &[(Request, Answer)]) -> BlockResult {
        let mut ledger = Ledger::new(1, true, seq);
        for (request, answer) in cases {
            ledger.start(request, 0);
            ledger.complete(request, &template(), answer, 102_000, true);
        }
        ledger.close(
            &[template()],
            Frame {
                started_unix_ns: 0,
                duration_s: 1.0,
                offered_rps: None,
                spun_us: 0,
            },
        )
    }

    #[test]
    fn each_way_to_be_wrong_is_counted_once_and_under_its_name() {
        let (request, answer) = right();
        let with = |change: &dyn Fn(&mut Answer)| {
            let mut changed = answer.clone();
            change(&mut changed);
            (request, changed)
        };
        let cases = [
            (request, answer.clone()),
            with(&|a| a.served_by = b"v3".to_vec()),
            with(&|a| a.served_by.clear()),
            with(&|a| a.seq = seq_digits(6).to_vec()),
            with(&|a| a.seq.clear()),
            with(&|a| a.status = 503),
            with(&|a| a.body_matches = false),
        ];
        let r = result(SeqCheck::IfPresent, &cases);
        assert_eq!(
            (
                r.sent,
                r.ok,
                r.wrong_decisions,
                r.wrong_seq,
                r.wrong_status,
                r.wrong_body
            ),
            (7, 2, 2, 1, 1, 1)
        );
        assert_eq!(r.sent, r.ok + r.wrong() + r.errors());
        assert_eq!(r.examples[0], "c: answered by \"v3\", expected v1 or v2");
        assert_eq!(r.statuses, BTreeMap::from([(200, 6), (503, 1)]));
        assert_eq!(result(SeqCheck::Required, &cases).wrong_seq, 2);
        assert_eq!(result(SeqCheck::Off, &cases).wrong_seq, 0);
    }

    #[test]
    fn the_three_clocks_of_a_request_are_kept_apart() {
        let (request, answer) = right();
        let r = result(SeqCheck::IfPresent, &[(request, answer)]);
        assert!((r.latency.service.p50_us - 100.0).abs() < 0.1);
        assert!((r.latency.intended.p50_us - 101.0).abs() < 0.1);
        assert!((r.latency.lag.p50_us - 1.0).abs() < 0.1);
    }

    #[test]
    fn warm_up_is_not_counted() {
        let (request, answer) = right();
        let r = result(
            SeqCheck::IfPresent,
            &[(
                Request {
                    counted: false,
                    ..request
                },
                answer,
            )],
        );
        assert_eq!(
            (r.sent, r.ok, r.latency.service.count, r.statuses.len()),
            (0, 0, 0, 0)
        );
    }
}
