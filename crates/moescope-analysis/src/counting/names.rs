//! What the tokens of a trace are called in the tables of all traces.
//!
//! Traces number domains, classes and documents each in its own way, and layers would ask the same of every
//! token again. Here everything that does not depend on a layer is worked out once for a trace; a layer then
//! adds to rows whose numbers lie ready.
//!
//! A token has one mark for domain, class and half of the documents together: there are few such kinds, and one
//! table by mark holds those by domain, by class and by half.

use moescope_trace::TokenTable;

use super::CountingPlan;
use super::documents::{Documents, half};
use super::halves::bigram_key;
use super::handover::followed;
use super::token_counts::TokenRows;
use crate::specialisation::position_bucket;

/// Names of the tokens of a trace, worked out once for all layers; lists have one entry for each token unless said.
pub(super) struct Names<'a> {
    pub(super) tokens: &'a TokenTable,
    /// Documents of the trace.
    pub(super) documents: Documents,
    /// `2 · pair + half of the documents` of domain and class together.
    pub(super) marks: Vec<u32>,
    /// Row of the domain of each document.
    pub(super) domains: Vec<u32>,
    /// `2 · bucket + half of the documents` of the position.
    pub(super) positions: Vec<u32>,
    /// Row of the token id, see [`TokenRows`].
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
    /// `domains` and `classes` are the rows of the names of the trace; pairs of them that are new are added to `pairs`. Nothing is sampled yet.
    pub(super) fn of(
        tokens: &'a TokenTable,
        domains: &[u32],
        classes: &[u32],
        pairs: &mut Vec<[u32; 2]>,
        at: TokenRows,
        plan: &CountingPlan,
    ) -> Names<'a> {
        let documents = Documents::of(tokens);
        let halves: Vec<u32> = documents
            .each()
            .flat_map(|(stretch, key)| std::iter::repeat_n(u32::from(half(key)), stretch.len()))
            .collect();
        let domain = |token: usize| domains[tokens.domains[token] as usize];
        // Pairs of the trace's own names, looked up once.
        let mut known = vec![None; tokens.domain_names.len() * tokens.class_names.len()];
        let mut mark = |token: usize| {
            let class = tokens.classes[token] as usize;
            let own = tokens.domains[token] as usize * tokens.class_names.len() + class;
            let pair = *known[own].get_or_insert_with(|| place_of(pairs, [domain(token), classes[class]]));
            2 * pair + halves[token]
        };
        let row = |token: usize| at.row(2 * domain(token) + halves[token], tokens.ids[token]);
        let next_rows = plan.token_rows as u32;
        let followed = followed(tokens);
        let bigram = |t: usize| {
            let before = t.checked_sub(1).filter(|before| followed[*before] == 1);
            bigram_key(before.map(|before| tokens.ids[before]), tokens.ids[t])
        };
        Names {
            tokens,
            marks: (0..tokens.len()).map(&mut mark).collect(),
            domains: documents.stretches.iter().map(|stretch| domain(stretch.start)).collect(),
            positions: tokens
                .positions
                .iter()
                .zip(&halves)
                .map(|(position, half)| 2 * position_bucket(*position) + half)
                .collect(),
            rows: (0..tokens.len()).map(row).collect(),
            next_rows: tokens.next_ids.iter().map(|id| id % next_rows).collect(),
            bigrams: (0..tokens.len()).map(bigram).collect(),
            followed,
            documents,
            sampled_bigrams: Vec::new(),
            sampled_documents: Vec::new(),
        }
    }
}

/// Place of a pair in a list, to which it is added if it is new.
pub(super) fn place_of(pairs: &mut Vec<[u32; 2]>, pair: [u32; 2]) -> u32 {
    let known = pairs.iter().position(|own| *own == pair);
    known.unwrap_or_else(|| {
        pairs.push(pair);
        pairs.len() - 1
    }) as u32
}
