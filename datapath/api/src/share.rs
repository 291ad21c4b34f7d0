//! What pods use of the tables that all pods of a node share.

use crate::pool::bpf_spin_lock;

/// Whether one more may be taken by whom already has `own`, where all together have `all` of `most`: only while it has less than what is
/// left.
///
/// One that takes all it can get comes to a half, two come to a third each: whoever uses little finds room, however many others there are, and
/// nothing has to be set (dynamic thresholds, Choudhury and Hahne 1998).
#[inline(always)]
pub const fn admits(own: u32, all: u32, most: u32) -> bool {
    own < most.saturating_sub(all)
}

/// What all pods use: the one value of `NODE_USE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeUse {
    /// Guards this and every [`PodUse`]; only kernel programs take it.
    pub lock: bpf_spin_lock,
    /// Anchored connections.
    pub connections: u32,
}

/// What a pod uses: value of `POD_USE`, keyed by the pod's number. The controller makes the entry before the pod's programs are attached.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodUse {
    /// Anchored connections: entries of `ANCHORED`, and at most as many of `CLIENTS`, `ANSWERED`, `WAITING` and `SPILLED`.
    pub connections: u32,
    /// 1 once the pod is released: it gets nothing more.
    pub released: u32,
    /// Connections that were refused because the pod had its share.
    pub refused: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes for every one of `greedy` in turns until nobody gets more, then says what each has.
    fn settled(greedy: usize, most: u32) -> [u32; 8] {
        let mut own = [0; 8];
        let mut moved = true;
        while moved {
            moved = false;
            for number in 0..greedy {
                let all = own.iter().sum();
                if admits(own[number], all, most) {
                    own[number] += 1;
                    moved = true;
                }
            }
        }
        own
    }

    #[test]
    fn whoever_uses_little_finds_room_beside_any_number_of_greedy_ones() {
        for greedy in 1..8 {
            let own = settled(greedy, 1000);
            let each = own[0];
            let left = 1000 - own.iter().sum::<u32>();
            assert!(
                each.abs_diff(1000 / (greedy as u32 + 1)) <= 1,
                "{greedy}: {own:?}"
            );
            assert!(left >= each.saturating_sub(1), "{greedy}: {left} are left");
        }
    }

    #[test]
    fn nothing_is_taken_beyond_the_end() {
        assert!(!admits(0, 4, 4) && !admits(0, 5, 4) && admits(0, 3, 4));
    }
}
