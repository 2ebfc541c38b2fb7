//! What the model loses when it goes on with what a dictionary writes.

use std::collections::BTreeMap;

use moescope_base::{Edit, HookPoint, Request, TokenSelection, ValueEdit, mean_row, row_tokens};
use moescope_dictionary::{Dictionary, DictionaryError, Rows, loss_recovered};
use moescope_engine::Tensor;

use super::sites::{Part, skipped};
use crate::instrument::Material;
use crate::next_token::{loss_at, predicted};
use crate::sequences::together;
use crate::statistics::{Bootstrap, LEAST_UNITS, Resampling, bootstrap};
use crate::{AnalysisError, Sample};

/// Sequences of judging documents, at most.
const SEQUENCES: usize = 64;

/// What is lost at one site, in nats per predicted token.
///
/// - **Null:** the mean of the rows that the dictionary learned from, put in at the site: what nothing but an average would cost.
/// - **Does not show:** that the model computes with the features, nor what several sites replaced at once would cost.
/// - **Source:** loss recovered of Bricken et al. 2023, "Towards Monosemanticity", here beside the loss itself, since a share of a loss
///   that hardly changes says nothing.
pub(super) struct Lost {
    /// Loss with what the dictionary writes, less that of the model as it is.
    pub(super) added: Bootstrap,
    /// The same with the mean of the site in place of what is there.
    pub(super) ablated: f64,
    /// Share of that which is kept; not a number where ablation costs nothing that could be told from zero.
    pub(super) recovered: f64,
}

/// The sequences of judging documents among those that were drawn, some together.
///
/// # Errors
/// If sequences make no batch.
pub(super) fn judging(samples: &[Sample], parts: &BTreeMap<u32, Part>) -> Result<Vec<Sample>, AnalysisError> {
    let mut found = Vec::new();
    for sample in samples {
        let positions = sample.tokens().positions();
        for (sequence, documents) in sample.documents().chunks_exact(positions).enumerate() {
            if documents.iter().all(|document| parts.get(document) == Some(&Part::Judges)) {
                found.push((sample.tokens().sequence(sequence).to_vec(), documents.to_vec()));
            }
        }
    }
    found.truncate(SEQUENCES);
    together(found, samples.iter().map(|sample| sample.tokens().batch()).max().unwrap_or(1))
}

/// What is lost at a site; `None` where too few documents predict a token for an interval.
///
/// # Errors
/// If the subject cannot answer.
pub(super) fn lost(
    material: &mut Material<'_>,
    samples: &[Sample],
    (dictionary, point, learned): (&Dictionary, HookPoint, &Tensor),
    resampling: Resampling,
) -> Result<Option<Lost>, AnalysisError> {
    let mean = mean_row(learned.data(), learned.columns());
    let mut sums: BTreeMap<u32, [f64; 4]> = BTreeMap::new(); // as it is, written, ablated, tokens
    for sample in samples {
        let clean = material.subject.run(&Request { record: &[point], ..Request::of(sample.tokens()) })?;
        let value = clean.values.get(&point).ok_or(AnalysisError::NotRecorded { point })?;
        let (numbers, width) = (value.real().unwrap_or(&[]), value.columns());
        let rows = row_tokens(value).into_iter().zip(numbers.chunks_exact(width));
        let kept: Vec<(u32, &[f32])> =
            rows.filter(|(token, _)| !skipped(*token as usize, sample.tokens().positions())).collect();
        let of: Vec<u32> = kept.iter().map(|(token, _)| *token).collect();
        let data: Vec<f32> = kept.iter().flat_map(|(_, row)| *row).copied().collect();
        // Where no token has a row, as of an expert that none of these chooses, nothing is put in.
        let changes = match of.is_empty() {
            true => Vec::new(),
            false => {
                let input = Tensor::new([of.len(), width], data).map_err(DictionaryError::from)?;
                let (_, written) = dictionary.reconstruct(&Rows::of(input))?;
                let put = ValueEdit::PatchByToken { of: of.clone(), rows: written.into_data() };
                vec![put, ValueEdit::Set { vector: mean.clone() }]
            }
        };
        let mut changed = Vec::new();
        for change in changes {
            let edits = [Edit::Value { at: point, tokens: TokenSelection::Rows(of.clone()), change }];
            changed.push(material.subject.run(&Request { edits: &edits, ..Request::of(sample.tokens()) })?);
        }
        for (row, document) in predicted(sample) {
            let sum = sums.entry(document).or_default();
            let arms = [&clean, changed.first().unwrap_or(&clean), changed.get(1).unwrap_or(&clean)];
            arms.iter().zip(sum.iter_mut()).for_each(|(seen, sum)| *sum += loss_at(sample, seen, row));
            sum[3] += 1.0;
        }
    }
    let documents: Vec<[f64; 4]> = sums.into_values().collect();
    if documents.len() < LEAST_UNITS {
        return Ok(None);
    }
    let over = |arm: usize| {
        let documents = &documents;
        move |drawn: &[usize]| {
            let sum = |of: usize| drawn.iter().map(|place| documents[*place][of]).sum::<f64>();
            (sum(arm) - sum(0)) / sum(3)
        }
    };
    let (added, ablated) =
        (bootstrap(documents.len(), over(1), resampling)?, bootstrap(documents.len(), over(2), resampling)?);
    let recovered = match ablated.low > 0.0 {
        true => loss_recovered(0.0, added.estimate, ablated.estimate),
        false => f64::NAN,
    };
    Ok(Some(Lost { added, ablated: ablated.estimate, recovered }))
}
