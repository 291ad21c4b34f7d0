//! Properties that hold for any data.

use kmesh_stats::{Bootstrap, Latency, Rng, health, paired, permutation, rank, williams};
use proptest::prelude::*;

/// Fewer resamples than for a report: these run hundreds of times.
const QUICK: Bootstrap = Bootstrap {
    level: 0.95,
    resamples: 300,
    seed: 1,
};

fn positive() -> impl Strategy<Value = f64> {
    1e-3..1e6
}

fn pairs() -> impl Strategy<Value = Vec<(f64, f64)>> {
    prop::collection::vec((positive(), positive()), 1..40)
}

fn of(values: &[u64]) -> Latency {
    let mut latency = Latency::new();
    for value in values {
        latency.record(*value);
    }
    latency
}

proptest! {
    #[test]
    fn interval_contains_its_point(pairs in pairs()) {
        let (num, den): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let ratio = paired::ratio(&num, &den, &QUICK).unwrap();
        prop_assert!(ratio.lo <= ratio.point && ratio.point <= ratio.hi);
        let added = paired::difference(&num, &den, &QUICK).unwrap();
        prop_assert!(added.lo <= added.point && added.point <= added.hi);
    }

    #[test]
    fn a_constant_factor_is_found_exactly(den in prop::collection::vec(positive(), 1..40), factor in 0.01f64..100.0) {
        let num: Vec<f64> = den.iter().map(|d| d * factor).collect();
        let ratio = paired::ratio(&num, &den, &QUICK).unwrap();
        for bound in [ratio.point, ratio.lo, ratio.hi] {
            prop_assert!((bound / factor - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn swapping_the_arms_inverts_the_ratio(pairs in pairs()) {
        let (num, den): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let forth = paired::ratio(&num, &den, &QUICK).unwrap();
        let back = paired::ratio(&den, &num, &QUICK).unwrap().inverse();
        prop_assert!((forth.point / back.point - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_order_of_blocks_does_not_move_the_point(pairs in pairs(), seed in any::<u64>()) {
        let mut shuffled = pairs.clone();
        Rng::new(seed).shuffle(&mut shuffled);
        let point = |blocks: Vec<(f64, f64)>| {
            let (num, den): (Vec<_>, Vec<_>) = blocks.into_iter().unzip();
            paired::ratio(&num, &den, &QUICK).unwrap().point
        };
        prop_assert!((point(pairs) / point(shuffled) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn median_splits_the_values(values in prop::collection::vec(-1e6f64..1e6, 1..60)) {
        let median = rank::median(&values).unwrap();
        prop_assert!(values.iter().filter(|v| **v < median).count() * 2 <= values.len());
        prop_assert!(values.iter().filter(|v| **v > median).count() * 2 <= values.len());
    }

    #[test]
    fn p_values_are_probabilities_and_ignore_the_sign(values in prop::collection::vec(-1.0f64..1.0, 0..30)) {
        let p = permutation::sign_flip(&values, 500, 1);
        prop_assert!(p > 0.0 && p <= 1.0);
        let mirrored: Vec<f64> = values.iter().map(|v| -v).collect();
        prop_assert!((p - permutation::sign_flip(&mirrored, 500, 1)).abs() < 0.05);
    }

    #[test]
    fn merging_is_recording_everything(a in prop::collection::vec(1u64..10_000_000_000, 0..200), b in prop::collection::vec(1u64..10_000_000_000, 0..200)) {
                let mut merged = of(&a);
        merged.merge(&of(&b));
        let all: Vec<u64> = a.iter().chain(&b).copied().collect();
        prop_assert_eq!(merged.count(), all.len() as u64);
        for q in [0.0, 0.5, 0.9, 0.99, 1.0] {
            prop_assert_eq!(merged.quantile_us(q), of(&all).quantile_us(q));
        }
    }

    #[test]
    fn quantiles_are_within_a_thousandth(mut values in prop::collection::vec(1u64..50_000_000_000, 1..300), q in 0.0f64..1.0) {
        let latency = of(&values);
        values.sort_unstable();
        let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
        let exact = values[rank - 1] as f64 / 1_000.0;
        let read = latency.quantile_us(q).unwrap();
        prop_assert!((read / exact - 1.0).abs() <= 0.001_1 || (read - exact).abs() < 0.002, "{read} for {exact}");
    }

    #[test]
    fn histograms_survive_storage(values in prop::collection::vec(1u64..50_000_000_000, 0..200)) {
        let latency = of(&values);
        let back = Latency::from_v2(&latency.to_v2().unwrap()).unwrap();
        prop_assert_eq!(back.count(), latency.count());
        prop_assert_eq!(back.quantile_us(0.5), latency.quantile_us(0.5));
        prop_assert_eq!(back.quantile_us(0.999), latency.quantile_us(0.999));
    }

    #[test]
    fn schedules_hold_every_cell_once_per_block(cells in 1usize..10, blocks in 0usize..40, seed in any::<u64>()) {
        let orders = williams::schedule(cells, blocks, seed);
        prop_assert_eq!(orders.len(), blocks);
        for mut order in orders {
            order.sort_unstable();
            prop_assert_eq!(order, (0..cells).collect::<Vec<_>>());
        }
    }
}

/// A standard normal value by the sum of twelve uniforms: good enough to test coverage.
fn normal(rng: &mut Rng) -> f64 {
    (0..12)
        .map(|_| rng.next_u64() as f64 / u64::MAX as f64)
        .sum::<f64>()
        - 6.0
}

#[test]
fn identical_arms_rarely_look_different() {
    // 200 simulated A/A runs of 30 blocks with the noise measured here (sd 0.08 of the log-ratio).
    let mut rng = Rng::new(42);
    let mut false_alarms = 0;
    for _ in 0..200 {
        let num: Vec<f64> = (0..30)
            .map(|_| 100.0 * (0.08 * normal(&mut rng)).exp())
            .collect();
        let ratio = paired::ratio(
            &num,
            &[100.0; 30],
            &Bootstrap {
                resamples: 1_000,
                ..QUICK
            },
        )
        .unwrap();
        if health::aa_excess(&ratio) > 0.03 {
            false_alarms += 1;
        }
    }
    assert!(false_alarms <= 2, "{false_alarms} of 200");
}

#[test]
fn the_interval_covers_the_truth_about_as_often_as_it_says() {
    let mut rng = Rng::new(7);
    let mut covered = 0;
    for _ in 0..400 {
        let num: Vec<f64> = (0..24)
            .map(|_| 150.0 * (0.1 * normal(&mut rng)).exp())
            .collect();
        let ratio = paired::ratio(
            &num,
            &[100.0; 24],
            &Bootstrap {
                resamples: 500,
                ..QUICK
            },
        )
        .unwrap();
        covered += usize::from(ratio.contains(1.5));
    }
    assert!((360..=395).contains(&covered), "{covered} of 400");
}

#[test]
fn unpaired_and_impossible_samples_are_refused() {
    let b = Bootstrap::default();
    assert!(paired::ratio(&[1.0], &[1.0, 2.0], &b).is_err());
    assert!(paired::ratio(&[], &[], &b).is_err());
    assert!(paired::ratio(&[1.0, 0.0], &[1.0, 1.0], &b).is_err());
    assert!(paired::ratio(&[f64::NAN], &[1.0], &b).is_err());
}
