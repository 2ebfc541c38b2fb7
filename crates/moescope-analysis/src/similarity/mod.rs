//! Similarity of representations: unbiased linear centred kernel alignment with intervals, and five other measures beside it.

mod gives;
mod hsic;
mod layers;
mod measures;

use moescope_base::{Column, Seed, Table};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::matrix::Features;
use crate::statistics::{PermutationTest, Tail, permutation_test, standard_deviation, student};
use crate::tabulate::labels;
use crate::{AnalysisError, check};

pub(crate) use layers::{Compared, Parts, compared, compared_mutually};
pub use layers::{LayerPair, LayerSimilarity, layer_similarity};
pub use measures::{Measure, Prepared};

use hsic::{hsic, without_each};

/// How alike two representations of the same tokens are.
///
/// - **Unit and range:** pure number; 1 for representations that differ by a rotation and a scale; around 0, and
///   slightly below it as often as above, for unrelated ones.
/// - **Null:** tokens of the second representation shuffled.
/// - **Does not show:** whether two models compute alike. A few directions of large variance, such as a massive
///   activation, may decide the number; and two linearly equivalent representations need not score 1.
/// - **Source:** linear CKA of Kornblith et al. 2019 with the unbiased HSIC of Song et al. 2012 (Nguyen et al. 2021),
///   which does not grow with width at a fixed number of tokens, as the biased form does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// Unbiased linear CKA.
    pub cka: f64,
    /// Lower end of its 95 % interval over documents (jackknife, Student's t); NaN with one document.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Against the second representation with its tokens shuffled.
    pub shuffled: PermutationTest,
    /// Tokens compared.
    pub tokens: usize,
    /// Documents they come from.
    pub documents: usize,
}

/// How often to shuffle, and from which seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimilarityOptions {
    /// Shuffles of the null; the p-value is at least 1 / (shuffles + 1).
    pub permutations: usize,
    /// Source of the shuffles.
    pub seed: Seed,
}

/// Compares two representations of the same tokens, with interval and null.
///
/// - **Shape:** `first[token, d1]`, `second[token, d2]`, `documents[token]`.
///
/// # Errors
/// As [`cka`], or if there is not one document for each token or no shuffle is asked for.
pub fn similarity(
    first: &Features,
    second: &Features,
    documents: &[u32],
    options: SimilarityOptions,
) -> Result<Similarity, AnalysisError> {
    check::same_length("CKA", "list of documents", documents.len(), first.tokens())?;
    let estimate = cka(first, second)?;
    let order: Vec<usize> = (0..second.tokens()).collect();
    let (centred, partner) = (first.centred(), second.centred());
    // Shuffling does not change how similar a representation is to itself.
    let scale = (hsic(&centred, &centred) * hsic(&partner, &partner)).sqrt();
    let shuffled = permutation_test(
        &order,
        |order| hsic(&centred, &partner.select(order)) / scale,
        |order, rng| order.shuffle(rng),
        options.permutations,
        Tail::Greater,
        options.seed,
    )?;
    let groups = documents_of(documents);
    let error = jackknife_error(first, second, documents, &groups);
    // With one document the error is NaN, whatever it is multiplied with.
    let reach = student::quantile(0.975, groups.len().max(2) as f64 - 1.0) * error;
    let (low, high) = (estimate - reach, estimate + reach);
    Ok(Similarity { cka: estimate, low, high, shuffled, tokens: first.tokens(), documents: groups.len() })
}

/// Unbiased linear CKA of `first[token, d1]` and `second[token, d2]`.
///
/// The cost is `tokens · d1 · d2`: no matrix of tokens by tokens is formed.
///
/// # Errors
/// With fewer than four tokens, another number of tokens in the second, or a representation without variation that
/// stands out from noise (its unbiased self-similarity is not positive).
pub fn cka(first: &Features, second: &Features) -> Result<f64, AnalysisError> {
    check::at_least("CKA", "tokens", first.tokens(), 4)?;
    check::same_length("CKA", "second representation", second.tokens(), first.tokens())?;
    let (first, second) = (first.centred(), second.centred());
    let (own_first, own_second) = (hsic(&first, &first), hsic(&second, &second));
    for (own, what) in [(own_first, "the first representation"), (own_second, "the second representation")] {
        if own <= 0.0 {
            return Err(AnalysisError::Constant { method: "CKA", what });
        }
    }
    Ok(hsic(&first, &second) / (own_first * own_second).sqrt())
}

/// One row for each compared pair.
///
/// # Errors
/// If labels and results differ in number.
pub fn table(name: &str, title: &str, pairs: &[(String, Similarity)]) -> Result<Table, AnalysisError> {
    let of = |pick: fn(&Similarity) -> f64| pairs.iter().map(|(_, s)| pick(s)).collect::<Vec<f64>>();
    let [low, high] = Column::interval(
        "cka",
        "",
        "95 %, jackknife over documents, Student's t",
        of(|s| s.low),
        of(|s| s.high),
    );
    let documents = pairs.iter().map(|(_, s)| s.documents as i64).collect();
    let columns = vec![
        Column::key("pair", "what is compared", labels(pairs)),
        Column::estimate("cka", "", "unbiased linear CKA", of(|s| s.cka)),
        low,
        high,
        Column::observations("cka", "documents", documents),
        Column::null("cka", "", "mean with the tokens of the second shuffled", of(|s| s.shuffled.null_mean)),
        Column::p_value("cka", "against shuffled tokens, one-sided", of(|s| s.shuffled.p_value)),
    ];
    let method =
        "Unbiased linear centred kernel alignment of the same tokens; null: tokens of the second shuffled.";
    Ok(Table::new(name, title, method, columns)?)
}

/// Distinct documents, ascending.
fn documents_of(documents: &[u32]) -> Vec<u32> {
    let mut distinct = documents.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

/// Standard error of the CKA by leaving out one document at a time; NaN with one document.
fn jackknife_error(first: &Features, second: &Features, documents: &[u32], groups: &[u32]) -> f64 {
    let values = without_each(first, second, documents, groups);
    let g = groups.len() as f64;
    standard_deviation(&values) * (g - 1.0) / g.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::matrix::{normal, random_rotation};

    const OPTIONS: SimilarityOptions = SimilarityOptions { permutations: 99, seed: Seed(7) };

    fn noise(tokens: usize, width: usize, seed: u64) -> Features {
        let mut rng = Seed(seed).rng();
        Features::new(width, &(0..tokens * width).map(|_| normal(&mut rng)).collect::<Vec<_>>()).unwrap()
    }

    /// `first` plus independent noise of the given size.
    fn blurred(first: &Features, size: f64, seed: u64) -> Features {
        let other = noise(first.tokens(), first.width(), seed);
        let values: Vec<f64> = (0..first.tokens())
            .flat_map(|t| {
                first.row(t).iter().zip(other.row(t)).map(move |(a, b)| a + size * b).collect::<Vec<_>>()
            })
            .collect();
        Features::new(first.width(), &values).unwrap()
    }

    fn documents(tokens: usize) -> Vec<u32> {
        (0..tokens).map(|t| t as u32 / 10).collect()
    }

    /// Biased linear CKA, as it was first published.
    fn biased(first: &Features, second: &Features) -> f64 {
        let (first, second) = (first.centred(), second.centred());
        let cross = |a: &Features, b: &Features| (a.transposed() * b.transposed().transpose()).norm_squared();
        cross(&first, &second) / (cross(&first, &first) * cross(&second, &second)).sqrt()
    }

    #[test]
    fn a_representation_is_like_itself() {
        let first = noise(12, 3, 1);
        assert!((cka(&first, &first).unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_planted_likeness_is_found_and_grows_with_it() {
        let first = noise(200, 8, 3);
        let near = similarity(&first, &blurred(&first, 0.3, 4), &documents(200), OPTIONS).unwrap();
        let far = similarity(&first, &blurred(&first, 2.0, 4), &documents(200), OPTIONS).unwrap();
        assert!(near.cka > 0.8 && far.cka < 0.5 && far.low > 0.0);
        assert_eq!(near.shuffled.p_value, 0.01);
        assert!(near.low < near.cka && near.cka < near.high && near.documents == 20);
    }

    #[test]
    fn independent_representations_average_zero_where_the_biased_form_does_not() {
        let pairs = 60;
        let mean = |measure: &dyn Fn(&Features, &Features) -> f64| {
            (0..pairs).map(|i| measure(&noise(40, 20, 100 + i), &noise(40, 20, 900 + i))).sum::<f64>()
                / pairs as f64
        };
        let (unbiased, published) = (mean(&|a, b| cka(a, b).unwrap()), mean(&biased));
        assert!(unbiased.abs() < 0.02, "{unbiased}");
        assert!(published > 0.3, "{published}");
    }

    #[test]
    fn independent_representations_are_rejected_at_the_stated_rate() {
        let options = |seed| SimilarityOptions { permutations: 19, seed: Seed(seed) };
        let rejected = (0..200)
            .filter(|i| {
                let (a, b) = (noise(20, 3, 2000 + i), noise(20, 3, 5000 + i));
                similarity(&a, &b, &[0; 20], options(*i)).unwrap().shuffled.p_value <= 0.05
            })
            .count();
        assert!(rejected < 22, "{rejected} of 200 at level 0.05");
    }

    #[test]
    fn constant_short_and_unpaired_representations_are_refused() {
        let constant = Features::new(1, &[2.0; 6]).unwrap();
        assert!(matches!(cka(&constant, &noise(6, 2, 1)), Err(AnalysisError::Constant { .. })));
        assert!(cka(&noise(3, 2, 1), &noise(3, 2, 2)).is_err());
        assert!(cka(&noise(6, 2, 1), &noise(7, 2, 2)).is_err());
        assert!(similarity(&noise(6, 2, 1), &noise(6, 2, 2), &[0; 5], OPTIONS).is_err());
    }

    #[test]
    fn one_document_has_no_interval_and_the_table_states_the_null() {
        let first = noise(30, 3, 5);
        let single = similarity(&first, &blurred(&first, 0.1, 6), &[0; 30], OPTIONS).unwrap();
        assert!(single.low.is_nan());
        let table = table("cka", "Similarity", &[("a, b".into(), single)]).unwrap();
        assert!(table.column("cka_null").unwrap().data.number(0).unwrap().abs() < 0.1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn rotation_scale_shift_and_order_of_tokens_change_nothing(
            seed in 0u64..1000, scale in 0.1..10.0f64, shift in -5.0..5.0f64
        ) {
            let first = noise(25, 4, seed);
            let second = blurred(&first, 1.0, seed + 5000);
            let expected = cka(&first, &second).unwrap();
            let rotated = second.rotate(&(random_rotation(4, Seed(seed)) * scale)).unwrap();
            prop_assert!((cka(&first, &rotated).unwrap() - expected).abs() < 1e-9);
            let values: Vec<f64> = (0..25).flat_map(|t| second.row(t).iter().map(|v| v + shift).collect::<Vec<_>>()).collect();
            let shifted = Features::new(4, &values).unwrap();
            prop_assert!((cka(&first, &shifted).unwrap() - expected).abs() < 1e-9);
            let reversed: Vec<usize> = (0..25).rev().collect();
            let both = cka(&first.select(&reversed), &second.select(&reversed)).unwrap();
            prop_assert!((both - expected).abs() < 1e-9);
            prop_assert!((cka(&second, &first).unwrap() - expected).abs() < 1e-12);
        }
    }
}
