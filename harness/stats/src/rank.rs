//! Statistics of order: robust where means are not (one 0.8 s stall ruins a mean).

use crate::Error;

/// The median; the mean of the middle two for an even count.
///
/// # Errors
/// [`Error::Empty`] without values.
pub fn median(values: &[f64]) -> Result<f64, Error> {
    let mut sorted = values.to_vec();
    median_in_place(&mut sorted)
}

/// As [`median`], reordering the input instead of copying it.
///
/// # Errors
/// [`Error::Empty`] without values.
pub fn median_in_place(values: &mut [f64]) -> Result<f64, Error> {
    let n = values.len();
    if n == 0 {
        return Err(Error::Empty);
    }
    let (below, &mut upper, _) = values.select_nth_unstable_by(n / 2, f64::total_cmp);
    if n % 2 == 1 {
        return Ok(upper);
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Ok(f64::midpoint(lower, upper))
}

/// The value at quantile `q` (0 to 1) with linear interpolation between order statistics.
///
/// # Errors
/// [`Error::Empty`] without values.
pub fn quantile(values: &[f64], q: f64) -> Result<f64, Error> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    quantile_of_sorted(&sorted, q)
}

/// As [`quantile`], for values already in ascending order.
///
/// # Errors
/// [`Error::Empty`] without values.
pub fn quantile_of_sorted(sorted: &[f64], q: f64) -> Result<f64, Error> {
    let last = sorted.len().checked_sub(1).ok_or(Error::Empty)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    Ok(sorted[below] + (sorted[above] - sorted[below]) * position.fract())
}

/// Hodges-Lehmann: the median of all pairwise means, itself included. A check beside the median:
/// nearly as robust and much more efficient when differences are symmetric.
///
/// # Errors
/// [`Error::Empty`] without values.
pub fn hodges_lehmann(values: &[f64]) -> Result<f64, Error> {
    let mut walsh = Vec::with_capacity(values.len() * (values.len() + 1) / 2);
    for (i, a) in values.iter().enumerate() {
        for b in &values[i..] {
            walsh.push(f64::midpoint(*a, *b));
        }
    }
    median_in_place(&mut walsh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_nothing() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Ok(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Ok(2.5));
        assert_eq!(median(&[]), Err(Error::Empty));
    }

    #[test]
    fn quantile_interpolates() {
        assert_eq!(quantile(&[0.0, 10.0], 0.25), Ok(2.5));
        assert_eq!(quantile(&[5.0], 0.9), Ok(5.0));
    }

    #[test]
    fn hodges_lehmann_shrugs_off_an_outlier() {
        let hl = hodges_lehmann(&[1.0, 1.1, 0.9, 1.0, 1e6]).unwrap();
        assert!((hl - 1.05).abs() < 0.06, "{hl}");
    }
}
