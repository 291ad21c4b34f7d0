//! Looking early without fooling oneself: group-sequential designs.
//!
//! Who looks at a growing run after every block and stops when the interval pleases him, finds a
//! difference in two identical arms sooner or later. Here the looks are declared beforehand, and every
//! look uses the same sharper level, Pocock's (1977): chosen such that under the null hypothesis the
//! chance of a false finding at *any* look is the level asked for. An interval made at
//! `1 - level_per_look` is a *repeated confidence interval* (Jennison and Turnbull, 1989): all looks'
//! intervals together cover the truth with the coverage asked for, so the one reported when the run
//! stops is honest, whatever made it stop there.
//!
//! The statistic is taken as a sum of independent, equal contributions (one per block), which the
//! median and the signed-rank estimate are to first order; the boundary is found by integrating its
//! density look by look (Armitage, McPherson and Rowe, 1969), for any spacing of the looks.

use crate::signed_rank::normal_below;

/// Grid points per standard deviation; the level is then right to four digits.
const DENSITY: f64 = 40.0;

/// Two-sided level to use at each of the looks so that all of them together have `alpha`.
///
/// `looks` are the numbers of blocks at which the run may stop, in ascending order; one look (or none)
/// gives `alpha` itself.
pub fn level_per_look(looks: &[usize], alpha: f64) -> f64 {
    if looks.len() < 2 {
        return alpha;
    }
    // Bonferroni is always enough, the undivided level never too strict.
    let (mut low, mut high) = (alpha / looks.len() as f64, alpha);
    for _ in 0..30 {
        let middle = f64::midpoint(low, high);
        if crossing(looks, bound_of(middle)) > alpha {
            high = middle;
        } else {
            low = middle;
        }
    }
    low
}

/// The z-value with two-sided tail `level`.
fn bound_of(level: f64) -> f64 {
    let (mut low, mut high) = (0.0, 10.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if 2.0 * normal_below(-middle) > level {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// Probability under the null that |z| exceeds `bound` at any look.
fn crossing(looks: &[usize], bound: f64) -> f64 {
    // S(n) is the sum of n standard normal contributions: z = S / sqrt(n), crossed beyond bound * sqrt(n).
    let mut spent = 0.0;
    let mut before: Option<(f64, Vec<f64>)> = None;
    let mut seen = 0;
    for &look in looks {
        let (edge, step) = (
            bound * (look as f64).sqrt(),
            ((look - seen) as f64).sqrt().max(f64::MIN_POSITIVE),
        );
        let points = (2.0 * bound * DENSITY) as usize;
        let width = 2.0 * edge / points as f64;
        let place = |i: usize| -edge + (i as f64 + 0.5) * width;
        let (density, stays) = match &before {
            None => {
                let density = (0..points)
                    .map(|i| normal_density(place(i) / step) / step)
                    .collect::<Vec<_>>();
                (density, 1.0 - 2.0 * normal_below(-edge / step))
            }
            Some((old_width, old)) => {
                let old_edge = old_width * old.len() as f64 / 2.0;
                let old_place = |j: usize| -old_edge + (j as f64 + 0.5) * old_width;
                let density = (0..points)
                    .map(|i| {
                        old.iter()
                            .enumerate()
                            .map(|(j, d)| {
                                d * old_width * normal_density((place(i) - old_place(j)) / step)
                                    / step
                            })
                            .sum()
                    })
                    .collect::<Vec<_>>();
                let stays = old
                    .iter()
                    .enumerate()
                    .map(|(j, d)| {
                        let at = old_place(j);
                        d * old_width
                            * (normal_below((edge - at) / step) - normal_below((-edge - at) / step))
                    })
                    .sum();
                (density, stays)
            }
        };
        spent = 1.0 - stays;
        seen = look;
        before = Some((width, density));
    }
    spent
}

fn normal_density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn equally_spaced_looks_give_pococks_table() {
        // Pocock (1977): nominal levels 0.0294, 0.0221, 0.0182 for 2, 3, 4 looks at 5 %.
        for (looks, expected) in [
            (&[10, 20][..], 0.0294),
            (&[10, 20, 30], 0.0221),
            (&[10, 20, 30, 40], 0.0182),
        ] {
            let level = level_per_look(looks, 0.05);
            assert!((level - expected).abs() < 1e-4, "{looks:?}: {level}");
        }
    }

    #[test]
    fn one_look_costs_nothing_and_close_looks_little() {
        assert!((level_per_look(&[28], 0.05) - 0.05).abs() < 1e-12);
        let close = level_per_look(&[59, 60], 0.05);
        assert!(close > 0.04 && close < 0.05, "{close}");
    }

    /// Two identical arms, looked at after 32 and 60 blocks: as many false findings as promised.
    #[test]
    fn a_walk_without_drift_crosses_as_often_as_promised() {
        let (looks, alpha) = ([32, 60], 0.10);
        let bound = bound_of(level_per_look(&looks, alpha));
        let mut rng = Rng::new(7);
        // Twelve uniforms make a good enough normal.
        let mut normal = || {
            (0..12)
                .map(|_| rng.below(1 << 30) as f64 / f64::from(1 << 30))
                .sum::<f64>()
                - 6.0
        };
        let runs = 4_000;
        let crossed = (0..runs)
            .filter(|_| {
                let mut sum = 0.0;
                let mut crossed = false;
                for block in 1..=60 {
                    sum += normal();
                    crossed |=
                        looks.contains(&block) && (sum / (block as f64).sqrt()).abs() > bound;
                }
                crossed
            })
            .count();
        let share = crossed as f64 / f64::from(runs);
        assert!((share - alpha).abs() < 0.015, "{share}");
    }
}
