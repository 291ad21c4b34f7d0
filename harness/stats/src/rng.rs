//! A seeded generator, so that resampling and shuffling can be repeated to the bit.
//!
//! SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014):
//! one word of state, passes BigCrush, and never changes under us as a dependency's default might.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose whole sequence follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A uniform index below `bound` (0 when `bound` is 0). The bias of the multiply-shift is below
    /// 2^-32 for every bound used here.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A fair coin.
    pub fn coin(&mut self) -> bool {
        self.next_u64() >> 63 == 1
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_sequence() {
        // First outputs of SplitMix64 seeded with 1234567, as in the reference implementation.
        let mut rng = Rng::new(1_234_567);
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn shuffle_is_a_permutation_and_moves_things() {
        let mut items: Vec<u32> = (0..64).collect();
        Rng::new(7).shuffle(&mut items);
        assert_ne!(items, (0..64).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..64).collect::<Vec<_>>());
    }

    #[test]
    fn below_is_uniform() {
        let mut rng = Rng::new(1);
        let mut hits = [0u32; 6];
        for _ in 0..60_000 {
            hits[rng.below(6)] += 1;
        }
        // Sixth of 60 000 is 10 000; sd is 91, so 5 sd.
        assert!(
            hits.iter().all(|&h| (9_540..10_460).contains(&h)),
            "{hits:?}"
        );
    }
}
