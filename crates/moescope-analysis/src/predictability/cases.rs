//! The cases that predictors tell apart, and what was chosen most often in each.

use moescope_trace::{LayerRouting, TokenTable};

use super::{Halves, Predictor};
use crate::grouped::grouped;
use crate::paths::Interned;

/// The cases of one predictor: all tokens that it cannot tell apart are one.
///
/// Those of the text are the same in every layer, and are numbered once.
pub(super) struct Cases {
    /// Case of each token, numbered from 0.
    of: Vec<u32>,
    /// Tokens of the half that teaches, case by case.
    teaching: Vec<u32>,
    /// End of each case in `teaching`.
    ends: Vec<u32>,
}

/// The experts that are guessed in each case of one layer.
///
/// Nothing is kept of how often others were chosen, so that many cases of many experts take little room.
pub(super) struct Guesses {
    /// `[case, slot]`.
    experts: Vec<u32>,
    per_token: usize,
    /// Whether the half that teaches has the case: `[case]`.
    seen: Vec<bool>,
}

impl Cases {
    /// What a predictor sees of the text; nothing of the text where it looks at clusters.
    pub(super) fn of_text(predictor: Predictor, tokens: &TokenTable, halves: &Halves) -> Cases {
        let keys: Vec<u64> = (0..tokens.len()).map(|token| predictor.sees(tokens, token)).collect();
        let Interned { ids, distinct } = Interned::of_keys(&keys);
        Cases::new(ids, distinct, halves)
    }

    /// Cases that are numbered already: the cluster of each token.
    pub(super) fn of_clusters(clusters: &[u32], halves: &Halves) -> Cases {
        let count = clusters.iter().max().map_or(0, |most| *most as usize + 1);
        Cases::new(clusters.to_vec(), count, halves)
    }

    fn new(of: Vec<u32>, count: usize, halves: &Halves) -> Cases {
        let teaches = || (0..of.len()).filter(|token| halves.teaches(*token));
        let (teaching, ends) = grouped(count, || teaches().map(|token| (of[token] as usize, token as u32)));
        Cases { of, teaching, ends }
    }

    /// Case of a token.
    pub(super) fn of(&self, token: usize) -> usize {
        self.of[token] as usize
    }

    /// As many experts as a token chooses: those that were chosen most often in the case, the lower number first where two are equal.
    pub(super) fn learn(&self, layer: &LayerRouting) -> Guesses {
        let per_token = layer.per_token;
        let mut experts = Vec::with_capacity(self.ends.len() * per_token);
        let mut seen = Vec::with_capacity(self.ends.len());
        let mut counts = vec![0i64; layer.experts];
        let mut start = 0;
        for end in &self.ends {
            let tokens = &self.teaching[start..*end as usize];
            start = *end as usize;
            seen.push(!tokens.is_empty());
            counts.fill(0);
            let chosen = tokens.iter().flat_map(|token| layer.chosen(*token as usize));
            chosen.for_each(|expert| counts[*expert as usize] += 1);
            for _ in 0..per_token {
                let more =
                    |best: usize, other: usize| if counts[other] > counts[best] { other } else { best };
                let best = (1..counts.len()).fold(0, more);
                experts.push(best as u32);
                counts[best] = -1; // guessed already
            }
        }
        Guesses { experts, per_token, seen }
    }
}

impl Guesses {
    /// What is guessed in a case; nothing where it was never seen.
    pub(super) fn of(&self, case: usize) -> Option<&[u32]> {
        self.seen[case].then(|| &self.experts[case * self.per_token..(case + 1) * self.per_token])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;

    /// Of ties the lower number, of cases without a teacher nothing.
    #[test]
    fn guesses_by_hand() {
        let documents: Vec<u32> = (0..24).map(|token| token / 3).collect();
        let tokens = planted::tokens([5, 5, 9].repeat(8), vec![0; 24], documents);
        let halves = Halves::new(&tokens, Seed(1)).unwrap();
        let trace = planted::trace(tokens.clone(), 4, 2, vec![[3, 1, 3, 1, 2, 0].repeat(8)]);
        let cases = Cases::of_text(Predictor::Token, &tokens, &halves);
        let guesses = cases.learn(&trace.layers()[0]);
        assert_eq!(
            (guesses.of(cases.of(0)), guesses.of(cases.of(2))),
            (Some(&[1, 3][..]), Some(&[0, 2][..]))
        );
        // Case 2 stands only in documents that are judged.
        let judged: Vec<u32> = (0..24).map(|token| if halves.teaches(token) { 0 } else { 2 }).collect();
        let guesses = Cases::of_clusters(&judged, &halves).learn(&trace.layers()[0]);
        assert_eq!((guesses.of(0), guesses.of(1), guesses.of(2)), (Some(&[1, 3][..]), None, None));
    }
}
