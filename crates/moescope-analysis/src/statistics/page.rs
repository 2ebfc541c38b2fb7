use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::midranks;
use crate::{AnalysisError, check};

/// Largest number of conditions whose orders are enumerated.
const EXACT_CONDITIONS: usize = 7;

/// Page's test of a monotone trend over ordered conditions, with seeds as blocks.
///
/// Only the order of the conditions within each seed counts, so offsets of the seeds and the shape of the curve do not.
///
/// - **Unit:** `statistic` is a pure number, `Σ condition · (sum of its ranks)`, conditions counted from 1.
/// - **Null:** within a seed, every order of the conditions is equally likely.
/// - **Does not show:** how large the change is, nor that every step has the same sign.
/// - **Source:** Page 1963. Exact without ties and up to 7 conditions; otherwise the normal approximation, which is
///   conservative under ties.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageTrend {
    /// Page's L.
    pub statistic: f64,
    /// L under the null.
    pub expected: f64,
    /// One-sided p-value for a rise with the condition.
    pub p_rising: f64,
    /// One-sided p-value for a fall.
    pub p_falling: f64,
    /// Whether the p-values are exact.
    pub exact: bool,
}

/// Tests `by_seed[seed][condition]`, conditions in their order.
///
/// # Errors
/// With fewer than two seeds or three conditions, rows of different length, or a value that is not finite.
pub fn page_trend(by_seed: &[Vec<f64>]) -> Result<PageTrend, AnalysisError> {
    let method = "Page's trend test";
    check::at_least(method, "seeds", by_seed.len(), 2)?;
    let conditions = by_seed[0].len();
    check::at_least(method, "conditions", conditions, 3)?;
    for row in by_seed {
        check::same_length(method, "row of a seed", row.len(), conditions)?;
        check::finite(method, row)?;
    }
    let ranks: Vec<Vec<f64>> = by_seed.iter().map(|row| midranks(row)).collect();
    let statistic = ranks.iter().map(|r| weighted_sum(r)).sum();
    let (seeds, k) = (by_seed.len() as f64, conditions as f64);
    let expected = seeds * k * (k + 1.0).powi(2) / 4.0;
    let tied = ranks.iter().flatten().any(|r| r.fract() != 0.0) || ranks.iter().any(|r| repeats(r));
    let exact = !tied && conditions <= EXACT_CONDITIONS;
    let (p_rising, p_falling) = if exact {
        exact_tails(by_seed.len(), conditions, statistic as u64)
    } else {
        normal_tails(seeds, k, statistic - expected)
    };
    Ok(PageTrend { statistic, expected, p_rising, p_falling, exact })
}

fn weighted_sum(ranks: &[f64]) -> f64 {
    ranks.iter().enumerate().map(|(i, r)| (i + 1) as f64 * r).sum()
}

fn repeats(ranks: &[f64]) -> bool {
    ranks.iter().enumerate().any(|(i, r)| ranks[..i].contains(r))
}

fn normal_tails(seeds: f64, k: f64, excess: f64) -> (f64, f64) {
    let variance = seeds * k.powi(2) * (k + 1.0).powi(2) * (k - 1.0) / 144.0;
    let normal = Normal::new(0.0, variance.sqrt()).expect("the variance is positive");
    (normal.sf(excess), normal.cdf(excess))
}

/// Both tails of L over all orders, seed by seed; the probabilities of the sums are convolved.
fn exact_tails(seeds: usize, conditions: usize, statistic: u64) -> (f64, f64) {
    let one = one_seed(conditions);
    let mut total = BTreeMap::from([(0_u64, 1.0_f64)]);
    for _ in 0..seeds {
        let mut next = BTreeMap::new();
        for (sum, p) in &total {
            for (step, q) in &one {
                *next.entry(sum + step).or_insert(0.0) += p * q;
            }
        }
        total = next;
    }
    let tail = |keep: &dyn Fn(u64) -> bool| -> f64 {
        total.iter().filter(|(sum, _)| keep(**sum)).map(|(_, p)| p).sum::<f64>().min(1.0)
    };
    (tail(&|sum| sum >= statistic), tail(&|sum| sum <= statistic))
}

/// Probability of each value of `Σ condition · rank` of one seed.
fn one_seed(conditions: usize) -> BTreeMap<u64, f64> {
    // Ranks are assigned to conditions one after the other; a state is the set of used ranks and the sum so far.
    let mut states = BTreeMap::from([((0_u32, 0_u64), 1.0_f64)]);
    for condition in 0..conditions {
        let mut next = BTreeMap::new();
        let free = (conditions - condition) as f64;
        for ((used, sum), p) in &states {
            for rank in (0..conditions).filter(|r| used & (1 << r) == 0) {
                let step = (condition as u64 + 1) * (rank as u64 + 1);
                *next.entry((used | 1 << rank, sum + step)).or_insert(0.0) += p / free;
            }
        }
        states = next;
    }
    states.into_iter().map(|((_, sum), p)| (sum, p)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;
    use proptest::prelude::*;
    use rand::RngExt;

    fn rows() -> Vec<Vec<f64>> {
        vec![vec![1.0, 2.0, 3.0, 4.0], vec![1.5, 1.2, 3.3, 3.9], vec![0.9, 2.5, 2.2, 4.4]]
    }

    #[test]
    fn exact_p_values_agree_with_scipy() {
        let page = page_trend(&rows()).unwrap();
        assert_eq!((page.statistic, page.expected, page.exact), (88.0, 75.0, true));
        assert!((page.p_rising - 0.00289351851852).abs() < 1e-12);
    }

    #[test]
    fn the_normal_approximation_agrees_with_scipy() {
        assert!((normal_tails(3.0, 4.0, 13.0).0 - 0.00466118802372).abs() < 1e-9);
    }

    #[test]
    fn ties_fall_back_to_the_approximation() {
        let flat = page_trend(&[vec![1.0, 1.0, 1.0], vec![2.0, 2.0, 2.0]]).unwrap();
        assert!(!flat.exact && (flat.p_rising - 0.5).abs() < 1e-9);
        assert!(page_trend(&[vec![1.0, 2.0, 3.0]]).is_err());
    }

    #[test]
    fn the_test_keeps_its_level_on_noise() {
        let mut rng = Seed(3).rng();
        let mut noise = || (0..5).map(|_| rng.random::<f64>()).collect::<Vec<f64>>();
        let rejected =
            (0..1000).filter(|_| page_trend(&[noise(), noise(), noise()]).unwrap().p_rising < 0.05).count();
        assert!((20..70).contains(&rejected), "{rejected} of 1000 at level 0.05");
    }

    proptest! {
        #[test]
        fn monotone_transforms_change_nothing_and_reversal_swaps_the_tails(
            rows in prop::collection::vec(prop::collection::vec(-2.0..2.0f64, 4), 2..4)
        ) {
            let page = page_trend(&rows).unwrap();
            let bent: Vec<Vec<f64>> = rows.iter().map(|r| r.iter().map(|v| v.exp() + 3.0).collect()).collect();
            prop_assert_eq!(page_trend(&bent).unwrap(), page);
            let back: Vec<Vec<f64>> = rows.iter().map(|r| r.iter().rev().copied().collect()).collect();
            prop_assert!((page_trend(&back).unwrap().p_falling - page.p_rising).abs() < 1e-9);
        }
    }
}
