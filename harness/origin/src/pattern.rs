//! The bytes of generated bodies, and the hash that proves they arrived.
//!
//! Every 16-byte line of the pattern is its own offset in hexadecimal, so a lost, doubled or moved
//! range shows at once and says by how much. `kmesh-load` sends and checks the same bytes.

/// Bytes in one line of the pattern: 15 hex digits of the offset and a line feed.
pub const LINE: usize = 16;

/// The first `len` bytes of the pattern.
pub fn bytes(len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len.next_multiple_of(LINE));
    let mut offset = 0_usize;
    while out.len() < len {
        out.extend_from_slice(format!("{offset:015x}\n").as_bytes());
        offset += LINE;
    }
    out.truncate(len);
    out
}

/// FNV-1a, 64 bit: returned in `x-body-hash` as 16 hex digits.
pub fn fnv64(bytes: &[u8]) -> u64 {
    fnv64_continue(FNV64_START, bytes)
}

/// Hash of the empty string; the start for [`fnv64_continue`].
pub const FNV64_START: u64 = 0xcbf2_9ce4_8422_2325;

/// The hash of what gave `hash` followed by `bytes`.
pub fn fnv64_continue(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_tells_its_offset() {
        let body = bytes(40);
        assert_eq!(&body[..16], b"000000000000000\n");
        assert_eq!(&body[16..32], b"000000000000010\n");
        assert_eq!(&body[32..], b"00000000");
    }

    #[test]
    fn fnv_matches_the_published_vectors() {
        assert_eq!(fnv64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv64(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv64(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
