//! Which request class comes next.
//!
//! Weights are kept exactly, not on average: the classes of one cycle (as many requests as the weights
//! add up to) are dealt like a shuffled deck, reshuffled for each cycle. So a run of whole cycles has
//! exactly the stated shares, and any prefix is off by less than one cycle.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

/// Requests in one cycle: the sum of the weights over their greatest common divisor.
pub fn cycle_len(weights: &[u32]) -> u64 {
    let divisor = weights
        .iter()
        .fold(0, |acc, weight| gcd(acc, *weight))
        .max(1);
    weights
        .iter()
        .map(|weight| u64::from(weight / divisor))
        .sum()
}

/// An endless, seeded sequence of class indices.
#[derive(Clone, Debug)]
pub struct Mix {
    deck: Vec<u32>,
    next: usize,
    rng: SmallRng,
    /// Whether each cycle is dealt anew; a replay keeps its order.
    shuffled: bool,
}

impl Mix {
    /// Deals indices `0..weights.len()` by their weights; the same seed gives the same order.
    /// The weights must not all be 0, and `cycle_len(weights)` entries are held in memory.
    pub fn new(weights: &[u32], seed: u64) -> Self {
        let divisor = weights
            .iter()
            .fold(0, |acc, weight| gcd(acc, *weight))
            .max(1);
        let deck: Vec<u32> = weights
            .iter()
            .enumerate()
            .flat_map(|(class, weight)| {
                std::iter::repeat_n(class as u32, (weight / divisor) as usize)
            })
            .collect();
        assert!(!deck.is_empty(), "a mix needs at least one weight above 0");
        let next = deck.len();
        Self {
            deck,
            next,
            rng: SmallRng::seed_from_u64(seed),
            shuffled: true,
        }
    }

    /// Deals `order` as it is, again and again. It must not be empty.
    pub fn in_order(order: Vec<u32>) -> Self {
        assert!(!order.is_empty(), "a replay needs at least one request");
        Self {
            deck: order,
            next: 0,
            rng: SmallRng::seed_from_u64(0),
            shuffled: false,
        }
    }

    /// The class of the next request.
    pub fn deal(&mut self) -> usize {
        if self.deck.len() == 1 {
            return self.deck[0] as usize;
        }
        if self.next == self.deck.len() {
            if self.shuffled {
                self.deck.shuffle(&mut self.rng);
            }
            self.next = 0;
        }
        let class = self.deck[self.next];
        self.next += 1;
        class as usize
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn weights_are_exact_over_every_cycle(weights in prop::collection::vec(1_u32..50, 1..6), seed: u64) {
            let cycle = cycle_len(&weights);
            let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            let mut mix = Mix::new(&weights, seed);
            for _ in 0..3 {
                let mut counts = vec![0_u64; weights.len()];
                for _ in 0..cycle {
                    counts[mix.deal()] += 1;
                }
                for (count, weight) in counts.iter().zip(&weights) {
                    prop_assert_eq!(count * sum, u64::from(*weight) * cycle);
                }
            }
        }

        #[test]
        fn a_seed_fixes_the_order(seed: u64) {
            let (mut a, mut b) = (Mix::new(&[3, 2, 7], seed), Mix::new(&[3, 2, 7], seed));
            for _ in 0..100 {
                prop_assert_eq!(a.deal(), b.deal());
            }
        }
    }

    #[test]
    fn a_replay_keeps_its_order() {
        let mut mix = Mix::in_order(vec![2, 0, 1]);
        let dealt: Vec<usize> = (0..7).map(|_| mix.deal()).collect();
        assert_eq!(dealt, [2, 0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn different_seeds_differ() {
        let order = |seed| {
            let mut mix = Mix::new(&[50, 50], seed);
            (0..64).map(|_| mix.deal()).collect::<Vec<_>>()
        };
        assert_ne!(order(1), order(2));
    }
}
