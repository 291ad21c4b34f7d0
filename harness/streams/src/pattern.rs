//! Bytes that know their place: a body's byte at an offset follows from a seed, so that a lost, doubled, moved or foreign
//! byte shows where it happens.
//!
//! Half of the patterns are noise, half are request text: whoever takes body bytes for a message head finds one.

use kmesh_stats::Rng;

/// Bytes made at a time.
const BLOCK: usize = 64;
/// What the text pattern repeats, each time with another number behind it.
const TEXT: &[u8; 48] = b"GET /b/0/ HTTP/1.1\r\nhost:x\r\ncontent-length:9\r\n\r\n";

/// The bytes of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern(u64);

impl Pattern {
    /// The pattern of a seed: request text if the seed is odd, noise if it is even.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Writes the body's bytes from `offset` on.
    pub fn fill(self, offset: u64, bytes: &mut [u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (block, skip) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
            let count = (BLOCK - skip).min(bytes.len() - done);
            bytes[done..done + count].copy_from_slice(&self.block(block)[skip..skip + count]);
            done += count;
        }
    }

    /// Where in the body the first byte stands that is not what it should be; `bytes` stand at `offset`.
    pub fn first_wrong(self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let mut expected = [0; 4096];
        let mut at = offset;
        for piece in bytes.chunks(expected.len()) {
            let expected = &mut expected[..piece.len()];
            self.fill(at, expected);
            if piece != expected {
                let differs = piece.iter().zip(expected).position(|(a, b)| *a != *b);
                return differs.map(|index| at + index as u64);
            }
            at += piece.len() as u64;
        }
        None
    }

    fn block(self, number: u64) -> [u8; BLOCK] {
        let mut rng = Rng::new(self.0 ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        let mut block = [0; BLOCK];
        let noise = if self.0 & 1 == 1 {
            block[..TEXT.len()].copy_from_slice(TEXT);
            &mut block[TEXT.len()..]
        } else {
            &mut block[..]
        };
        for word in noise.chunks_exact_mut(8) {
            word.copy_from_slice(&rng.next_u64().to_le_bytes());
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(pattern: Pattern, offset: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        pattern.fill(offset, &mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn pieces_make_the_whole(seed: u64, offset in 0..10_000_u64, count in 0..9_000_usize, cut in 0..9_000_usize) {
            let whole = bytes(Pattern::new(seed), offset, count);
            let cut = cut.min(count);
            let mut pieces = bytes(Pattern::new(seed), offset, cut);
            pieces.extend(bytes(Pattern::new(seed), offset + cut as u64, count - cut));
            prop_assert_eq!(&whole, &pieces);
            prop_assert_eq!(Pattern::new(seed).first_wrong(offset, &whole), None);
        }

        #[test]
        fn a_changed_byte_is_found_where_it_stands(seed: u64, count in 1..9_000_usize, at: prop::sample::Index, flip in 1..=255_u8) {
            let mut body = bytes(Pattern::new(seed), 7, count);
            let at = at.index(count);
            body[at] ^= flip;
            prop_assert_eq!(Pattern::new(seed).first_wrong(7, &body), Some(7 + at as u64));
        }
    }

    #[test]
    fn bytes_that_moved_are_found() {
        for seed in [2, 3] {
            let body = bytes(Pattern::new(seed), 0, 1000);
            for lost in [1, 16, BLOCK, 2 * BLOCK] {
                let wrong = Pattern::new(seed).first_wrong(0, &body[lost..]);
                assert!(
                    wrong.is_some_and(|at| at < 2 * BLOCK as u64),
                    "{lost} bytes lost: {wrong:?}"
                );
            }
        }
    }
}
