//! Similarity of representations: unbiased linear centred kernel alignment.

use moescope_base::{Column, Seed, Table};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::matrix::Features;
use crate::statistics::{PermutationTest, Tail, permutation_test, standard_deviation};
use crate::{AnalysisError, check};

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
    /// Lower end of its 95 % interval over documents (jackknife, normal approximation); NaN with one document.
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
    let reach = 1.96 * jackknife_error(first, second, documents, &groups);
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
    let [low, high] = Column::interval("cka", "", "95 %, jackknife over documents", of(|s| s.low), of(|s| s.high));
    let documents = pairs.iter().map(|(_, s)| s.documents as i64).collect();
    let columns = vec![
        Column::key("pair", "what is compared", pairs.iter().map(|(label, _)| label.clone()).collect()),
        Column::estimate("cka", "", "unbiased linear CKA", of(|s| s.cka)),
        low,
        high,
        Column::observations("cka", "documents", documents),
        Column::null("cka", "", "mean with the tokens of the second shuffled", of(|s| s.shuffled.null_mean)),
        Column::p_value("cka", "against shuffled tokens, one-sided", of(|s| s.shuffled.p_value)),
    ];
    let method = "Unbiased linear centred kernel alignment of the same tokens; null: tokens of the second shuffled.";
    Ok(Table::new(name, title, method, columns)?)
}

/// Unbiased HSIC (HSIC₁) with linear kernels, computed from features.
///
/// With K̃ the kernel matrix without its diagonal: `tr(K̃L̃) + 1ᵀK̃1·1ᵀL̃1 / ((n−1)(n−2)) − 2/(n−2)·1ᵀK̃L̃1`, over `n(n−3)`.
fn hsic(first: &Features, second: &Features) -> f64 {
    let n = first.tokens() as f64;
    let (x, y) = (first.transposed(), second.transposed());
    let (own_x, own_y) = (diagonal(first), diagonal(second));
    let cross = (x * y.transpose()).norm_squared();
    let trace = cross - own_x.iter().zip(&own_y).map(|(a, b)| a * b).sum::<f64>();
    let (sums_x, sums_y) = (row_sums(first, &own_x), row_sums(second, &own_y));
    let totals = sums_x.iter().sum::<f64>() * sums_y.iter().sum::<f64>();
    let inner: f64 = sums_x.iter().zip(&sums_y).map(|(a, b)| a * b).sum();
    (trace + totals / ((n - 1.0) * (n - 2.0)) - 2.0 * inner / (n - 2.0)) / (n * (n - 3.0))
}

/// Diagonal of the kernel matrix.
fn diagonal(features: &Features) -> Vec<f64> {
    features.transposed().column_iter().map(|column| column.norm_squared()).collect()
}

/// Row sums of the kernel matrix without its diagonal.
fn row_sums(features: &Features, own: &[f64]) -> Vec<f64> {
    let total = features.transposed().column_sum();
    features.transposed().column_iter().zip(own).map(|(column, own)| column.dot(&total) - own).collect()
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
    if groups.len() < 2 {
        return f64::NAN;
    }
    let without = |left: &u32| {
        let kept: Vec<usize> = (0..documents.len()).filter(|t| documents[*t] != *left).collect();
        cka(&first.select(&kept), &second.select(&kept)).unwrap_or(f64::NAN)
    };
    let values: Vec<f64> = groups.iter().map(without).collect();
    let g = groups.len() as f64;
    standard_deviation(&values) * (g - 1.0) / g.sqrt()
}
