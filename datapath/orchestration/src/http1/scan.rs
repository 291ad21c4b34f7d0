//! The head scanner: one pass over the bytes, resumable at any byte, nothing allocated.
//!
//! It accepts the canonical form of RFC 9112 (CRLF line ends, no folding, one Host) and leaves everything else to user
//! space with a reason: what the kernel is not certain of, it does not decide. Header names are looked up in the image's
//! name automaton while they are read, and values that a route asks about in their own automaton.

use kmesh_api::head::{Found, Head, flag, phase};
use kmesh_api::limits::{FOUND_MAX, HEADERS_MAX, NAMES_MAX};
use kmesh_api::route::name;
use kmesh_api::{Image, Reason};

use super::bytes::{AUTHORITY, PLAIN_TARGET, PLAIN_VALUE, TOKEN, VISIBLE, is};
use super::target;
use crate::automaton::{DEAD, lower, node, step};
use crate::repeat::{Body, repeat};
use crate::word::{self, forget};

/// Bytes that one iteration consumes at most before its single step: enough for most names and hosts, and little enough
/// for the verifier, which follows each of them.
const RUN: u32 = 16;
/// Words that one iteration skips at most of a value: 256 bytes.
const WORDS: u32 = 32;
/// Words that one iteration takes at most of a name, a host or a target.
const PLAIN_WORDS: u32 = 4;
/// Bytes that may be left behind the last whole word.
const REST: u32 = 7;

/// What a scan came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The head is complete: [`Head::end`] bytes.
    Complete,
    /// More bytes are needed.
    Partial,
    /// The kernel does not decide on this head.
    Refused(u32),
}

/// Largest content length the framing counts with; larger ones are user space's to refuse.
const CONTENT_LENGTH_LIMIT: u64 = 1 << 56;

/// `HTTP/1.1`, first byte lowest.
const VERSION: u64 = u64::from_le_bytes(*b"HTTP/1.1");

/// Volatile, or the compiler makes one call to `memset` of the stores, and BPF has only one that goes byte by byte (28 ns here).
#[inline(always)]
fn clear<T: Copy + Default>(field: &mut T) {
    // SAFETY: an exclusive reference is valid for a write.
    unsafe { core::ptr::write_volatile(field, T::default()) };
}

#[inline(always)]
fn reset<const N: usize>(head: &mut Head<N>, start: u32) {
    head.phase = start;
    clear(&mut head.position);
    clear(&mut head.fault);
    clear(&mut head.flags);
    clear(&mut head.end);
    clear(&mut head.target_at);
    clear(&mut head.path_end);
    clear(&mut head.target_end);
    clear(&mut head.host_at);
    clear(&mut head.host_end);
    clear(&mut head.mark);
    clear(&mut head.lines);
    clear(&mut head.status);
    clear(&mut head.content_length);
    clear(&mut head.found_count);
    clear(&mut head.connection_at);
}

/// Prepares `head` for a request; the caller fills `bytes` and `length`.
#[inline(always)]
pub fn begin_request<const N: usize>(head: &mut Head<N>) {
    reset(head, phase::METHOD);
}

/// Prepares `head` for a response; the caller fills `bytes` and `length`.
#[inline(always)]
pub fn begin_response<const N: usize>(head: &mut Head<N>) {
    reset(head, phase::VERSION);
}

/// Scans as far as the bytes go. May be called again after more bytes were appended.
#[inline(always)]
pub fn scan<const N: usize>(image: &Image, head: &mut Head<N>) -> Outcome {
    // Every iteration consumes at least one of at most N bytes or ends the loop.
    repeat(N as u32, &mut Scan { image, head });
    if head.phase == phase::DONE {
        target::look_up(image, head);
    }
    match head.phase {
        phase::DONE => Outcome::Complete,
        phase::FAULT => Outcome::Refused(head.fault),
        _ => Outcome::Partial,
    }
}

/// Forgets the bytes of a response's head that were scanned, so that the buffer can hold the next ones; what they said is kept. Positions are
/// counted from the next byte on then, [`Head::end`] too. Nothing asks where something stands in a response's head.
#[inline(always)]
pub fn slide<const N: usize>(head: &mut Head<N>) {
    let by = head.position;
    head.mark = head.mark.wrapping_sub(by);
    head.value_end = head.value_end.wrapping_sub(by);
    head.position = 0;
    head.length = 0;
}

/// Leaves the head to user space.
#[inline(always)]
pub(super) fn refuse<const N: usize>(head: &mut Head<N>, reason: Reason) {
    head.fault = reason as u32;
    head.phase = phase::FAULT;
}

struct Scan<'a, const N: usize> {
    image: &'a Image,
    head: &'a mut Head<N>,
}

impl<const N: usize> Body for Scan<'_, N> {
    /// Takes a whole line in one iteration if nothing in it is unusual: each phase takes a run of plain bytes, then the one
    /// byte that may end the phase, and the next phase continues at once.
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let before = self.head.position;
        if self.head.phase < phase::LINE {
            self.first_line();
        }
        if let Some((byte, _)) = self.next(phase::LINE_FEED) {
            self.expect(byte, b'\n', phase::LINE);
        }
        if let Some((byte, position)) = self.next(phase::LINE) {
            self.line(byte, position);
        }
        self.name_run();
        if let Some((byte, _)) = self.next(phase::NAME) {
            self.name(byte);
        }
        for _ in 0..2 {
            if let Some((byte, position)) = self.next(phase::VALUE_START) {
                self.value_start(byte, position);
            }
        }
        self.value_run();
        if let Some((byte, position)) = self.next(phase::VALUE) {
            self.value(byte, position);
        }
        self.skip_run();
        if let Some((byte, _)) = self.next(phase::SKIP) {
            self.skip(byte);
        }
        if let Some((byte, _)) = self.next(phase::LAST_LINE_FEED) {
            self.last_line_feed(byte);
        }
        self.head.phase < phase::DONE && self.head.position != before
    }
}

/// Looks for an earlier line of a header.
pub(super) struct Earlier<'a, const N: usize> {
    pub(super) head: &'a Head<N>,
    pub(super) name: u32,
    /// Its place in `found` plus one.
    pub(super) place: &'a mut u32,
}

impl<const N: usize> Body for Earlier<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        if index >= self.head.found_count {
            return false;
        }
        if self.head.found[index as usize & (FOUND_MAX - 1)].name == self.name {
            *self.place = index.wrapping_add(1);
            return false;
        }
        true
    }
}

impl<const N: usize> Scan<'_, N> {
    /// The next byte and where it stands, if there is one and the scanner is in `phase`.
    #[inline(always)]
    fn next(&mut self, phase: u32) -> Option<(u8, u32)> {
        let position = self.head.position;
        if self.head.phase != phase || position >= self.head.length {
            return None;
        }
        self.head.position = position.wrapping_add(1);
        Some((self.head.bytes[position as usize & (N - 1)], position))
    }

    /// A request line or a status line.
    #[inline(always)]
    fn first_line(&mut self) {
        for _ in 0..4 {
            if let Some((byte, position)) = self.next(phase::METHOD) {
                self.method(byte, position);
            }
        }
        self.target_run();
        if let Some((byte, position)) = self.next(phase::TARGET) {
            self.target(byte, position);
        }
        self.version_run();
        if let Some((byte, position)) = self.next(phase::VERSION) {
            self.version(byte, position);
        }
        for _ in 0..4 {
            if let Some((byte, position)) = self.next(phase::STATUS) {
                self.status(byte, position);
            }
        }
        for _ in 0..4 {
            if let Some((byte, _)) = self.next(phase::REASON_PHRASE) {
                self.reason_phrase(byte);
            }
        }
    }

    #[inline(always)]
    fn refuse(&mut self, reason: Reason) {
        refuse(self.head, reason);
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8, wanted: u8, next: u32) {
        if byte == wanted {
            self.head.phase = next;
        } else {
            self.refuse(Reason::Malformed);
        }
    }

    /// Consumes what `target` would take without a change of phase.
    #[inline(always)]
    fn target_run(&mut self) {
        let mut position = self.head.position;
        if self.head.phase != phase::TARGET || position == self.head.target_at {
            return;
        }
        position = self.plain_words(position, PLAIN_WORDS, true);
        self.head.position = self.run_of(PLAIN_TARGET, position, RUN);
    }

    /// The end of as many plain words from `position` on as there are, at most `most`; with `slash`, such as have slashes too.
    #[inline(always)]
    fn plain_words(&self, mut position: u32, most: u32, slash: bool) -> u32 {
        for _ in 0..most {
            if !self.whole_word(position) || !word::is_plain(word::load(self.head, position), slash)
            {
                break;
            }
            position = position.wrapping_add(word::BYTES);
        }
        forget::<N>(position)
    }

    /// The end of as many bytes of `class` from `position` on as there are, at most `most`.
    #[inline(always)]
    fn run_of(&self, class: u8, mut position: u32, most: u32) -> u32 {
        for _ in 0..most {
            let byte = self.head.bytes[position as usize & (N - 1)];
            if position >= self.head.length || !is(byte, class) {
                break;
            }
            position = position.wrapping_add(1);
        }
        position
    }

    /// Whether eight bytes from `position` on are there.
    #[inline(always)]
    fn whole_word(&self, position: u32) -> bool {
        position.wrapping_add(word::BYTES) <= self.head.length
    }

    /// Consumes the version if it is the one that `version` takes.
    #[inline(always)]
    fn version_run(&mut self) {
        let mut position = self.head.position;
        if self.head.phase != phase::VERSION || position != self.head.mark {
            return;
        }
        let mut rest = VERSION;
        for _ in 0..8 {
            let byte = self.head.bytes[position as usize & (N - 1)];
            if position >= self.head.length || byte != rest as u8 {
                break;
            }
            rest >>= 8;
            position = position.wrapping_add(1);
        }
        self.head.position = position;
    }

    /// Consumes what `name` would take without a change of phase.
    #[inline(always)]
    fn name_run(&mut self) {
        if self.head.phase != phase::NAME {
            return;
        }
        let mut position = self.head.position;
        let mut node = self.head.node;
        for _ in 0..RUN {
            let byte = self.head.bytes[position as usize & (N - 1)];
            if position >= self.head.length || !is(byte, TOKEN) || node == DEAD {
                break;
            }
            node = step(self.image, node, lower(byte));
            position = position.wrapping_add(1);
        }
        self.head.node = node;
        position = forget::<N>(position);
        if node == DEAD {
            position = self.plain_words(position, PLAIN_WORDS, false);
            position = self.run_of(TOKEN, position, REST);
        }
        self.head.position = position;
    }

    /// Consumes what `value` would take of a host, or of a value in an automaton, without a change of phase.
    #[inline(always)]
    fn value_run(&mut self) {
        let known = self.head.name;
        if self.head.phase != phase::VALUE || known == name::CONTENT_LENGTH {
            return;
        }
        let mut position = self.head.position;
        if known == name::HOST {
            if position != self.head.host_end {
                return;
            }
            position = self.plain_words(position, 2 * PLAIN_WORDS, false);
            position = self.run_of(AUTHORITY, position, REST);
            self.head.host_end = position;
            self.head.position = position;
            return;
        }
        let fold = known < name::CONFIGURED;
        let mut node = self.head.node;
        let before = position;
        for _ in 0..RUN {
            let byte = self.head.bytes[position as usize & (N - 1)];
            if position >= self.head.length || !is(byte, VISIBLE) {
                break;
            }
            if node != DEAD {
                node = step(self.image, node, if fold { lower(byte) } else { byte });
            }
            position = position.wrapping_add(1);
        }
        if position != before {
            self.head.node = node;
            self.head.value_node = node;
            self.head.value_end = position;
            self.head.position = position;
        }
    }

    /// Consumes what `skip` would take without a change of phase: bytes up to a word's boundary, whole words, more bytes. Three
    /// loops, because one that chooses at each step has paths for the verifier to follow that double with each.
    #[inline(always)]
    fn skip_run(&mut self) {
        if self.head.phase != phase::SKIP {
            return;
        }
        let mut position = self.head.position;
        for _ in 0..REST {
            if position.is_multiple_of(8) || !self.plain_byte(position) {
                break;
            }
            position = position.wrapping_add(1);
        }
        position = forget::<N>(position);
        if position.is_multiple_of(8) {
            for _ in 0..WORDS {
                if !self.plain_word(position) {
                    break;
                }
                position = position.wrapping_add(8);
            }
            position = forget::<N>(position);
            for _ in 0..REST {
                if !self.plain_byte(position) {
                    break;
                }
                position = position.wrapping_add(1);
            }
        }
        self.head.position = position;
    }

    /// Whether there is a byte at `position` that values are made of.
    #[inline(always)]
    fn plain_byte(&self, position: u32) -> bool {
        let byte = self.head.bytes[position as usize & (N - 1)];
        position < self.head.length && is(byte, PLAIN_VALUE)
    }

    /// Whether the eight bytes at `position` (a multiple of 8) are all there and free of control characters.
    #[inline(always)]
    fn plain_word(&self, position: u32) -> bool {
        self.whole_word(position) && word::is_free_of_controls(word::around(self.head, position))
    }

    /// Only the methods that every HTTP/1 server knows; Envoy refuses most others, and user space knows which.
    #[inline(always)]
    fn method(&mut self, byte: u8, position: u32) {
        const GET: u64 = u64::from_le_bytes(*b"GET\0\0\0\0\0");
        const HEAD: u64 = u64::from_le_bytes(*b"HEAD\0\0\0\0");
        const POST: u64 = u64::from_le_bytes(*b"POST\0\0\0\0");
        const PUT: u64 = u64::from_le_bytes(*b"PUT\0\0\0\0\0");
        const DELETE: u64 = u64::from_le_bytes(*b"DELETE\0\0");
        const OPTIONS: u64 = u64::from_le_bytes(*b"OPTIONS\0");
        const PATCH: u64 = u64::from_le_bytes(*b"PATCH\0\0\0");
        const CONNECT: u64 = u64::from_le_bytes(*b"CONNECT\0");
        if byte != b' ' {
            if position >= 7 || !byte.is_ascii_uppercase() {
                self.refuse(Reason::Malformed);
            }
            return;
        }
        let first = word::around(self.head, 0);
        let method = first & ((1 << (8 * (position & 7))) - 1);
        if method == HEAD {
            self.head.flags |= flag::HEAD_METHOD;
        } else if method == CONNECT {
            self.head.flags |= flag::CONNECT_METHOD;
        } else if method != GET
            && method != POST
            && method != PUT
            && method != DELETE
            && method != OPTIONS
            && method != PATCH
        {
            self.refuse(Reason::Malformed);
            return;
        }
        self.head.target_at = self.head.position;
        self.head.phase = phase::TARGET;
    }

    /// Origin form only (RFC 9112 section 3.2.1), without a fragment, of the bytes that RFC 3986 knows and, in the path, quotes: as much
    /// as user space's library can carry.
    #[inline(always)]
    fn target(&mut self, byte: u8, position: u32) {
        let first = position == self.head.target_at;
        if byte <= b' ' {
            if byte != b' ' || first {
                return self.refuse(Reason::Malformed);
            }
            if self.head.path_end == 0 {
                self.head.path_end = position;
            }
            self.head.target_end = position;
            self.head.mark = self.head.position;
            self.head.phase = phase::VERSION;
        } else if first && byte != b'/' {
            self.refuse(Reason::Malformed);
        } else if byte == b'?' {
            if self.head.path_end == 0 {
                self.head.path_end = position;
            }
        } else if !is(byte, PLAIN_TARGET) && (byte != b'"' || self.head.path_end != 0) {
            self.refuse(Reason::Malformed);
        }
    }

    #[inline(always)]
    fn version(&mut self, byte: u8, position: u32) {
        let at = position.wrapping_sub(self.head.mark);
        if at < 8 {
            if byte != (VERSION >> (8 * (at & 7))) as u8 {
                self.refuse(Reason::Version);
            }
        } else if self.head.target_at == 0 {
            self.expect(byte, b' ', phase::STATUS);
            self.head.mark = self.head.position;
        } else {
            self.expect(byte, b'\r', phase::LINE_FEED);
        }
    }

    #[inline(always)]
    fn status(&mut self, byte: u8, position: u32) {
        let at = position.wrapping_sub(self.head.mark);
        if at == 3 {
            if byte == b'\r' {
                self.head.phase = phase::LINE_FEED;
            } else {
                self.expect(byte, b' ', phase::REASON_PHRASE);
            }
        } else if byte.is_ascii_digit() {
            self.head.status = (self.head.status * 10).wrapping_add(u32::from(byte & 15));
        } else {
            self.refuse(Reason::Malformed);
        }
    }

    #[inline(always)]
    fn reason_phrase(&mut self, byte: u8) {
        if byte == b'\r' {
            self.head.phase = phase::LINE_FEED;
        } else if byte < b' ' && byte != b'\t' {
            self.refuse(Reason::Malformed);
        }
    }

    #[inline(always)]
    fn line(&mut self, byte: u8, position: u32) {
        if byte == b'\r' {
            self.head.phase = phase::LAST_LINE_FEED;
            return;
        }
        self.head.lines = self.head.lines.wrapping_add(1);
        if self.head.lines > HEADERS_MAX {
            return self.refuse(Reason::TooManyHeaders);
        }
        self.head.mark = position;
        self.head.node = self.image.names_root;
        self.head.phase = phase::NAME;
        // White space here is a folded line, a colon an empty name: `name` refuses both.
        self.name(byte);
    }

    #[inline(always)]
    fn name(&mut self, byte: u8) {
        if byte == b':' {
            if self.head.position == self.head.mark.wrapping_add(1) {
                return self.refuse(Reason::Malformed);
            }
            self.head.name = node(self.image, self.head.node).end;
            self.head.phase = phase::VALUE_START;
        } else if is(byte, TOKEN) {
            self.head.node = step(self.image, self.head.node, lower(byte));
        } else {
            self.refuse(Reason::Malformed);
        }
    }

    #[inline(always)]
    fn value_start(&mut self, byte: u8, position: u32) {
        if byte == b' ' || byte == b'\t' {
            return;
        }
        if self.head.name == 0 {
            self.head.phase = phase::SKIP;
            return self.skip(byte);
        }
        self.head.mark = position;
        self.head.value_end = position;
        self.head.node = self.image.names[self.head.name as usize & (NAMES_MAX - 1)].values;
        self.head.value_node = self.head.node;
        self.head.phase = phase::VALUE;
        match self.head.name {
            name::HOST => {
                if self.head.flags & flag::HOST != 0 {
                    return self.refuse(Reason::Malformed);
                }
                self.head.flags |= flag::HOST;
                self.head.host_at = position;
                self.head.host_end = position;
            }
            name::CONTENT_LENGTH => {
                if self.head.flags & flag::CONTENT_LENGTH != 0 || byte == b'\r' {
                    return self.refuse(Reason::Malformed);
                }
                self.head.flags |= flag::CONTENT_LENGTH;
            }
            name::CONNECTION => {
                if self.head.connection_at != 0 {
                    // Two lines may say two things; user space joins them.
                    self.head.flags |= flag::CONNECTION;
                }
                self.head.connection_at = position;
            }
            known if known >= name::CONFIGURED => self.join(known),
            _ => {}
        }
        self.value(byte, position);
    }

    /// Lets the value continue an earlier line's, if all lines of the header count as one value.
    ///
    /// Envoy, `HeaderMapImpl::appendToHeader`: a comma goes between two values, but nothing is appended to or by an empty one.
    #[inline(always)]
    fn join(&mut self, known: u32) {
        self.head.joined = 0;
        if self.image.names[known as usize & (NAMES_MAX - 1)].joined == 0 {
            return;
        }
        let mut earlier = 0;
        repeat(
            FOUND_MAX as u32,
            &mut Earlier {
                head: self.head,
                name: known,
                place: &mut earlier,
            },
        );
        if earlier != 0 {
            let before = self.head.found[earlier.wrapping_sub(1) as usize & (FOUND_MAX - 1)].node;
            self.head.joined = earlier;
            self.head.value_node = before;
            if before != self.head.node {
                self.head.node = step(self.image, before, b',');
            }
        }
    }

    #[inline(always)]
    fn value(&mut self, byte: u8, position: u32) {
        if byte == b'\r' {
            return self.header();
        }
        if byte < b' ' && byte != b'\t' || byte == 0x7f {
            return self.refuse(Reason::Malformed);
        }
        let known = self.head.name;
        let white = byte == b' ' || byte == b'\t';
        if known == name::CONTENT_LENGTH {
            let length = self.head.content_length;
            if !byte.is_ascii_digit() || length >= CONTENT_LENGTH_LIMIT {
                return self.refuse(Reason::Malformed);
            }
            self.head.content_length = length * 10 + u64::from(byte & 15);
            return;
        }
        if known == name::HOST {
            if white {
                // Trailing white space is left out; inside a host, user space judges.
                return;
            }
            if position != self.head.host_end || !is(byte, AUTHORITY) {
                return self.refuse(Reason::Malformed);
            }
            self.head.host_end = self.head.position;
            return;
        }
        let byte = if known < name::CONFIGURED {
            lower(byte)
        } else {
            byte
        };
        self.head.node = step(self.image, self.head.node, byte);
        if !white {
            self.head.value_node = self.head.node;
            self.head.value_end = position.wrapping_add(1);
        }
    }

    #[inline(always)]
    fn skip(&mut self, byte: u8) {
        if byte == b'\r' {
            self.head.phase = phase::LINE_FEED;
        } else if byte < b' ' && byte != b'\t' || byte == 0x7f {
            self.refuse(Reason::Malformed);
        }
    }

    /// A header of interest is complete.
    #[inline(always)]
    fn header(&mut self) {
        self.head.phase = phase::LINE_FEED;
        let value = node(self.image, self.head.value_node).end;
        match self.head.name {
            name::HOST | name::CONTENT_LENGTH => {}
            name::TRANSFER_ENCODING => {
                if value != name::VALUE_CHUNKED || self.head.flags & flag::CHUNKED != 0 {
                    return self.refuse(Reason::TransferEncoding);
                }
                self.head.flags |= flag::CHUNKED;
            }
            name::CONNECTION => {
                if value != name::VALUE_KEEP_ALIVE {
                    self.head.flags |= flag::CONNECTION;
                }
            }
            name::UPGRADE => self.head.flags |= flag::UPGRADE,
            name::EXPECT => self.head.flags |= flag::EXPECT,
            known => {
                let mut found = Found {
                    name: known,
                    value,
                    node: self.head.value_node,
                    at: self.head.mark,
                    end: self.head.value_end,
                };
                let joined = self.head.joined;
                if joined != 0 {
                    let before =
                        &mut self.head.found[joined.wrapping_sub(1) as usize & (FOUND_MAX - 1)];
                    if found.at == found.end {
                        found.at = before.at;
                        found.end = before.end;
                    } else if before.at != before.end {
                        found.end = Found::SEVERAL;
                    }
                    *before = found;
                    return;
                }
                let count = self.head.found_count;
                if count >= FOUND_MAX as u32 {
                    return self.refuse(Reason::TooManyHeaders);
                }
                self.head.found[count as usize & (FOUND_MAX - 1)] = found;
                self.head.found_count = count.wrapping_add(1);
            }
        }
    }

    #[inline(always)]
    fn last_line_feed(&mut self, byte: u8) {
        let both = flag::CHUNKED | flag::CONTENT_LENGTH;
        if byte != b'\n' || self.head.flags & both == both {
            return self.refuse(Reason::Malformed);
        }
        self.head.end = self.head.position;
        self.head.phase = phase::DONE;
    }
}
