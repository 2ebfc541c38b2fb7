//! Ways to disturb a text.

use std::collections::BTreeMap;

use moescope_base::{Edit, HookPoint, Seed, Site, TokenSelection, Tokens, Value, ValueEdit};
use rand::RngExt;
use rand::seq::SliceRandom;

use crate::matrix::normal;
use crate::{AnalysisError, Sample};

/// What is done to a text.
///
/// A token counts as touched if its id, or its embedding, is another than before: a replacement that draws the same token touches nothing, so
/// that the share of touched tokens may be a little below the amount.
///
/// The three kinds break different things. Exchanging keeps which words a document has and breaks their
/// order; replacing breaks both, with words that are as frequent as in the batch; noise leaves the tokens and
/// what is to be predicted as they are, and only blurs what the model reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Disturbance {
    /// Of each document, this share of the tokens change places among themselves.
    Exchanged(f64),
    /// Each token is replaced with this probability by one drawn from the whole text.
    Replaced(f64),
    /// Every other token, at random, has Gaussian noise added to its embedding, so many times as large as the embedding.
    Noise(f64),
}

impl Disturbance {
    /// All that are tried.
    pub const ALL: [Disturbance; 9] = [
        Disturbance::Exchanged(0.1),
        Disturbance::Exchanged(0.25),
        Disturbance::Exchanged(0.5),
        Disturbance::Replaced(0.1),
        Disturbance::Replaced(0.25),
        Disturbance::Replaced(0.5),
        Disturbance::Noise(0.25),
        Disturbance::Noise(0.5),
        Disturbance::Noise(1.0),
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Disturbance::Exchanged(_) => "tokens exchanged",
            Disturbance::Replaced(_) => "tokens replaced",
            Disturbance::Noise(_) => "embedding noise",
        }
    }

    /// Share of the tokens, or size of the noise.
    pub fn amount(self) -> f64 {
        match self {
            Disturbance::Exchanged(amount) | Disturbance::Replaced(amount) | Disturbance::Noise(amount) => {
                amount
            }
        }
    }
}

/// A disturbed input.
pub(super) struct Disturbed {
    /// What the model reads.
    pub(super) tokens: Tokens,
    /// What is changed on the way.
    pub(super) edits: Vec<Edit>,
    /// Whether a token was touched: its id, or its embedding.
    pub(super) touched: Vec<bool>,
}

impl Disturbance {
    /// The disturbed text of a sample, whose embeddings are `[batch, pos, d_model]`.
    pub(super) fn of(
        self,
        sample: &Sample,
        embedded: &Value,
        seed: Seed,
    ) -> Result<Disturbed, AnalysisError> {
        let tokens = sample.tokens();
        let mut rng = seed.rng();
        let mut ids = tokens.ids().to_vec();
        match self {
            Disturbance::Exchanged(share) => {
                for places in documents(sample).values() {
                    let mut some: Vec<usize> =
                        places.iter().copied().filter(|_| rng.random::<f64>() < share).collect();
                    some.shuffle(&mut rng);
                    // Each of them takes the token of the next in a circle.
                    for (at, place) in some.iter().enumerate() {
                        ids[*place] = tokens.ids()[some[(at + 1) % some.len()]];
                    }
                }
            }
            Disturbance::Replaced(rate) => {
                for id in &mut ids {
                    if rng.random::<f64>() < rate {
                        *id = tokens.ids()[rng.random_range(0..tokens.len())];
                    }
                }
            }
            Disturbance::Noise(size) => return noisy(tokens, embedded, size, seed),
        }
        let touched = ids.iter().zip(tokens.ids()).map(|(new, old)| new != old).collect();
        let tokens = Tokens::new(ids, tokens.batch(), tokens.positions())?;
        Ok(Disturbed { tokens, edits: Vec::new(), touched })
    }
}

/// Places of the tokens of each document.
fn documents(sample: &Sample) -> BTreeMap<u32, Vec<usize>> {
    let mut found: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    sample
        .documents()
        .iter()
        .enumerate()
        .for_each(|(at, document)| found.entry(*document).or_default().push(at));
    found
}

/// The text as it is, with noise added to the embedding of every other token at random.
///
/// Each coordinate gets a normal draw times the root mean square of the token's own vector and `size`, so that one and the same size disturbs
/// long and short embeddings alike. Tokens that are not touched keep theirs to the bit.
fn noisy(tokens: &Tokens, embedded: &Value, size: f64, seed: Seed) -> Result<Disturbed, AnalysisError> {
    let point = HookPoint::global(Site::Embed);
    let numbers = embedded.real().ok_or(AnalysisError::NotRecorded { point })?;
    let mut rng = seed.rng();
    let touched: Vec<bool> = (0..tokens.len()).map(|_| rng.random::<f64>() < 0.5).collect();
    let width = embedded.columns();
    let mut rows = Vec::new();
    for (vector, _) in numbers.chunks_exact(width).zip(&touched).filter(|(_, touched)| **touched) {
        let square: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
        let scale = size * (square / width as f64).sqrt();
        rows.extend(vector.iter().map(|x| x + (scale * normal(&mut rng)) as f32));
    }
    let selected = (0..tokens.len()).filter(|token| touched[*token]).map(|token| token as u32).collect();
    let edit =
        Edit::Value { at: point, tokens: TokenSelection::Rows(selected), change: ValueEdit::Patch { rows } };
    Ok(Disturbed { tokens: tokens.clone(), edits: vec![edit], touched })
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::ValueData;
    use proptest::prelude::*;

    fn sample() -> Sample {
        let ids = (0..60).map(|at| at % 7).collect();
        Sample::one_document_each(Tokens::new(ids, 3, 20).unwrap(), 0)
    }

    fn embedded() -> Value {
        let numbers = (0..120).map(|at| at as f32).collect();
        Value::new(HookPoint::global(Site::Embed), vec![3, 20, 2], ValueData::Real(numbers), None).unwrap()
    }

    proptest! {
        #[test]
        fn exchanging_keeps_the_tokens_of_each_document(seed in any::<u64>(), share in 0.0f64..1.0) {
            let own = sample();
            let found = Disturbance::Exchanged(share).of(&own, &embedded(), Seed(seed)).unwrap();
            for document in 0..3 {
                let sorted = |ids: &[u32]| {
                    let mut ids = ids[20 * document..20 * (document + 1)].to_vec();
                    ids.sort_unstable();
                    ids
                };
                prop_assert_eq!(sorted(found.tokens.ids()), sorted(own.tokens().ids()));
            }
        }
    }

    #[test]
    fn a_rate_is_kept_and_noise_touches_the_embedding_alone() {
        let own = sample();
        let touched = |d: Disturbance| d.of(&own, &embedded(), Seed(1)).unwrap();
        let count = |found: &Disturbed| found.touched.iter().filter(|touched| **touched).count();
        assert_eq!(count(&touched(Disturbance::Replaced(0.0))), 0);
        let half = count(&touched(Disturbance::Replaced(0.5)));
        assert!((15..40).contains(&half), "{half}");
        let noise = touched(Disturbance::Noise(1.0));
        assert_eq!(noise.tokens.ids(), own.tokens().ids());
        let [Edit::Value { change: ValueEdit::Patch { rows }, .. }] = &noise.edits[..] else {
            panic!("a patch")
        };
        assert_eq!(rows.len(), 2 * count(&noise));
    }
}
