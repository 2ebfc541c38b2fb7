//! Text whose law is known.

use moescope_analysis::AnalysisError;
use moescope_base::{Seed, Tokens};
use moescope_trace::TokenTable;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::hand::{DOMAINS, VOCABULARY};

/// The input of one forward pass, and what is known about its tokens.
pub(super) type Batch = (Tokens, TokenTable);

/// How many documents of how many tokens; each is one sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) documents: usize,
    pub(super) positions: usize,
}

/// What most planted texts have.
pub(super) const USUAL: Size = Size { documents: 48, positions: 32 };

/// Tokens drawn at random. Documents belong to the domains in turn, in name alone, and no two of the first [`VOCABULARY`] begin alike:
/// where a prefix decides routes, a shared one would be something to find.
pub(super) fn random(size: Size, seed: Seed) -> Result<Vec<Batch>, AnalysisError> {
    let mut beginnings: Vec<u32> = (0..VOCABULARY as u32).collect();
    beginnings.shuffle(&mut seed.child("beginnings").rng());
    batches(size, seed, |rng, before, document| match before {
        None => beginnings[document % VOCABULARY],
        Some(_) => rng.random_range(0..VOCABULARY as u32),
    })
}

/// The same, but the first token of a document tells its domain and stands nowhere else.
pub(super) fn marked(size: Size, seed: Seed) -> Result<Vec<Batch>, AnalysisError> {
    let marks = DOMAINS as u32;
    batches(size, seed, |rng, before, document| match before {
        None => document as u32 % marks,
        Some(_) => rng.random_range(marks..VOCABULARY as u32),
    })
}

/// Tokens drawn at random from the part of the vocabulary that belongs to the domain of the document.
pub(super) fn worded(size: Size, seed: Seed) -> Result<Vec<Batch>, AnalysisError> {
    let words = VOCABULARY / DOMAINS;
    batches(size, seed, |rng, _, document| ((document % DOMAINS) * words + rng.random_range(0..words)) as u32)
}

/// Every token drawn from the distribution of the one before: `law[before][next]` sums to one; the first is drawn at random.
pub(super) fn chained(size: Size, law: &[Vec<f64>], seed: Seed) -> Result<Vec<Batch>, AnalysisError> {
    batches(size, seed, |rng, before, _| match before {
        None => rng.random_range(0..VOCABULARY as u32),
        Some(token) => {
            let mut left = rng.random::<f64>();
            let next = law[token as usize].iter().position(|p| {
                left -= p;
                left < 0.0
            });
            // Rounding may leave a little beyond the last entry.
            next.unwrap_or(VOCABULARY - 1) as u32
        }
    })
}

/// Documents as one batch, token after token from the one before and the number of the document.
fn batches(
    size: Size,
    seed: Seed,
    mut next: impl FnMut(&mut rand_chacha::ChaCha8Rng, Option<u32>, usize) -> u32,
) -> Result<Vec<Batch>, AnalysisError> {
    let mut ids = Vec::with_capacity(size.documents * size.positions);
    for document in 0..size.documents {
        let mut rng = seed.index(document as u64).rng();
        let mut before = None;
        for _ in 0..size.positions {
            let token = next(&mut rng, before, document);
            ids.push(token);
            before = Some(token);
        }
    }
    let tokens = Tokens::new(ids, size.documents, size.positions)?;
    let document = |token: usize| token / size.positions;
    let of = |value: &dyn Fn(usize) -> usize| (0..tokens.len()).map(value).collect::<Vec<usize>>();
    let small = |numbers: Vec<usize>| numbers.into_iter().map(|n| n as u32).collect::<Vec<u32>>();
    let table = TokenTable {
        ids: tokens.ids().to_vec(),
        next_ids: tokens.next_ids(0),
        domains: of(&|t| document(t) % DOMAINS).into_iter().map(|d| d as u16).collect(),
        documents: small(of(&document)),
        positions: small(of(&|t| t % size.positions)),
        classes: vec![0; tokens.len()],
        domain_names: (0..DOMAINS).map(|domain| format!("domain {domain}")).collect(),
        class_names: vec!["token".into()],
    };
    Ok(vec![(tokens, table)])
}
