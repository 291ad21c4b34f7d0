//! Wilcoxon's signed-rank test and its inversion: how far have differences moved from zero, and is
//! that more than chance?
//!
//! The estimate is Hodges and Lehmann's (median of all pairwise means), its interval are two order
//! statistics of the same means, and the p-value is the test that this interval inverts: the three
//! never contradict each other. It needs differences symmetric about their centre, which paired
//! differences of exchangeable cells are, and no shape beyond that: one block with a stall of half a
//! second weighs as much as one rank. That is why the gate uses it instead of means, and instead of
//! the median alone, whose interval is a fifth wider.

use crate::{Error, Interval};

/// Up to this many differences the null distribution is counted out; above, the normal
/// approximation is within 0.003.
const EXACT: usize = 40;

/// The Hodges-Lehmann shift of `differences` with its interval at `level` (0 to 1).
///
/// With too few differences for the level (five for 95 %) the interval is as wide as the data.
///
/// # Errors
/// [`Error::Empty`] without differences.
pub fn shift(differences: &[f64], level: f64) -> Result<Interval, Error> {
    if differences.is_empty() {
        return Err(Error::Empty);
    }
    let walsh = walsh_averages(differences);
    let outside = critical(differences.len(), (1.0 - level) / 2.0);
    let last = walsh.len() - 1;
    // `outside` averages lie beyond each bound; the interval is open there, so the next one is in.
    let cut = outside.min(last / 2);
    Ok(Interval {
        point: f64::midpoint(walsh[last / 2], walsh[walsh.len() / 2]),
        lo: walsh[cut],
        hi: walsh[last - cut],
    })
}

/// One-sided p-value of "the centre of `differences` is at most `bound`": small when they are above it.
/// Differences equal to the bound count half on either side. No differences give 1.
pub fn p_above(differences: &[f64], bound: f64) -> f64 {
    let n = differences.len();
    if n == 0 {
        return 1.0;
    }
    let mut moved: Vec<f64> = differences.iter().map(|d| d - bound).collect();
    moved.sort_unstable_by(|a, b| a.abs().total_cmp(&b.abs()));
    let positive = positive_ranks(&moved);
    // P(W+ >= observed) = P(W+ <= total - observed), by symmetry of the null distribution.
    let total = (n * (n + 1) / 2) as f64;
    at_most(n, total - positive)
}

/// Sum of the ranks of positive values; `sorted` by magnitude. Ties share their mean rank.
fn positive_ranks(sorted: &[f64]) -> f64 {
    let mut sum = 0.0;
    let mut start = 0;
    while start < sorted.len() {
        let magnitude = sorted[start].abs();
        let end = start
            + sorted[start..]
                .iter()
                .take_while(|value| value.abs() <= magnitude)
                .count();
        let rank = (start + 1 + end) as f64 / 2.0;
        for value in &sorted[start..end] {
            sum += rank
                * match value {
                    v if *v > 0.0 => 1.0,
                    v if *v < 0.0 => 0.0,
                    _ => 0.5,
                };
        }
        start = end;
    }
    sum
}

/// All pairwise means, each value with itself included, in ascending order.
fn walsh_averages(values: &[f64]) -> Vec<f64> {
    let mut walsh = Vec::with_capacity(values.len() * (values.len() + 1) / 2);
    for (i, a) in values.iter().enumerate() {
        for b in &values[i..] {
            walsh.push(f64::midpoint(*a, *b));
        }
    }
    walsh.sort_unstable_by(f64::total_cmp);
    walsh
}

/// The largest number of averages beyond a bound such that the tail has at most `tail`.
fn critical(n: usize, tail: f64) -> usize {
    let total = n * (n + 1) / 2;
    // P(W <= k-1) <= tail lets k averages lie outside.
    let (mut low, mut high) = (0, total);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if at_most(n, middle as f64 - 1.0) <= tail {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

/// P(W+ <= `sum`) for `n` differences when each sign is a coin.
fn at_most(n: usize, sum: f64) -> f64 {
    let total = n * (n + 1) / 2;
    if sum < 0.0 {
        return 0.0;
    }
    if sum >= total as f64 {
        return 1.0;
    }
    if n > EXACT {
        let size = n as f64;
        let mean = size * (size + 1.0) / 4.0;
        let deviation = (size * (size + 1.0) * (2.0 * size + 1.0) / 24.0).sqrt();
        return normal_below((sum + 0.5 - mean) / deviation);
    }
    // Subsets of 1..=n by their sum.
    let mut ways = vec![0.0; total + 1];
    ways[0] = 1.0;
    for rank in 1..=n {
        for at in (rank..=total).rev() {
            ways[at] += ways[at - rank];
        }
    }
    let below: f64 = ways[..=sum.floor() as usize].iter().sum();
    below / 2f64.powi(n as i32)
}

/// Standard normal distribution function; absolute error below 1.2e-7 (Numerical Recipes, erfc by
/// a Chebyshev fit).
pub(crate) fn normal_below(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x);
    let fit = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let polynomial = fit.iter().rev().fold(0.0, |sum, c| sum * t + c);
    let tail = 0.5 * t * (-x * x + polynomial).exp();
    if z > 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_samples_follow_the_published_table() {
        // Wilcoxon's table: for n = 10 a one-sided 2.5 % test rejects at W <= 8, for n = 20 at 52.
        assert!(at_most(10, 8.0) <= 0.025 && at_most(10, 9.0) > 0.025);
        assert!(at_most(20, 52.0) <= 0.025 && at_most(20, 53.0) > 0.025);
        assert_eq!(critical(10, 0.025), 9);
    }

    #[test]
    fn the_approximation_meets_the_count() {
        for sum in [250.0, 300.0, 350.0, 410.0] {
            let n = EXACT;
            let size = n as f64;
            let mean = size * (size + 1.0) / 4.0;
            let deviation = (size * (size + 1.0) * (2.0 * size + 1.0) / 24.0).sqrt();
            let approximate = normal_below((sum + 0.5 - mean) / deviation);
            let exact = at_most(n, sum);
            assert!(
                (exact - approximate).abs() < 3e-3,
                "{sum}: {exact} {approximate}"
            );
        }
    }

    #[test]
    fn interval_and_test_agree() {
        let values: Vec<f64> = (0..24)
            .map(|i| f64::from((i * 37) % 29) / 10.0 - 0.6)
            .collect();
        let interval = shift(&values, 0.95).unwrap();
        assert!(interval.lo <= interval.point && interval.point <= interval.hi);
        // Just inside the lower bound the one-sided 2.5 % test does not reject, just outside it does.
        assert!(p_above(&values, interval.lo + 1e-9) > 0.025);
        assert!(p_above(&values, interval.lo - 1e-9) <= 0.025);
    }

    #[test]
    fn one_stall_moves_nothing() {
        let mut values = vec![0.01, -0.01, 0.02, -0.02, 0.015, -0.015, 0.005, -0.005];
        let before = shift(&values, 0.9).unwrap().point;
        values[0] = 500.0;
        assert!((shift(&values, 0.9).unwrap().point - before).abs() < 0.01);
    }

    #[test]
    fn nothing_is_no_evidence() {
        assert_eq!(shift(&[], 0.95), Err(Error::Empty));
        assert!((p_above(&[], 0.0) - 1.0).abs() < f64::EPSILON);
        assert!((p_above(&[0.0; 30], 0.0) - 0.5).abs() < 0.02);
    }

    #[test]
    fn the_normal_distribution() {
        assert!((normal_below(1.959_964) - 0.975).abs() < 1e-6);
        assert!((normal_below(-1.0) - 0.158_655_25).abs() < 1e-6);
    }
}
