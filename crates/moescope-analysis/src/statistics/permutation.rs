use moescope_base::Seed;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::mean;
use crate::{AnalysisError, check};

/// A statistic against its distribution under shuffling.
///
/// - **Unit:** that of the statistic; the p-value is a probability, at least 1 / (permutations + 1).
/// - **Null:** whatever the shuffle destroys does not matter. Name the shuffle when you report the number: shuffling
///   labels, routes within a document, and routes with loads kept are three different nulls.
/// - **Does not show:** the size of the effect; report `observed` beside `null_mean`.
/// - **Source:** Phipson and Smyth 2010 for the +1: the observed order is one of the possible orders.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PermutationTest {
    /// Statistic of the data as they are.
    pub observed: f64,
    /// Mean of the statistic over shuffles.
    pub null_mean: f64,
    /// 2.5 % quantile over shuffles.
    pub null_low: f64,
    /// 97.5 % quantile over shuffles.
    pub null_high: f64,
    /// Share of orders, the observed one included, that are at least as extreme.
    pub p_value: f64,
    /// Number of shuffles.
    pub permutations: usize,
}

/// Which values of the statistic speak against the null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tail {
    /// Large ones.
    Greater,
    /// Small ones.
    Less,
    /// Both; twice the smaller one-sided p-value.
    TwoSided,
}

/// Shuffles `data` and recomputes the statistic.
///
/// `shuffle` gets a fresh copy of the data and a generator of its own, so results do not depend on threads.
///
/// # Errors
/// Without any permutation, or if the statistic is not finite on the data or on a shuffle of them.
pub fn permutation_test<Data: Clone + Sync>(
    data: &Data,
    statistic: impl Fn(&Data) -> f64 + Sync,
    shuffle: impl Fn(&mut Data, &mut ChaCha8Rng) + Sync,
    permutations: usize,
    tail: Tail,
    seed: Seed,
) -> Result<PermutationTest, AnalysisError> {
    check::at_least("permutation test", "permutations", permutations, 1)?;
    let observed = statistic(data);
    check::finite("permutation test", &[observed])?;
    let draw = |index: usize| {
        let mut shuffled = data.clone();
        shuffle(&mut shuffled, &mut seed.index(index as u64).rng());
        statistic(&shuffled)
    };
    let mut null: Vec<f64> = (0..permutations).into_par_iter().map(draw).collect();
    check::finite("permutation test", &null)?;
    let p_value = p_value(observed, &null, tail);
    let null_mean = mean(&null);
    null.sort_by(f64::total_cmp);
    let (null_low, null_high) = (quantile(&null, 0.025), quantile(&null, 0.975));
    Ok(PermutationTest { observed, null_mean, null_low, null_high, p_value, permutations })
}

fn p_value(observed: f64, null: &[f64], tail: Tail) -> f64 {
    // Sums in another order differ in the last bits; such values count as equal, which errs on the safe side.
    let slack = 1e-12 * observed.abs().max(1.0);
    let share = |extreme: &dyn Fn(f64) -> bool| {
        (1 + null.iter().filter(|x| extreme(**x)).count()) as f64 / (1 + null.len()) as f64
    };
    let greater = share(&|x| x >= observed - slack);
    let less = share(&|x| x <= observed + slack);
    match tail {
        Tail::Greater => greater,
        Tail::Less => less,
        Tail::TwoSided => (2.0 * greater.min(less)).min(1.0),
    }
}

/// Quantile of ascending values with linear interpolation between order statistics; `values` is not empty.
pub(super) fn quantile(values: &[f64], probability: f64) -> f64 {
    let place = probability.clamp(0.0, 1.0) * (values.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    values[below] + (place - below as f64) * (values[above] - values[below])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use rand::seq::SliceRandom;

    /// Difference of the means of the first half and of the second.
    fn halves(data: &[f64]) -> f64 {
        let (a, b) = data.split_at(data.len() / 2);
        mean(a) - mean(b)
    }

    fn run(data: Vec<f64>, tail: Tail, seed: u64) -> PermutationTest {
        permutation_test(&data, |d| halves(d), |d, rng| d.shuffle(rng), 199, tail, Seed(seed)).unwrap()
    }

    #[test]
    fn a_planted_difference_gets_the_smallest_possible_p() {
        let data: Vec<f64> = (0..20).map(|i| if i < 10 { 5.0 } else { 0.0 } + f64::from(i % 3)).collect();
        assert_eq!(run(data.clone(), Tail::Greater, 1).p_value, 1.0 / 200.0);
        assert_eq!(run(data.clone(), Tail::Less, 1).p_value, 1.0);
        assert_eq!(run(data, Tail::TwoSided, 1).p_value, 2.0 / 200.0);
    }

    #[test]
    fn exact_case_by_hand() {
        // Of the two orders of [1, 0] both are equally likely; at least half of them are as extreme as the observed.
        let test = run(vec![1.0, 0.0], Tail::Greater, 2);
        assert!((test.p_value - 0.5).abs() < 0.12 && test.null_mean.abs() < 0.2);
        assert_eq!((test.null_low, test.null_high), (-1.0, 1.0));
    }

    #[test]
    fn noise_is_rejected_at_the_stated_rate() {
        let mut rng = Seed(5).rng();
        let rejected = (0..400)
            .filter(|i| run((0..12).map(|_| rng.random()).collect(), Tail::TwoSided, *i).p_value <= 0.05)
            .count();
        assert!((8..35).contains(&rejected), "{rejected} of 400 at level 0.05");
    }

    #[test]
    fn a_constant_statistic_is_never_significant_and_the_seed_decides_the_draws() {
        let constant =
            permutation_test(&vec![1.0, 2.0], |_| 3.0, |_, _| {}, 9, Tail::TwoSided, Seed(1)).unwrap();
        assert_eq!(constant.p_value, 1.0);
        let data: Vec<f64> = (0..12).map(f64::from).collect();
        assert_eq!(run(data.clone(), Tail::Less, 4), run(data.clone(), Tail::Less, 4));
        assert_ne!(run(data.clone(), Tail::Less, 4).null_mean, run(data, Tail::Less, 5).null_mean);
    }

    #[test]
    fn no_permutation_and_a_statistic_that_is_no_number_are_refused() {
        let bad = |n| permutation_test(&(), |()| f64::NAN, |(), _| {}, n, Tail::Less, Seed(1));
        assert!(matches!(bad(0), Err(AnalysisError::TooFew { .. })));
        assert!(matches!(bad(5), Err(AnalysisError::NotFinite { .. })));
    }
}
