//! G2, the decision: is head slower than base by the clock?
//!
//! Every block measures `base`, a second instance of it (`base-again`) and `head`. The block's difference is
//! `ln head - (ln base + ln base-again) / 2`: both bases together make a steadier reference than one. The
//! estimate over blocks, its interval and its p-value come from signed ranks (`kmesh_stats::signed_rank`).
//!
//! A metric is **slower** when all of these hold, twice, in labs built anew for the second time:
//! - the p-value against "no slower than the two bases differ from each other" is small after Holm's
//!   correction over all scenarios and metrics: 20 % family-wise for the first run, which only screens,
//!   2.5 % for the second, which confirms. Both together alarm falsely in at most 0.5 % of the gates;
//! - the estimate is above +3 %, and above 5 us: what is smaller is not worth a developer's day.
//!
//! It **passes** when the interval's upper end excludes what the gate promises to find (+10 % at p50, +20 % at
//! p90). Anything else stays **open**: the machine was too noisy, and the exit code says so (3).
//!
//! Each run looks at two declared numbers of blocks; levels are those of a group-sequential design.

use kmesh_stats::{Error, Interval, health, multiple, paired, sequential, signed_rank};
use serde::Serialize;

/// Chance that identical programs send any metric of the family to the second run.
pub const SCREEN_LEVEL: f64 = 0.20;
/// Chance that they fail the second run too.
pub const CONFIRM_LEVEL: f64 = 0.025;
/// A slowdown is at least this much, as a share.
pub const FLOOR: f64 = 0.03;
/// And at least this much, in microseconds.
pub const FLOOR_US: f64 = 5.0;
/// Coverage of the intervals shown, all looks together.
pub const COVERAGE: f64 = 0.95;

/// A latency quantile that is policed, with the slowdown that the gate promises to find in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Metric {
    /// As in `raw.csv`: `p50`, `p90`.
    pub name: &'static str,
    /// A pass means that a slowdown of this share is excluded.
    pub promise: f64,
}

/// What is policed. The 99th percentile is not: on two cores its interval is +-30 %.
pub const METRICS: [Metric; 2] = [
    Metric {
        name: "p50",
        promise: 0.10,
    },
    Metric {
        name: "p90",
        promise: 0.20,
    },
];

/// One metric of one scenario, block by block, microseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// What it is.
    pub metric: Metric,
    /// The base.
    pub base: Vec<f64>,
    /// The base's second instance.
    pub again: Vec<f64>,
    /// The head.
    pub head: Vec<f64>,
}

impl Samples {
    /// No block yet.
    pub fn none(metric: Metric) -> Self {
        Self {
            metric,
            base: Vec::new(),
            again: Vec::new(),
            head: Vec::new(),
        }
    }

    /// Every policed metric, `block` by block, up to the look at which it is `decided`.
    pub(super) fn collect(
        looks: &[usize],
        decided: &dyn Fn(&[Self]) -> bool,
        mut block: impl FnMut(&mut [Self]),
    ) -> Vec<Self> {
        let mut all = METRICS.map(Self::none);
        for &look in looks {
            while all[0].base.len() < look {
                block(&mut all);
            }
            if decided(&all) {
                break;
            }
        }
        all.into()
    }
}

/// What one run says about one metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Effect {
    /// head : base.
    pub ratio: Interval,
    /// base-again : base; what two identical programs differ by.
    pub aa: Interval,
    /// head - base, microseconds.
    pub added_us: Interval,
    /// One-sided p-value of "not slower".
    pub p: f64,
    /// Blocks compared.
    pub blocks: usize,
}

/// What the gate says about one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// The promised slowdown is excluded.
    Pass,
    /// Found slower, twice.
    Slower,
    /// Neither.
    Open,
}

/// One metric of one scenario, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// Index of the scenario.
    pub scenario: usize,
    /// The metric.
    pub metric: &'static str,
    /// What the gate promises to find.
    pub promise: f64,
    /// The finding.
    pub finding: Finding,
    /// The first run.
    pub screen: Effect,
    /// Its p-value after Holm's correction.
    pub screen_p_holm: f64,
    /// The second run, if the first found something.
    pub confirm: Option<Effect>,
}

/// Which of the two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// The first.
    Screen,
    /// The second, in labs of its own.
    Confirm,
}

/// Where samples come from: labs, or a simulation.
pub trait Bench {
    /// Why there are none.
    type Error: From<Error>;

    /// Measures one scenario up to each of the looks in turn; stops when `decided` says so.
    ///
    /// # Errors
    /// Whatever measuring meets.
    fn measure(
        &mut self,
        scenario: usize,
        round: Round,
        looks: &[usize],
        decided: &dyn Fn(&[Samples]) -> bool,
    ) -> Result<Vec<Samples>, Self::Error>;
}

/// Levels for a given list of looks.
#[derive(Debug, Clone, Copy)]
struct Levels {
    screen: f64,
    confirm: f64,
    coverage: f64,
}

impl Levels {
    fn of(looks: &[usize]) -> Self {
        let one_sided = |level: f64| sequential::level_per_look(looks, 2.0 * level) / 2.0;
        Self {
            screen: one_sided(SCREEN_LEVEL),
            confirm: one_sided(CONFIRM_LEVEL),
            coverage: 1.0 - sequential::level_per_look(looks, 1.0 - COVERAGE),
        }
    }
}

/// Runs the whole procedure over `scenarios` scenarios.
///
/// # Errors
/// Whatever measuring meets; samples that are not above zero.
pub fn police<B: Bench>(
    bench: &mut B,
    scenarios: usize,
    looks: &[usize],
) -> Result<Vec<Judged>, B::Error> {
    let levels = Levels::of(looks);
    let family = scenarios * METRICS.len();
    let mut judged = Vec::with_capacity(family);
    for scenario in 0..scenarios {
        // Before the others are known, Bonferroni stands in for Holm: it can only continue too long.
        let decided = |samples: &[Samples]| {
            samples.iter().all(|samples| {
                effect(samples, levels.coverage).is_ok_and(|effect| {
                    effect.excludes(samples.metric.promise)
                        || effect.slower(effect.p * family as f64, levels.screen)
                })
            })
        };
        for samples in bench.measure(scenario, Round::Screen, looks, &decided)? {
            judged.push(Judged {
                scenario,
                metric: samples.metric.name,
                promise: samples.metric.promise,
                finding: Finding::Open,
                screen: effect(&samples, levels.coverage)?,
                screen_p_holm: 1.0,
                confirm: None,
            });
        }
    }
    let p: Vec<f64> = judged.iter().map(|judged| judged.screen.p).collect();
    for (judged, adjusted) in judged.iter_mut().zip(multiple::holm(&p)) {
        judged.screen_p_holm = adjusted;
    }
    confirm(bench, scenarios, looks, &levels, &mut judged)?;
    Ok(judged)
}

/// Measures again what the first run found, and settles all findings.
fn confirm<B: Bench>(
    bench: &mut B,
    scenarios: usize,
    looks: &[usize],
    levels: &Levels,
    judged: &mut [Judged],
) -> Result<(), B::Error> {
    let suspects: Vec<(usize, &'static str)> = judged
        .iter()
        .filter(|j| j.screen.slower(j.screen_p_holm, levels.screen))
        .map(|j| (j.scenario, j.metric))
        .collect();
    for scenario in 0..scenarios {
        let metrics: Vec<&str> = suspects
            .iter()
            .filter(|(of, _)| *of == scenario)
            .map(|(_, metric)| *metric)
            .collect();
        if metrics.is_empty() {
            continue;
        }
        let decided = |samples: &[Samples]| {
            samples
                .iter()
                .filter(|samples| metrics.contains(&samples.metric.name))
                .all(|samples| {
                    effect(samples, levels.coverage).is_ok_and(|effect| {
                        effect.slower(effect.p * suspects.len() as f64, levels.confirm)
                    })
                })
        };
        for samples in bench.measure(scenario, Round::Confirm, looks, &decided)? {
            let suspect = judged
                .iter_mut()
                .find(|j| j.scenario == scenario && j.metric == samples.metric.name);
            if let Some(suspect) = suspect.filter(|j| metrics.contains(&j.metric)) {
                suspect.confirm = Some(effect(&samples, levels.coverage)?);
            }
        }
    }
    let p: Vec<f64> = judged
        .iter()
        .filter_map(|j| j.confirm.map(|effect| effect.p))
        .collect();
    let mut adjusted = multiple::holm(&p).into_iter();
    for judged in judged {
        let last = judged.confirm.unwrap_or(judged.screen);
        let confirmed = judged.confirm.is_some()
            && adjusted
                .next()
                .is_some_and(|p| last.slower(p, levels.confirm));
        judged.finding = if confirmed {
            Finding::Slower
        } else if last.excludes(judged.promise) {
            Finding::Pass
        } else {
            Finding::Open
        };
    }
    Ok(())
}

impl Effect {
    /// Significant at `level` with an adjusted p-value, and large enough to matter.
    fn slower(&self, p: f64, level: f64) -> bool {
        p <= level && self.ratio.point > 1.0 + FLOOR && self.added_us.point > FLOOR_US
    }

    /// A slowdown of this share would have shown.
    fn excludes(&self, promise: f64) -> bool {
        self.ratio.hi < 1.0 + promise
    }
}

/// What these samples say.
///
/// # Errors
/// Samples of different lengths, none, or not above zero.
pub fn effect(samples: &Samples, coverage: f64) -> Result<Effect, Error> {
    let reference: Vec<f64> = samples
        .base
        .iter()
        .zip(&samples.again)
        .map(|(a, b)| (a * b).sqrt())
        .collect();
    let against_base = paired::log_ratios(&samples.head, &reference)?;
    let between_bases = paired::log_ratios(&samples.again, &samples.base)?;
    let added: Vec<f64> = samples
        .head
        .iter()
        .zip(&reference)
        .map(|(head, base)| head - base)
        .collect();
    let aa = signed_rank::shift(&between_bases, coverage)?.map(f64::exp);
    // Two instances of one program may differ by where their memory landed. That much is no finding.
    let tolerated = health::aa_excess(&aa).ln_1p();
    Ok(Effect {
        ratio: signed_rank::shift(&against_base, coverage)?.map(f64::exp),
        aa,
        added_us: signed_rank::shift(&added, coverage)?,
        p: signed_rank::p_above(&against_base, tolerated),
        blocks: against_base.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmesh_stats::Rng;

    /// Lognormal-ish noise of 10 %, and a head that is `factor` times slower in the rounds given.
    struct Planted {
        rng: Rng,
        factor: [f64; 2],
        measured: Vec<(usize, Round, usize)>,
    }

    impl Planted {
        fn new(screen: f64, confirm: f64) -> Self {
            Self {
                rng: Rng::new(3),
                factor: [screen, confirm],
                measured: Vec::new(),
            }
        }

        fn draw(&mut self, centre: f64) -> f64 {
            centre * (1.0 + 0.1 * (self.rng.below(2001) as f64 / 1000.0 - 1.0))
        }
    }

    impl Bench for Planted {
        type Error = Error;

        fn measure(
            &mut self,
            scenario: usize,
            round: Round,
            looks: &[usize],
            decided: &dyn Fn(&[Samples]) -> bool,
        ) -> Result<Vec<Samples>, Error> {
            let factor = self.factor[usize::from(round == Round::Confirm)];
            let all = Samples::collect(looks, decided, |all| {
                for samples in all {
                    samples.base.push(self.draw(100.0));
                    samples.again.push(self.draw(100.0));
                    samples.head.push(self.draw(100.0 * factor));
                }
            });
            self.measured.push((scenario, round, all[0].base.len()));
            Ok(all)
        }
    }

    fn findings(bench: &mut Planted) -> Vec<Finding> {
        let judged = police(bench, 2, &[32, 60]).unwrap();
        judged.iter().map(|j| j.finding).collect()
    }

    #[test]
    fn identical_programs_pass_at_the_first_look_and_are_not_measured_again() {
        let mut bench = Planted::new(1.0, 1.0);
        assert_eq!(findings(&mut bench), [Finding::Pass; 4]);
        assert_eq!(
            bench.measured,
            [(0, Round::Screen, 32), (1, Round::Screen, 32)]
        );
    }

    #[test]
    fn a_slowdown_is_found_twice_before_it_counts() {
        let mut bench = Planted::new(1.15, 1.15);
        assert_eq!(findings(&mut bench), [Finding::Slower; 4]);
        assert_eq!(bench.measured.len(), 4);
        let mut once = Planted::new(1.15, 1.0);
        assert_eq!(findings(&mut once), [Finding::Pass; 4], "not confirmed");
    }

    #[test]
    fn significant_but_tiny_is_no_regression() {
        let judged = police(&mut Planted::new(1.02, 1.02), 1, &[600]).unwrap();
        assert!(judged.iter().all(|j| j.finding == Finding::Pass));
        assert!(judged[0].screen.p < 0.01, "it was significant");
    }

    #[test]
    fn two_bases_that_differ_widen_what_is_tolerated() {
        let n = 40;
        let noise = |i: usize| 1.0 + 0.01 * ((i * 7 % 11) as f64 / 11.0 - 0.5);
        let samples = Samples {
            metric: METRICS[0],
            base: (0..n).map(|i| 100.0 * noise(i)).collect(),
            again: (0..n).map(|i| 115.0 * noise(i + 3)).collect(),
            head: (0..n).map(|i| 113.0 * noise(i + 5)).collect(),
        };
        let effect = effect(&samples, 0.95).unwrap();
        assert!(effect.ratio.lo > 1.03 && effect.aa.lo > 1.1);
        assert!(effect.p > 0.99, "{effect:?}");
    }
}
