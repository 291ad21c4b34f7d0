//! Eight bytes at a time: what a scanner or a walk does to plain bytes, done to a word of them.
//!
//! The first byte is the lowest. Everything here is exact or says no; what it says no to, a byte-wise step judges.

use kmesh_api::head::Head;

/// Bytes in a word.
pub(crate) const BYTES: u32 = 8;

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES * 0x80;
const LOW: u64 = ONES * 0x7f;

/// The word that has byte `at` in it: its first byte is at the next lower multiple of eight.
#[inline(always)]
pub(crate) fn around<const N: usize>(head: &Head<N>, at: u32) -> u64 {
    let number = (at as usize / 8) & (N / 8 - 1);
    // SAFETY: the head is 8-byte aligned and begins with its N bytes.
    unsafe { (&raw const *head).cast::<u64>().add(number).read() }
}

/// The eight bytes from `at` on; those past `bytes` are whatever follows it in the head. Two aligned loads: BPF has others, but the
/// compiler makes eight of one that might be misaligned.
#[inline(always)]
pub(crate) fn load<const N: usize>(head: &Head<N>, at: u32) -> u64 {
    let number = (at as usize / 8) & (N / 8 - 1);
    // SAFETY: as in `around`, and the bytes are followed by more than eight initialised ones without padding.
    let second = unsafe { (&raw const *head).cast::<u64>().add(number + 1).read() };
    let shift = (at & 7) * 8;
    // In two steps, since a shift by 64 is none.
    (around(head, at) >> shift) | (second << 1 << (63 - shift))
}

/// The same position, of which the verifier no longer knows how many iterations led to it: it follows what comes after a loop once
/// and not once per iteration.
#[inline(always)]
pub(crate) const fn forget<const N: usize>(position: u32) -> u32 {
    position & (2 * N as u32 - 1)
}

/// The high bit of each byte that is at least `least`, which is below 0x80; `word` has no byte above 0x7f.
#[inline(always)]
const fn at_least(word: u64, least: u8) -> u64 {
    word.wrapping_add(ONES * (0x80 - least as u64)) & HIGH
}

/// ASCII lower case, as [`crate::automaton::lower`].
#[inline(always)]
pub(crate) const fn lower(word: u64) -> u64 {
    let low = word & LOW;
    let capital = at_least(low, b'A') & !at_least(low, b'Z' + 1) & !word;
    word | (capital >> 2)
}

/// Whether all bytes are letters, digits, `-` or `.`; with `slash`, or `/`.
#[inline(always)]
pub(crate) const fn is_plain(word: u64, slash: bool) -> bool {
    let low = word & LOW;
    let folded = low | (ONES * 0x20);
    let letter = at_least(folded, b'a') & !at_least(folded, b'z' + 1);
    // From `-` to `9` is `-./0123456789`.
    let digit = at_least(low, b'-') & !at_least(low, b'9' + 1);
    if (letter | digit) & !word & HIGH != HIGH {
        return false;
    }
    let apart = word ^ (ONES * b'/' as u64);
    slash || apart.wrapping_sub(ONES) & !apart & HIGH == 0
}

/// The high bit of each byte that is `byte`.
#[inline(always)]
const fn equals(word: u64, byte: u8) -> u64 {
    let apart = word ^ (ONES * byte as u64);
    !(((apart & LOW) + LOW) | apart) & HIGH
}

/// The high bit of each byte that is a slash or a dot behind a slash; `before` are the bytes that stand one further to the front.
#[inline(always)]
pub(crate) const fn after_slash(word: u64, before: u64) -> u64 {
    // A dot is 0x2e and a slash 0x2f.
    equals(word | ONES, b'/') & equals(before, b'/')
}

/// Whether no byte is a control character. Bytes of 0xff are taken for one.
#[inline(always)]
pub(crate) const fn is_free_of_controls(word: u64) -> bool {
    // Per byte, the high bit says: of `low + 1` that it is delete (0x7f, or 0xff), of `low + 0x60` that it is not below space. No byte
    // carries into the next.
    let low = word & LOW;
    let sound = (low + ONES * 0x60) | word;
    (!sound | (low + ONES)) & HIGH == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte, at every place of a word of other bytes.
    #[test]
    fn a_word_is_what_its_bytes_are() {
        for other in [b'a', b'Z', b'.', b'5'] {
            for byte in 0..=u8::MAX {
                for place in 0..8 {
                    let mut bytes = [other; 8];
                    bytes[place] = byte;
                    let word = u64::from_le_bytes(bytes);
                    let plain = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
                    assert_eq!(is_plain(word, false), plain, "{bytes:?}");
                    assert_eq!(is_plain(word, true), plain || byte == b'/', "{bytes:?}");
                    let control = byte.is_ascii_control() || byte == 0xff;
                    assert_eq!(is_free_of_controls(word), !control, "{bytes:?}");
                    assert_eq!(
                        lower(word).to_le_bytes(),
                        bytes.map(|byte| byte.to_ascii_lowercase())
                    );
                }
            }
        }
    }

    #[test]
    fn what_follows_a_slash_is_found_at_every_place() {
        for place in 1..8 {
            for byte in 0..=u8::MAX {
                let mut bytes = [b'0'; 8];
                bytes[place] = byte;
                bytes[place - 1] = b'/';
                let word = u64::from_le_bytes(bytes);
                let found = matches!(byte, b'.' | b'/');
                let expected = if found { 0x80 << (8 * place) } else { 0 };
                assert_eq!(after_slash(word, word << 8), expected, "{bytes:?}");
                assert_eq!(after_slash(word, 0), 0, "{bytes:?}");
            }
        }
    }

    #[test]
    fn a_word_is_loaded_from_anywhere() {
        let mut head = Head::<64>::new();
        head.bytes = core::array::from_fn(|i| i as u8);
        for at in 0..=56 {
            let expected = core::array::from_fn(|i| (at + i) as u8);
            assert_eq!(load(&head, at as u32).to_le_bytes(), expected);
            let expected = core::array::from_fn(|i| (at / 8 * 8 + i) as u8);
            assert_eq!(around(&head, at as u32).to_le_bytes(), expected);
        }
    }
}
