//! Which segments can be the peer's: whoever does not see a connection cannot guess its numbers (RFC 9293 section 3.10.7.4, RFC 5961).
//!
//! A receiver's own TCP asks the same of what it is handed. This is for what is concluded from a segment on the way there.

/// What both ends of a connection have told each other, by the numbers of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// The byte after the last that the peer sent.
    pub received: u32,
    /// What of it the peer was told last to have arrived.
    pub told: u32,
    /// The byte after the last that went to the peer.
    pub sent: u32,
    /// What of it the peer has acknowledged.
    pub acknowledged: u32,
}

/// Bits of a TCP header.
pub mod flag {
    /// The sender sends no more.
    pub const FIN: u32 = 1;
    /// The connection is over.
    pub const RST: u32 = 4;
    /// The acknowledgement means something.
    pub const ACK: u32 = 16;
}

/// How far a segment may be from what is expected: farther than losses and disorder put it, and one in 2^13 of what can be guessed. What is thrown
/// away wrongly is sent again.
pub const FAR: u32 = 1 << 18;

/// Whether a segment that ends before the byte `end` can be the peer's.
///
/// An old one always can: nothing follows from it. A reset without an acknowledgement answers a segment of ours, by its acknowledgement.
#[inline(always)]
pub const fn can_be_the_peers(numbers: &Numbers, flags: u32, end: u32, acknowledged: u32) -> bool {
    if flags & flag::ACK == 0 {
        return flags & flag::RST != 0 && (end == numbers.received || end == numbers.told);
    }
    let unanswered = numbers.sent.wrapping_sub(numbers.acknowledged);
    if numbers.sent.wrapping_sub(acknowledged) > unanswered.wrapping_add(FAR) {
        return false;
    }
    let ahead = end.wrapping_sub(numbers.received).cast_signed();
    let ends = flags & (flag::FIN | flag::RST) != 0;
    ahead <= MOST && (ahead >= -FAR.cast_signed() || !ends)
}

/// Bytes that come at once at most, a gap before them included.
const MOST: i32 = (FAR + (64 << 10)).cast_signed();

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Numbers = Numbers {
        received: 1000,
        told: 900,
        sent: 50,
        acknowledged: 4_294_967_290,
    };

    fn can(flags: u32, end: u32, acknowledged: u32) -> bool {
        can_be_the_peers(&NUMBERS, flags, end, acknowledged)
    }

    #[test]
    fn what_is_near_can_be_the_peers() {
        for flags in [flag::ACK, flag::ACK | flag::FIN, flag::ACK | flag::RST] {
            for end in [1000, 1000 + 65_536, 900] {
                for acknowledged in [50, 0, 4_294_967_290, 4_294_967_000] {
                    assert!(
                        can(flags, end, acknowledged),
                        "{flags} {end} {acknowledged}"
                    );
                }
            }
        }
        assert!(
            can(flag::ACK, 1000_u32.wrapping_sub(1 << 24), 50),
            "what is old is harmless"
        );
        assert!(can(flag::RST, 1000, 0) && can(flag::RST, 900, 0));
    }

    #[test]
    fn what_is_far_is_a_guess() {
        assert!(
            !can(flag::ACK, 1000, 51),
            "what was not sent is not acknowledged"
        );
        assert!(!can(flag::ACK, 1000, 50_u32.wrapping_sub(1 << 20)));
        assert!(!can(flag::ACK, 1000 + (1 << 20), 50));
        assert!(!can(
            flag::ACK | flag::FIN,
            1000_u32.wrapping_sub(1 << 20),
            50
        ));
        for end in [999, 1001, 901, 0] {
            assert!(!can(flag::RST, end, 50), "{end}");
        }
        assert!(
            !can(0, 1000, 50),
            "every segment acknowledges, after the first"
        );
    }

    #[test]
    fn guesses_fail_but_for_one_in_a_hundred_million() {
        let mut state = 1_u64;
        let hits = (0..1_000_000).filter(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let flags = [flag::ACK | flag::FIN, flag::ACK | flag::RST, flag::RST];
            let flags = flags[(state % 3) as usize];
            can(flags, (state >> 32) as u32, state as u32)
        });
        assert_eq!(hits.count(), 0);
    }
}
