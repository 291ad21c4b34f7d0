//! A chunked body (RFC 9112 section 7.1), read as Envoy reads it and written anew for hyper.
//!
//! Extensions and trailers are dropped, as Envoy drops them. Lines may end with LF alone where Envoy takes that: behind data
//! and in the trailer section. Unlike Envoy, nothing else may stand between data and the line's end: Envoy skips it,
//! others count it, and a client that relays a stranger's chunks would be in step with only one of them.

use std::io::Write as _;

use super::fields::{self, is_clean};
use super::{HEAD_MAX, Rejection};

/// Where in a body the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// In a size; whether a digit was seen.
    #[default]
    Size,
    /// Behind a size's first digit.
    SizeMore,
    /// Behind a size.
    Extension,
    /// Behind the CR that ends a size line.
    ExtensionFeed,
    /// In data.
    Data,
    /// Behind data.
    DataEnd,
    /// Behind data and a CR.
    DataFeed,
    /// Behind the last chunk.
    Trailers,
}

/// What following a piece came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// The body goes on beyond it.
    More,
    /// The body ends before this offset.
    End(usize),
}

/// A body being followed.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunks {
    phase: Phase,
    /// The size as far as it is read, then what is left of the data.
    left: u64,
    /// The trailer section as far as it is read.
    trailers: Vec<u8>,
    /// Where its last line begins.
    begun: usize,
}

impl Chunks {
    /// Follows the body through `piece`, and writes what hyper is to get of it.
    ///
    /// # Errors
    /// 400 for what is no chunked body, 431 for too long a trailer section.
    pub(super) fn follow(
        &mut self,
        piece: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Followed, Rejection> {
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            match self.phase {
                Phase::Data => at += self.data(&piece[at..], out),
                Phase::Trailers => {
                    let Some(end) = self.trailers(&piece[at..])? else {
                        return Ok(Followed::More);
                    };
                    out.extend_from_slice(b"0\r\n\r\n");
                    return Ok(Followed::End(at + end));
                }
                _ => {
                    self.phase = self.between(byte, out)?;
                    at += 1;
                }
            }
        }
        Ok(Followed::More)
    }

    fn data(&mut self, piece: &[u8], out: &mut Vec<u8>) -> usize {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let count = left.min(piece.len());
        out.extend_from_slice(&piece[..count]);
        self.left -= count as u64;
        if self.left == 0 {
            out.extend_from_slice(b"\r\n");
            self.phase = Phase::DataEnd;
        }
        count
    }

    /// The phase after a byte that is no data.
    fn between(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<Phase, Rejection> {
        match (self.phase, byte) {
            (Phase::Size | Phase::SizeMore, byte) if byte.is_ascii_hexdigit() => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                if self.left >> 60 != 0 {
                    return Err(Rejection::MALFORMED);
                }
                self.left = self.left << 4 | u64::from(digit);
                Ok(Phase::SizeMore)
            }
            (Phase::SizeMore | Phase::Extension, b'\r') => Ok(Phase::ExtensionFeed),
            (Phase::SizeMore, b' ' | b'\t' | b';') => Ok(Phase::Extension),
            (Phase::Extension, byte) if byte != b'\n' => Ok(Phase::Extension),
            (Phase::ExtensionFeed, b'\n') if self.left == 0 => Ok(Phase::Trailers),
            (Phase::ExtensionFeed, b'\n') => {
                // Writing to memory does not fail.
                let _ = write!(out, "{:x}\r\n", self.left);
                Ok(Phase::Data)
            }
            (Phase::DataEnd, b'\r') => Ok(Phase::DataFeed),
            (Phase::DataEnd | Phase::DataFeed, b'\n') => Ok(Phase::Size),
            _ => Err(Rejection::MALFORMED),
        }
    }

    /// Collects the trailer section; where it ends in `piece`.
    fn trailers(&mut self, piece: &[u8]) -> Result<Option<usize>, Rejection> {
        let had = self.trailers.len();
        let room = (HEAD_MAX + 1).saturating_sub(had);
        self.trailers
            .extend_from_slice(&piece[..room.min(piece.len())]);
        let end = fields::end(&self.trailers, &mut self.begun);
        let Some(end) = end else {
            return if self.trailers.len() > HEAD_MAX {
                Err(Rejection::TOO_LARGE)
            } else {
                Ok(None)
            };
        };
        let section = &self.trailers[..end];
        if !is_clean(section) {
            return Err(Rejection::MALFORMED);
        }
        fields::parse(section)?;
        Ok(Some(end - had))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What hyper gets and what is left, however the bytes come; they must not depend on it.
    fn followed(body: &str) -> Result<(String, String), Rejection> {
        let whole = in_pieces(body.as_bytes(), body.len());
        for size in [1, 2, 3, 7] {
            assert_eq!(
                in_pieces(body.as_bytes(), size),
                whole,
                "{body:?} by {size}"
            );
        }
        whole
    }

    fn in_pieces(body: &[u8], size: usize) -> Result<(String, String), Rejection> {
        let (mut chunks, mut out) = (Chunks::default(), Vec::new());
        let mut at = 0;
        for piece in body.chunks(size) {
            match chunks.follow(piece, &mut out)? {
                Followed::More => at += piece.len(),
                Followed::End(end) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    return Ok((text(&out), text(&body[at + end..])));
                }
            }
        }
        panic!("no end: {:?}", String::from_utf8_lossy(body));
    }

    #[test]
    fn bodies_are_written_anew() {
        let both = |out: &str, rest: &str| Ok((out.to_owned(), rest.to_owned()));
        let x = "1\r\nx\r\n0\r\n\r\n";
        for body in [
            "1\r\nx\r\n0\r\n\r\n",
            "1\r\nx\n0\r\n\r\n",
            "1\r\nx\r\n0\r\n\n",
            "01;a=\"b;\0\"\r\nx\r\n00\r\n\r\n",
            "1 \r\nx\r\n0 \t\r\n\r\n",
            "00000000000000000001\r\nx\r\n0\r\na: b\r\nc: d\n\n",
            "1\r\nx\r\n0\r\na: b\r\n c\r\n\r\n",
        ] {
            assert_eq!(followed(body), both(x, ""), "{body:?}");
            assert_eq!(
                followed(&format!("{body}GET")),
                both(x, "GET"),
                "{body:?} and more"
            );
        }
        assert_eq!(
            followed("A\r\n0123456789\r\n2\r\n\r\n\r\n0\r\n\r\n"),
            both("a\r\n0123456789\r\n2\r\n\r\n\r\n0\r\n\r\n", "")
        );
    }

    #[test]
    fn what_is_none_is_refused() {
        for body in [
            "0x1\r\nx\r\n0\r\n\r\n",
            "-1\r\nx\r\n0\r\n\r\n",
            " 1\r\nx\r\n0\r\n\r\n",
            "1_0\r\nx",
            "1\nx\r\n0\r\n\r\n",
            "1;a\nx\r\n0\r\n\r\n",
            "1;a\rx\r\nx\r\n0\r\n\r\n",
            "1\rx\r\n0\r\n\r\n",
            "\r\nx\r\n0\r\n\r\n",
            "10000000000000001\r\nx\r\n0\r\n\r\n",
            "1\r\nxy\r\n0\r\n\r\n",
            "1\r\nx0\r\n\r\n",
            "1\r\nx\r\n0\r\nbroken\r\n\r\n",
            "1\r\nx\r\n0\r\na : b\r\n\r\n",
            "1\r\nx\r\n0\r\n a: b\r\n\r\n",
            "1\r\nx\r\n0\r\na: \0\r\n\r\n",
        ] {
            assert_eq!(followed(body), Err(Rejection::MALFORMED), "{body:?}");
        }
        let long = format!("0\r\na: {}\r\n\r\n", "b".repeat(HEAD_MAX));
        assert_eq!(in_pieces(long.as_bytes(), 1024), Err(Rejection::TOO_LARGE));
    }

    #[test]
    fn the_largest_size_is_taken() {
        let (mut chunks, mut out) = (Chunks::default(), Vec::new());
        let followed = chunks.follow(b"FFFFFFFFFFFFFFFF\r\nab", &mut out);
        assert_eq!(followed, Ok(Followed::More));
        assert_eq!(out, b"ffffffffffffffff\r\nab");
    }
}
