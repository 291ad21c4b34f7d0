//! Chunked bodies (RFC 9112 section 7.1), fed in pieces of any size.
//!
//! ```text
//! chunked-body = *chunk last-chunk trailer-section CRLF
//! chunk        = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
//! ```
//!
//! Strict where leniency would let two readers disagree about where a message ends: lines end in CRLF,
//! sizes are plain hex digits. Extensions and trailers are skipped, within bounds.

/// Longest size line (size and extensions) and longest trailer section, in bytes.
pub const MAX_LINE_BYTES: usize = 8192;

/// Progress through one chunked body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunked {
    state: State,
    /// Bytes left in this chunk, or the size read so far.
    size: u64,
    /// Bytes of the current line or trailer section.
    line: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    SizeStart,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

/// What one call of [`Chunked::next`] found at the front of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Body bytes.
    Data(&'a [u8]),
    /// The body is complete; what follows belongs to the next message.
    End,
    /// The input is used up.
    More,
}

impl Chunked {
    /// Takes the next piece off the front of `input`.
    ///
    /// # Errors
    /// When the framing is broken; the connection cannot be used any further.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Piece<'a>, ChunkedError> {
        loop {
            if self.state == State::Done {
                return Ok(Piece::End);
            }
            if self.state == State::Data {
                if input.is_empty() {
                    return Ok(Piece::More);
                }
                let take =
                    usize::try_from(self.size).map_or(input.len(), |size| size.min(input.len()));
                let (data, rest) = input.split_at(take);
                *input = rest;
                self.size -= take as u64;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Piece::Data(data));
            }
            let Some((&byte, rest)) = input.split_first() else {
                return Ok(Piece::More);
            };
            *input = rest;
            self.step(byte)?;
        }
    }

    fn step(&mut self, byte: u8) -> Result<(), ChunkedError> {
        self.line += 1;
        if self.line > MAX_LINE_BYTES {
            return Err(ChunkedError::TooLong);
        }
        self.state = match (self.state, byte) {
            (State::SizeStart | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                self.size = self.size.checked_mul(16).ok_or(ChunkedError::Size)? + digit;
                State::Size
            }
            (State::Size | State::Extension, b'\r') => State::SizeLf,
            // Blanks before an extension are "bad whitespace" that a reader must tolerate.
            (State::Size, b';' | b' ' | b'\t') => State::Extension,
            (State::Extension, b) if b == b'\t' || (b >= b' ' && b != 0x7f) => State::Extension,
            (State::SizeLf, b'\n') => {
                self.line = 0;
                if self.size == 0 {
                    State::TrailerStart
                } else {
                    State::Data
                }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line = 0;
                State::SizeStart
            }
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::Trailer, b) if b != b'\n' && b != b'\r' && b != 0 => {
                State::Trailer
            }
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            (State::SizeStart | State::Size, _) => return Err(ChunkedError::Size),
            _ => return Err(ChunkedError::Line),
        };
        Ok(())
    }
}

/// Why a chunked body is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkedError {
    /// A chunk size is missing, not hexadecimal, or above 64 bits.
    #[error("chunk size is not a 64-bit hexadecimal number")]
    Size,
    /// A line of the framing does not end as it must, or holds a control character.
    #[error("chunk framing is broken, is the chunk longer or shorter than its size says?")]
    Line,
    /// A size line or the trailers are above [`MAX_LINE_BYTES`].
    #[error("chunk extension or trailers above {MAX_LINE_BYTES} bytes")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool, usize), ChunkedError> {
        let mut chunked = Chunked::default();
        let (mut body, mut used) = (Vec::new(), 0);
        for piece in pieces {
            let mut input = *piece;
            loop {
                match chunked.next(&mut input)? {
                    Piece::Data(data) => body.extend_from_slice(data),
                    Piece::End => return Ok((body, true, used + piece.len() - input.len())),
                    Piece::More => break,
                }
            }
            used += piece.len();
        }
        Ok((body, false, used))
    }

    #[test]
    fn extensions_and_trailers_are_skipped_and_the_rest_is_left() {
        let wire = b"5;a=\"b\"\r\nhello\r\n6 ;x\r\n world\r\n0\r\nt: 1\r\nu: 2\r\n\r\nGET /";
        assert_eq!(
            decode(&[wire]).unwrap(),
            (b"hello world".to_vec(), true, wire.len() - 5)
        );
    }

    #[test]
    fn broken_framing_is_refused() {
        let cases: [(&[u8], ChunkedError); 10] = [
            (b"\r\n", ChunkedError::Size),
            (b"g\r\n", ChunkedError::Size),
            (b"0x5\r\n", ChunkedError::Size),
            (b"-5\r\n", ChunkedError::Size),
            (b" 5\r\n", ChunkedError::Size),
            (b"11111111111111111\r\n", ChunkedError::Size),
            (b"5\nhello\r\n", ChunkedError::Size),
            (b"5\r\nhelloo\r\n", ChunkedError::Line),
            (b"5;\0\r\n", ChunkedError::Line),
            (b"0\r\na\nb\r\n\r\n", ChunkedError::Line),
        ];
        for (wire, error) in cases {
            assert_eq!(
                decode(&[wire]),
                Err(error),
                "{:?}",
                String::from_utf8_lossy(wire)
            );
        }
        let long = format!("5;{}\r\n", "x".repeat(MAX_LINE_BYTES));
        assert_eq!(decode(&[long.as_bytes()]), Err(ChunkedError::TooLong));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_body(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x};e=1\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\nx: y\r\n\r\n");
            let mut at: Vec<usize> = cuts.iter().map(|c| c.index(wire.len())).collect();
            at.extend([0, wire.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|w| &wire[w[0]..w[1]]).collect();
            prop_assert_eq!(decode(&pieces).unwrap(), (chunks.concat(), true, wire.len()));
        }
    }
}
