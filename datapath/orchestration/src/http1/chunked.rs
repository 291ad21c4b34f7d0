//! Where a chunked body ends (RFC 9112 section 7.1): followed through any split of its bytes, none of which are kept.
//!
//! Data is skipped; only the lines between are looked at, byte by byte. Strict, because a server that reads a line otherwise
//! would see the next request elsewhere: CRLF ends every line, sizes are plain hexadecimal, extensions and trailers hold no
//! control characters. Anything else is a fault, and then the kernel no longer follows the stream.

use kmesh_api::exchange::{Chunks, chunk};

use crate::repeat::{Body, repeat};

/// Looks at bytes of the piece at hand.
pub trait Source {
    /// The byte at `at`, which is below the piece's length; `None` if it cannot be read.
    fn byte(&mut self, at: u32) -> Option<u8>;
}

/// Bytes in memory.
impl Source for &[u8] {
    fn byte(&mut self, at: u32) -> Option<u8> {
        self.get(at as usize).copied()
    }
}

/// What following a piece came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The body's last byte stands before this offset of the piece.
    End(u32),
    /// The piece is used up and the body goes on.
    More,
    /// Not a chunked body, or too many lines in one piece.
    Fault,
}

/// Steps that one piece may take, one for each byte outside of data and one for each run of data: a body of 64 KiB in
/// chunks of 256 bytes takes 2,300. Bounds the time that a sender can make the kernel spend on one call to `send`.
const STEPS_MAX: u32 = 4096;
/// A chunk larger than this has a size that the next digit could overflow.
const SIZE_LIMIT: u64 = 1 << 56;

/// Prepares for the first byte of a body.
#[inline(always)]
pub fn begin(chunks: &mut Chunks) {
    chunks.left = 0;
    chunks.trailers = 0;
    chunks.phase = chunk::SIZE;
}

/// Follows the body through the bytes `from..to` of a piece.
#[inline(always)]
pub fn follow<S: Source>(chunks: &mut Chunks, source: &mut S, from: u32, to: u32) -> Followed {
    chunks.position = from;
    chunks.to = to;
    // Every iteration consumes at least one byte or ends the loop; a piece that takes more is a fault.
    repeat(STEPS_MAX, &mut Follow { chunks, source });
    match chunks.phase {
        chunk::DONE => Followed::End(chunks.position),
        chunk::FAULT => Followed::Fault,
        _ if chunks.position >= to => Followed::More,
        _ => Followed::Fault,
    }
}

struct Follow<'a, S> {
    chunks: &'a mut Chunks,
    source: &'a mut S,
}

impl<S: Source> Body for Follow<'_, S> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let chunks = &mut *self.chunks;
        let position = chunks.position;
        if chunks.phase >= chunk::DONE || position >= chunks.to {
            return false;
        }
        if chunks.phase == chunk::DATA {
            let have = u64::from(chunks.to.wrapping_sub(position));
            let take = if chunks.left < have {
                chunks.left
            } else {
                have
            };
            chunks.left = chunks.left.wrapping_sub(take);
            chunks.position = position.wrapping_add(take as u32);
            if chunks.left == 0 {
                chunks.phase = chunk::DATA_RETURN;
            }
            return true;
        }
        let Some(byte) = self.source.byte(position) else {
            chunks.phase = chunk::FAULT;
            return false;
        };
        chunks.position = position.wrapping_add(1);
        chunks.phase = next(chunks, byte);
        true
    }
}

/// The phase after `byte`.
#[inline(always)]
fn next(chunks: &mut Chunks, byte: u8) -> u32 {
    match chunks.phase {
        chunk::SIZE | chunk::SIZE_MORE => size(chunks, byte),
        chunk::EXTENSION if byte == b'\r' => chunk::SIZE_FEED,
        chunk::EXTENSION if is_text(byte) => chunk::EXTENSION,
        chunk::SIZE_FEED if byte == b'\n' && chunks.left == 0 => chunk::TRAILER,
        chunk::SIZE_FEED if byte == b'\n' => chunk::DATA,
        chunk::DATA_RETURN if byte == b'\r' => chunk::DATA_FEED,
        chunk::DATA_FEED if byte == b'\n' => chunk::SIZE,
        chunk::TRAILER if byte == b'\r' => chunk::LAST_FEED,
        // The first byte of a field line: a name's, so neither white space nor a colon.
        chunk::TRAILER if byte > b' ' && byte != b':' && is_text(byte) => {
            chunks.trailers = 1;
            chunk::TRAILER_LINE
        }
        chunk::TRAILER_LINE if byte == b'\r' => chunk::TRAILER_FEED,
        chunk::TRAILER_LINE if is_text(byte) => chunk::TRAILER_LINE,
        chunk::TRAILER_FEED if byte == b'\n' => chunk::TRAILER,
        chunk::LAST_FEED if byte == b'\n' => chunk::DONE,
        _ => chunk::FAULT,
    }
}

#[inline(always)]
fn size(chunks: &mut Chunks, byte: u8) -> u32 {
    let digit = match byte {
        b'0'..=b'9' => byte & 15,
        b'a'..=b'f' | b'A'..=b'F' => (byte & 7) + 9,
        b'\r' if chunks.phase == chunk::SIZE_MORE => return chunk::SIZE_FEED,
        b';' if chunks.phase == chunk::SIZE_MORE => return chunk::EXTENSION,
        _ => return chunk::FAULT,
    };
    if chunks.left >= SIZE_LIMIT {
        return chunk::FAULT;
    }
    chunks.left = (chunks.left << 4) | u64::from(digit);
    chunk::SIZE_MORE
}

/// What extensions and trailers are made of.
#[inline(always)]
fn is_text(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}
