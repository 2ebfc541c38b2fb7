//! Whether how often an expert is used predicts what rounding it costs.
//!
//! Every expert alone is rounded to the fewest bits, so that the change stands above the noise of the text.

use moescope_base::{Seed, Subject, WeightPlace};
use rand::seq::SliceRandom;

use super::parts::{expert, judged_with, uses};
use super::rounding::{Grouping, round};
use super::{ALONE, BITS_ALONE};
use crate::AnalysisError;
use crate::document_loss::{Judged, minus};
use crate::statistics::{PermutationTest, Tail, permutation_test, spearman};

/// Use against the cost of rounding single experts.
///
/// - **Unit and range:** `size` is the mean size of the change of the loss, nats per token; the correlation is Spearman's, −1 to 1, over experts of all layers.
/// - **Null:** uses dealt out to other experts: a correlation of 0; the p-value is that of a positive one.
/// - **Does not show:** that use makes an expert sensitive: experts that are used much may differ in their weights as well.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageEffect {
    /// Experts: layer, number, share of predicted tokens that choose it, change of the loss with it alone rounded (nats per token).
    pub experts: Vec<(usize, usize, f64, f64)>,
    /// Spearman's correlation of use and size of the change, against uses dealt out; none where one of them does not vary.
    pub correlation: Option<PermutationTest>,
}

/// Rounds at most [`ALONE`] experts, one at a time, to [`BITS_ALONE`] bits.
///
/// # Errors
/// If the model has no routed layer, or the subject cannot answer or run with other weights.
pub(super) fn of(
    subject: &mut dyn Subject,
    judged: &Judged<'_>,
    permutations: usize,
    seed: Seed,
) -> Result<UsageEffect, AnalysisError> {
    let free = judged.losses(subject, &[])?;
    let tokens: f64 = judged.tokens.iter().sum();
    let documents: Vec<usize> = (0..free.len()).collect();
    let uses = uses(subject, judged)?;
    let mut chosen: Vec<(usize, usize, f64)> = uses
        .iter()
        .flat_map(|(layer, uses)| {
            uses.iter().enumerate().map(|(expert, use_)| (*layer, expert, use_ / tokens))
        })
        .collect();
    chosen.shuffle(&mut seed.child("experts").rng());
    chosen.truncate(ALONE);
    chosen.sort_by_key(|found| (found.0, found.1));
    let mut experts = Vec::new();
    for (layer, number, share) in chosen {
        let places: Vec<WeightPlace> = expert(layer, number).collect();
        let losses =
            judged_with(subject, judged, &places, |_, matrix| round(matrix, BITS_ALONE, Grouping::Row))?;
        experts.push((layer, number, share, judged.estimate(&minus(&losses, &free), &documents)));
    }
    let shares: Vec<f64> = experts.iter().map(|expert| expert.2).collect();
    let sizes: Vec<f64> = experts.iter().map(|expert| expert.3.abs()).collect();
    Ok(UsageEffect { correlation: correlation(shares, &sizes, permutations, seed.child("uses")), experts })
}

/// Spearman's correlation against shares dealt out.
pub(super) fn correlation(
    shares: Vec<f64>,
    sizes: &[f64],
    permutations: usize,
    seed: Seed,
) -> Option<PermutationTest> {
    let of = |shares: &Vec<f64>| spearman(shares, sizes).map_or(f64::NAN, |found| found.coefficient);
    let deal = |shares: &mut Vec<f64>, rng: &mut rand_chacha::ChaCha8Rng| shares.shuffle(rng);
    permutation_test(&shares, of, deal, permutations, Tail::Greater, seed).ok()
}

/// The same for whoever has samples.
///
/// # Errors
/// As the instrument's.
pub fn usage_effect(
    subject: &mut dyn Subject,
    samples: &[crate::Sample],
    permutations: usize,
    seed: Seed,
) -> Result<UsageEffect, AnalysisError> {
    of(subject, &Judged::new(super::METHOD, samples)?, permutations, seed)
}
