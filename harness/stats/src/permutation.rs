//! Sign-flip permutation test: if two arms were the same, each block's difference could as well
//! have had the other sign.

use crate::Rng;

/// Blocks up to which every sign pattern is tried; beyond it they are sampled.
const EXACT_BLOCKS: usize = 13;

/// Two-sided p-value of "the differences are symmetric about zero", with the mean as statistic.
///
/// Exact up to 13 blocks (8192 patterns); above, `flips` random patterns (10 000 by convention)
/// and the add-one estimate, so that the answer is never 0. No differences give 1.
pub fn sign_flip(differences: &[f64], flips: usize, seed: u64) -> f64 {
    if differences.is_empty() {
        return 1.0;
    }
    let observed = differences.iter().sum::<f64>().abs();
    // Equal sums must count as "at least as extreme" in spite of rounding.
    let threshold = observed - observed * 1e-12;
    if differences.len() <= EXACT_BLOCKS {
        let patterns = 1u32 << differences.len();
        let extreme = (0..patterns)
            .filter(|pattern| {
                flipped_sum(differences, |i| pattern >> i & 1 == 1).abs() >= threshold
            })
            .count();
        return extreme as f64 / f64::from(patterns);
    }
    let mut rng = Rng::new(seed);
    let extreme = (0..flips)
        .filter(|_| flipped_sum(differences, |_| rng.coin()).abs() >= threshold)
        .count();
    (extreme + 1) as f64 / (flips + 1) as f64
}

fn flipped_sum(differences: &[f64], mut flip: impl FnMut(usize) -> bool) -> f64 {
    differences
        .iter()
        .enumerate()
        .map(|(i, d)| if flip(i) { -d } else { *d })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sided_blocks_give_the_smallest_exact_p() {
        // All eight positive: only the observed pattern and its mirror are as extreme.
        let p = sign_flip(&[1.0; 8], 10_000, 1);
        assert!((p - 2.0 / 256.0).abs() < 1e-12);
    }

    #[test]
    fn balanced_blocks_are_no_evidence() {
        assert!((sign_flip(&[1.0, -1.0, 1.0, -1.0], 10_000, 1) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn sampled_p_is_small_but_never_zero() {
        let p = sign_flip(&[0.1; 40], 10_000, 1);
        assert!(p > 0.0 && p < 0.001);
    }
}
