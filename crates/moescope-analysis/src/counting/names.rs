//! What the tokens of a trace are called in the tables of all traces.

use moescope_trace::TokenTable;

use super::CountingPlan;
use super::documents::{Documents, half};
use super::halves::bigram_key;
use super::handover::followed;
use crate::specialisation::position_bucket;

/// Names of the tokens of a trace, worked out once for all layers; lists have one entry for each token unless said.
pub(super) struct Names<'a> {
    pub(super) tokens: &'a TokenTable,
    /// Documents of the trace.
    pub(super) documents: Documents,
    /// `2 · row + half of the documents` of domain and of class.
    pub(super) marks: [Vec<u32>; 2],
    /// `2 · bucket + half of the documents` of the position.
    pub(super) positions: Vec<u32>,
    /// Row of the token id.
    pub(super) rows: Vec<u32>,
    /// Row of the id of the next token.
    pub(super) next_rows: Vec<u32>,
    /// Whether the next token of the trace follows it in its document, 1 or 0.
    pub(super) followed: Vec<u8>,
    /// Key of the token with the one before it.
    pub(super) bigrams: Vec<u64>,
    /// Tokens whose bigram is kept, with its slot.
    pub(super) sampled_bigrams: Vec<(usize, u32)>,
    /// Documents that are kept, with their slots.
    pub(super) sampled_documents: Vec<(usize, u32)>,
}

impl<'a> Names<'a> {
    /// `domains` and `classes` are the rows of the names of the trace. Nothing is sampled yet.
    pub(super) fn of(
        tokens: &'a TokenTable,
        domains: &[u32],
        classes: &[u32],
        plan: &CountingPlan,
    ) -> Names<'a> {
        let documents = Documents::of(tokens);
        let halves: Vec<u32> = documents
            .each()
            .flat_map(|(stretch, key)| std::iter::repeat_n(u32::from(half(key)), stretch.len()))
            .collect();
        let marks = |own: &[u16], rows: &[u32]| -> Vec<u32> {
            own.iter().zip(&halves).map(|(label, half)| 2 * rows[*label as usize] + half).collect()
        };
        let rows = plan.token_rows as u32;
        let row = |ids: &[u32]| ids.iter().map(|id| if *id < rows { *id } else { *id % rows }).collect();
        let followed = followed(tokens);
        let bigram = |t: usize| {
            let before = t.checked_sub(1).filter(|before| followed[*before] == 1);
            bigram_key(before.map(|before| tokens.ids[before]), tokens.ids[t])
        };
        Names {
            tokens,
            marks: [marks(&tokens.domains, domains), marks(&tokens.classes, classes)],
            positions: tokens
                .positions
                .iter()
                .zip(&halves)
                .map(|(p, half)| 2 * position_bucket(*p) + half)
                .collect(),
            rows: row(&tokens.ids),
            next_rows: row(&tokens.next_ids),
            bigrams: (0..tokens.len()).map(bigram).collect(),
            followed,
            documents,
            sampled_bigrams: Vec::new(),
            sampled_documents: Vec::new(),
        }
    }
}
