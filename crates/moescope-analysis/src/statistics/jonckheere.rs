use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::{AnalysisError, check};

/// Most observations for which the distribution is enumerated.
const EXACT_OBSERVATIONS: usize = 60;

/// Jonckheere and Terpstra's test of a trend over ordered groups of *independent* values, such as models that share no seed.
///
/// Where every condition has the same seeds, [`page_trend`](super::page_trend) removes what the seed does to all of them and finds more.
///
/// - **Unit:** `statistic` is a number of pairs: values of two groups of which the one of the later group is larger, ties half.
/// - **Null:** all groups have one distribution.
/// - **Does not show:** how large the change is, nor that every step has the same sign.
/// - **Source:** Terpstra 1952, Jonckheere 1954. Exact without ties and up to 60 observations; otherwise the normal approximation
///   with the variance for ties (Hollander, Wolfe and Chicken 2014, §6.2), without correction for continuity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct JonckheereTerpstra {
    /// J.
    pub statistic: f64,
    /// J under the null.
    pub expected: f64,
    /// Standard deviation of J under the null.
    pub deviation: f64,
    /// One-sided p-value for a rise with the group.
    pub p_rising: f64,
    /// One-sided p-value for a fall.
    pub p_falling: f64,
    /// Whether the p-values are exact.
    pub exact: bool,
}

/// Tests `groups[group][value]`, groups in their order.
///
/// An example: the groups (1, 2) and (3, 4) have all four pairs in order, where two are expected. Of the six
/// ways to deal four values to two groups of two this is the only one with so many, so that the p-value for a
/// rise is 1/6.
///
/// # Errors
/// With fewer than two groups, an empty group, a value that is not finite, or values that are all equal.
pub fn jonckheere_terpstra(groups: &[Vec<f64>]) -> Result<JonckheereTerpstra, AnalysisError> {
    let method = "Jonckheere and Terpstra's trend test";
    check::at_least(method, "groups", groups.len(), 2)?;
    for group in groups {
        check::at_least(method, "values of a group", group.len(), 1)?;
        check::finite(method, group)?;
    }
    let ties = runs(groups);
    if ties.len() == 1 {
        return Err(AnalysisError::Constant { method, what: "the metric" });
    }
    let pairs = |a: &[f64], b: &[f64]| -> f64 {
        let one = |x: &f64, y: &f64| if x < y { 1.0 } else { f64::from(u8::from(x == y)) / 2.0 };
        a.iter().map(|x| b.iter().map(|y| one(x, y)).sum::<f64>()).sum()
    };
    let later = |i: usize| groups[i + 1..].iter().map(move |b| pairs(&groups[i], b)).sum::<f64>();
    let statistic = (0..groups.len()).map(later).sum();
    let sizes: Vec<f64> = groups.iter().map(|group| group.len() as f64).collect();
    let n: f64 = sizes.iter().sum();
    let expected = (n * n - sizes.iter().map(|m| m * m).sum::<f64>()) / 4.0;
    let deviation = variance(n, &sizes, &ties).sqrt();
    let exact = ties.iter().all(|run| *run == 1.0) && n as usize <= EXACT_OBSERVATIONS;
    let (p_rising, p_falling) = match exact {
        true => exact_tails(groups, statistic as usize),
        false => {
            let normal = Normal::new(expected, deviation).expect("values differ, so J varies");
            (normal.sf(statistic), normal.cdf(statistic))
        }
    };
    Ok(JonckheereTerpstra { statistic, expected, deviation, p_rising, p_falling, exact })
}

/// Sizes of the runs of equal values over all groups.
fn runs(groups: &[Vec<f64>]) -> Vec<f64> {
    let mut all: Vec<f64> = groups.concat();
    all.sort_unstable_by(f64::total_cmp);
    all.chunk_by(|a, b| a == b).map(|run| run.len() as f64).collect()
}

fn variance(n: f64, sizes: &[f64], ties: &[f64]) -> f64 {
    let sum = |over: &[f64], f: fn(f64) -> f64| over.iter().map(|x| f(*x)).sum::<f64>();
    let whole = |x: f64| x * (x - 1.0) * (2.0 * x + 5.0);
    let triple = |x: f64| x * (x - 1.0) * (x - 2.0);
    let double = |x: f64| x * (x - 1.0);
    let main = (whole(n) - sum(sizes, whole) - sum(ties, whole)) / 72.0;
    // With two observations there are no triples.
    let triples = if n > 2.0 { sum(sizes, triple) * sum(ties, triple) / (36.0 * triple(n)) } else { 0.0 };
    main + triples + sum(sizes, double) * sum(ties, double) / (8.0 * double(n))
}

/// Both tails of J over all assignments of values to groups: J is a sum of independent Mann–Whitney counts, one for each group against all before it.
fn exact_tails(groups: &[Vec<f64>], statistic: usize) -> (f64, f64) {
    let mut chances = vec![1.0];
    let mut before = groups[0].len();
    for group in &groups[1..] {
        chances = convolved(&chances, &mann_whitney(before, group.len()));
        before += group.len();
    }
    let (rising, falling) = (&chances[statistic..], &chances[..=statistic]);
    (rising.iter().sum::<f64>().min(1.0), falling.iter().sum::<f64>().min(1.0))
}

/// Chance of each count of pairs in order between `a` and `b` values without ties.
fn mann_whitney(a: usize, b: usize) -> Vec<f64> {
    // By the largest value: it is one of the b with chance b/(a + b), and then larger than all a.
    let mut rows: Vec<Vec<Vec<f64>>> = vec![vec![vec![1.0]; b + 1]; a + 1]; // [a, b, count]
    for i in 1..=a {
        for j in 1..=b {
            let mut chances = vec![0.0; i * j + 1];
            let (share_b, share_a) = (j as f64 / (i + j) as f64, i as f64 / (i + j) as f64);
            rows[i][j - 1].iter().enumerate().for_each(|(count, p)| chances[count + i] += share_b * p);
            rows[i - 1][j].iter().enumerate().for_each(|(count, p)| chances[count] += share_a * p);
            rows[i][j] = chances;
        }
    }
    rows.swap_remove(a).swap_remove(b)
}

fn convolved(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; a.len() + b.len() - 1];
    for (i, p) in a.iter().enumerate() {
        b.iter().enumerate().for_each(|(j, q)| sums[i + j] += p * q);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;
    use proptest::prelude::*;
    use rand::RngExt;

    #[test]
    fn a_hand_worked_case() {
        // All four pairs are in order, in one of the six assignments.
        let test = jonckheere_terpstra(&[vec![1.0, 2.0], vec![3.0, 4.0]]).unwrap();
        assert_eq!((test.statistic, test.expected, test.exact), (4.0, 2.0, true));
        assert!((test.p_rising - 1.0 / 6.0).abs() < 1e-12 && (test.p_falling - 1.0).abs() < 1e-12);
        let test = jonckheere_terpstra(&[vec![1.0], vec![2.0], vec![3.0]]).unwrap();
        assert!((test.p_rising - 1.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn agrees_with_all_permutations_in_numpy() {
        // fixtures/statistics/reference.py goes through every assignment, and has the variance with ties.
        let rows = [vec![1.1, 2.0, 1.7], vec![2.3, 1.9, 2.8, 2.6], vec![3.0, 2.2, 3.4]];
        let test = jonckheere_terpstra(&rows).unwrap();
        assert_eq!((test.statistic, test.exact), (JT.0, true));
        assert!((test.p_rising - JT.1).abs() < 1e-9);
        let tied = [vec![1.0, 2.0, 2.0], vec![2.0, 3.0, 3.0], vec![3.0, 4.0, 1.0]];
        let test = jonckheere_terpstra(&tied).unwrap();
        assert_eq!((test.statistic, test.exact), (JT_TIED.0, false));
        assert!((test.deviation - JT_TIED.1).abs() < 1e-9);
    }

    #[test]
    fn noise_is_rejected_at_the_stated_rate_and_a_trend_is_found() {
        let p_value = |seed: u64, slope: f64| {
            let mut rng = Seed(seed).rng();
            let groups: Vec<Vec<f64>> = (0..4)
                .map(|g| (0..5).map(|_| rng.random::<f64>() + slope * f64::from(g)).collect())
                .collect();
            jonckheere_terpstra(&groups).unwrap().p_rising
        };
        let rate = |slope| (0..2_000).filter(|s| p_value(*s, slope) <= 0.05).count() as f64 / 2_000.0;
        assert!((0.03..0.065).contains(&rate(0.0)), "{}", rate(0.0));
        assert!(rate(0.3) > 0.9);
    }

    #[test]
    fn what_makes_no_test_is_refused() {
        assert!(jonckheere_terpstra(&[vec![1.0]]).is_err());
        assert!(jonckheere_terpstra(&[vec![1.0], vec![]]).is_err());
        assert!(jonckheere_terpstra(&[vec![1.0], vec![1.0]]).is_err());
        assert!(jonckheere_terpstra(&[vec![1.0], vec![f64::NAN]]).is_err());
    }

    proptest! {
        #[test]
        fn the_other_direction_is_the_other_tail(values in prop::collection::vec(-5i8..5, 6..20)) {
            prop_assume!(values.iter().any(|v| *v != values[0]));
            let groups: Vec<Vec<f64>> = values.chunks(5).map(|c| c.iter().map(|v| f64::from(*v)).collect()).collect();
            let turned: Vec<Vec<f64>> = groups.iter().rev().cloned().collect();
            let (a, b) = (jonckheere_terpstra(&groups).unwrap(), jonckheere_terpstra(&turned).unwrap());
            prop_assert!((a.p_rising - b.p_falling).abs() < 1e-12);
        }
    }

    const JT: (f64, f64) = (29.0, 0.00857142857143);
    const JT_TIED: (f64, f64) = (19.5, 4.31463456489);
}
