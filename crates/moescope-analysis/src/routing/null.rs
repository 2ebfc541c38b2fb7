use moescope_base::{Column, Seed};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::statistics::Tail;
use crate::{AnalysisError, check};

/// Draws for each of several tests, at least.
const DRAWS_EACH: usize = 25;

/// How many draws of a null to make, and from which seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutations {
    /// Draws; the smallest possible p-value is `1 / (count + 1)`.
    pub count: usize,
    /// Origin of all draws.
    pub seed: Seed,
}

/// A statistic beside its distribution when there is nothing to find.
///
/// Several statistics may share the draws, unlike those of [`PermutationTest`](crate::statistics::PermutationTest).
///
/// - **Unit:** that of the statistic.
/// - **Does not show:** effect size by itself; with many tokens a tiny [`excess`](Self::excess) has a small p-value.
/// - **Source:** Monte Carlo test with `p = (1 + draws as extreme) / (1 + draws)`, Davison and Hinkley 1997, §4.2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NullComparison {
    /// Statistic of the data.
    pub observed: f64,
    /// Mean of the draws.
    pub null_mean: f64,
    /// 2.5 % quantile of the draws.
    pub null_low: f64,
    /// 97.5 % quantile of the draws.
    pub null_high: f64,
    /// One-sided p-value, from `1 / (permutations + 1)` to 1.
    pub p_value: f64,
    /// Number of draws.
    pub permutations: usize,
}

impl Permutations {
    /// A number of draws from a seed.
    pub fn new(count: usize, seed: Seed) -> Permutations {
        Permutations { count, seed }
    }

    /// At least 25 draws for each of so many tests: with fewer no p-value could survive Holm's correction over all of them, and nothing could be
    /// found where tests are many.
    ///
    /// ```
    /// use moescope_analysis::routing::Permutations;
    /// use moescope_base::Seed;
    ///
    /// assert_eq!(Permutations::new(99, Seed(1)).enough_for(2).count, 99);
    /// assert_eq!(Permutations::new(99, Seed(1)).enough_for(32).count, 800);
    /// ```
    pub fn enough_for(self, tests: usize) -> Permutations {
        Permutations { count: self.count.max(DRAWS_EACH * tests), seed: self.seed }
    }

    /// The same number of draws, from a stream of its own.
    pub fn child(self, label: &str) -> Permutations {
        Permutations { count: self.count, seed: self.seed.child(label) }
    }

    /// The same number of draws, from a stream that belongs to a number.
    pub fn index(self, index: usize) -> Permutations {
        Permutations { count: self.count, seed: self.seed.index(index as u64) }
    }

    pub(crate) fn check(self, method: &'static str) -> Result<(), AnalysisError> {
        check::at_least(method, "permutations", self.count, 1)
    }

    /// One result for each draw, in the order of the draws whatever the number of threads.
    ///
    /// Every draw has its own stream, so that neither the order of work nor the scratch space can change it.
    pub(crate) fn draw<S, T: Send>(
        self,
        scratch: impl Fn() -> S + Sync + Send,
        statistic: impl Fn(&mut S, &mut ChaCha8Rng) -> T + Sync + Send,
    ) -> Vec<T> {
        let one =
            |scratch: &mut S, index: usize| statistic(scratch, &mut self.seed.index(index as u64).rng());
        (0..self.count).into_par_iter().map_init(scratch, one).collect()
    }
}

impl NullComparison {
    /// Compares a statistic with its draws under the null, of which there is at least one.
    pub(crate) fn new(observed: f64, draws: &[f64], tail: Tail) -> NullComparison {
        let mut sorted = draws.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        // A draw that equals the data up to rounding is as extreme as the data.
        let slack = 1e-9 * observed.abs().max(1e-3);
        let share = |extreme: &dyn Fn(f64) -> bool| {
            (1 + draws.iter().filter(|draw| extreme(**draw)).count()) as f64 / (1 + draws.len()) as f64
        };
        let greater = share(&|draw| draw >= observed - slack);
        let less = share(&|draw| draw <= observed + slack);
        let p_value = match tail {
            Tail::Greater => greater,
            Tail::Less => less,
            Tail::TwoSided => (2.0 * greater.min(less)).min(1.0),
        };
        NullComparison {
            observed,
            null_mean: draws.iter().sum::<f64>() / draws.len() as f64,
            null_low: nearest_rank(&sorted, 0.025),
            null_high: nearest_rank(&sorted, 0.975),
            p_value,
            permutations: draws.len(),
        }
    }

    /// A statistic of which no draws were made: all of its null is NaN.
    pub(crate) fn without_draws(observed: f64) -> NullComparison {
        let nan = f64::NAN;
        NullComparison {
            observed,
            null_mean: nan,
            null_low: nan,
            null_high: nan,
            p_value: nan,
            permutations: 0,
        }
    }

    /// Observed minus mean of the null: the bias-corrected estimate. 0 where there is nothing to find.
    pub fn excess(&self) -> f64 {
        self.observed - self.null_mean
    }
}

/// Value below or at which the share `level` of the ascending values lies.
pub(crate) fn nearest_rank(sorted: &[f64], level: f64) -> f64 {
    let rank = (level * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// The columns `name`, its null with the null's interval, its p-value, and `name_excess`.
pub(crate) fn comparison_columns(
    name: &str,
    unit: &str,
    meaning: &str,
    null: &str,
    comparisons: &[NullComparison],
) -> Vec<Column> {
    let each = |f: fn(&NullComparison) -> f64| comparisons.iter().map(f).collect::<Vec<f64>>();
    let draws: Vec<i64> = comparisons.iter().map(|c| c.permutations as i64).collect();
    let null_name = format!("{name}_null");
    let mut columns = vec![
        Column::estimate(name, unit, meaning, each(|c| c.observed)),
        Column::null(name, unit, &format!("mean under the null: {null}"), each(|c| c.null_mean)),
    ];
    columns.extend(Column::interval(
        &null_name,
        unit,
        "central 95 % of the draws of the null",
        each(|c| c.null_low),
        each(|c| c.null_high),
    ));
    columns.push(Column::observations(&null_name, "permutations", draws));
    columns.push(Column::p_value(name, "one-sided Monte Carlo test against the null", each(|c| c.p_value)));
    let excess = format!("{name}_excess");
    let meaning = format!("`{name}` minus mean of its null; 0 if there is nothing to find");
    columns.push(Column::estimate(&excess, unit, &meaning, each(NullComparison::excess)));
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn a_hand_worked_comparison() {
        let upper = NullComparison::new(3.0, &[1.0, 2.0, 3.0, 4.0], Tail::Greater);
        assert_eq!((upper.null_mean, upper.p_value, upper.excess()), (2.5, 0.6, 0.5));
        assert_eq!((upper.null_low, upper.null_high), (1.0, 4.0));
        assert_eq!(NullComparison::new(3.0, &[1.0, 2.0, 3.0, 4.0], Tail::Less).p_value, 0.8);
    }

    #[test]
    fn draws_do_not_depend_on_the_number_of_threads() {
        let draw = || Permutations::new(50, Seed(3)).draw(|| (), |(), rng| rng.random::<u64>());
        let threads = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        assert_eq!(threads(1).install(draw), threads(4).install(draw));
    }

    #[test]
    fn no_draw_is_refused() {
        assert!(Permutations::new(0, Seed(0)).check("test").is_err());
    }
}
