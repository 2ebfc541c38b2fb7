//! Domains planted as grammars over an overlapping vocabulary.

use moescope_base::{Seed, Tokens};

use crate::draws::Draws;
use crate::error::CorpusError;
use crate::permutation::Permutation;
use crate::split::Split;

/// `domains` grammars: in each, a token is followed by one of `branching` tokens, all equally likely.
///
/// A domain uses `shared` tokens that all domains use and `own` tokens of its own. Every successor
/// table is a permutation of the domain's tokens, so within a domain all its tokens are equally
/// frequent: with `own = 0` no count of tokens tells domains apart, only their order does. That
/// separates "an expert follows a domain" from "an expert follows a vocabulary".
///
/// The least loss is known: `ln(branching)` nats per token once the domain is recognised.
///
/// - **Source:** planted multi-domain grammars as a ground truth for expert specialisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlantedDomains {
    domains: usize,
    shared: usize,
    own: usize,
    branching: usize,
    positions: usize,
}

/// Sequences of planted domains, and which domain each comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlantedBatch {
    /// The sequences, `ids[batch, pos]`.
    pub tokens: Tokens,
    /// The domain of each sequence, `[batch]`.
    pub domains: Vec<u32>,
}

impl PlantedDomains {
    /// The task's name in tables.
    pub const NAME: &'static str = "planted domains";

    /// Planted domains of the given sizes.
    ///
    /// # Errors
    /// [`CorpusError::TaskSizes`] for no domain, a branching that is 0 or above the domain's tokens,
    /// or fewer than 2 positions.
    pub fn new(
        domains: usize,
        shared: usize,
        own: usize,
        branching: usize,
        positions: usize,
    ) -> Result<Self, CorpusError> {
        if domains == 0 || branching == 0 || branching > shared + own || positions < 2 {
            let problem = format!(
                "{domains} domains of {shared} shared and {own} own tokens, branching {branching}, {positions} positions; wanted at least 1 domain, a branching from 1 to the number of tokens, and 2 positions"
            );
            return Err(CorpusError::TaskSizes { task: Self::NAME, problem });
        }
        Ok(Self { domains, shared, own, branching, positions })
    }

    /// 4 domains over the same 32 tokens, 2 successors each, 32 positions.
    pub fn preset() -> Self {
        Self { domains: 4, shared: 32, own: 0, branching: 2, positions: 32 }
    }

    /// Number of domains.
    pub fn domains(&self) -> usize {
        self.domains
    }

    /// Number of token ids: shared ones first, then each domain's own.
    pub fn vocabulary(&self) -> usize {
        self.shared + self.domains * self.own
    }

    /// Tokens per sequence.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Loss of a model that knows the grammars and the domain, in nats per token.
    pub fn least_loss(&self) -> f64 {
        (self.branching as f64).ln()
    }

    /// The tokens that may follow a token in a domain, or none where the domain lacks the token.
    pub fn successors(&self, seed: Seed, domain: usize, token: u32) -> Vec<u32> {
        let Some(word) = self.word(domain, token) else { return Vec::new() };
        (0..self.branching)
            .map(|branch| self.next(seed, domain, word, branch))
            .map(|word| self.token(domain, word))
            .collect()
    }

    /// The batch of a step, steps counted from 0; domains take turns.
    ///
    /// # Errors
    /// [`CorpusError::TooLittle`] for a batch of none.
    pub fn batch(
        &self,
        seed: Seed,
        split: Split,
        step: u64,
        batch_size: usize,
    ) -> Result<PlantedBatch, CorpusError> {
        let first = step * batch_size as u64;
        let (mut ids, mut domains) = (Vec::with_capacity(batch_size * self.positions), Vec::new());
        for index in first..first + batch_size as u64 {
            let domain = (index % self.domains as u64) as usize;
            ids.extend(self.sequence(seed, split, index, domain));
            domains.push(domain as u32);
        }
        let tokens = Tokens::new(ids, batch_size, self.positions).map_err(|_| CorpusError::TooLittle {
            what: "batch",
            found: batch_size,
            wanted: 1,
        })?;
        Ok(PlantedBatch { tokens, domains })
    }

    fn sequence(&self, seed: Seed, split: Split, index: u64, domain: usize) -> Vec<u32> {
        let mut draws = Draws::new(seed.child(Self::NAME).child(split.name()), "sequence", index);
        let mut word = draws.below(self.shared + self.own);
        let mut ids = Vec::with_capacity(self.positions);
        for _ in 0..self.positions {
            ids.push(self.token(domain, word));
            word = self.next(seed, domain, word, draws.below(self.branching));
        }
        ids
    }

    /// The successor on one branch. Branches are shifts of one permutation, so they never meet.
    fn next(&self, seed: Seed, domain: usize, word: usize, branch: usize) -> usize {
        let words = self.shared + self.own;
        Permutation::new(seed.child("planted grammar").index(domain as u64), words)
            .at((word + branch) % words)
    }

    /// The id of a domain's word.
    fn token(&self, domain: usize, word: usize) -> u32 {
        let before = if word < self.shared { 0 } else { domain * self.own };
        (before + word) as u32
    }

    /// The word of an id in a domain: the inverse of [`PlantedDomains::token`].
    fn word(&self, domain: usize, token: u32) -> Option<usize> {
        let token = token as usize;
        if token < self.shared {
            return Some(token);
        }
        let first = self.shared + domain * self.own;
        (first..first + self.own).contains(&token).then(|| token - domain * self.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn sequences_follow_their_domain_and_no_other() {
        let planted = PlantedDomains::preset();
        let batch = planted.batch(Seed(1), Split::Train, 0, 40).unwrap();
        let allowed = |domain: u32, ids: &[u32]| {
            ids.windows(2)
                .all(|pair| planted.successors(Seed(1), domain as usize, pair[0]).contains(&pair[1]))
        };
        for (index, &domain) in batch.domains.iter().enumerate() {
            let ids = batch.tokens.sequence(index);
            assert!(allowed(domain, ids));
            assert!(!allowed((domain + 1) % 4, ids));
        }
    }

    #[test]
    fn successors_are_different_and_every_token_is_equally_often_one() {
        let planted = PlantedDomains::new(2, 6, 3, 3, 8).unwrap();
        let mut times = vec![0; planted.vocabulary()];
        for token in 0..planted.vocabulary() as u32 {
            let successors = planted.successors(Seed(9), 1, token);
            assert_eq!(successors.iter().collect::<BTreeSet<_>>().len(), successors.len());
            successors.iter().for_each(|&next| times[next as usize] += 1);
        }
        // Tokens 6, 7, 8 are domain 0's own.
        assert_eq!(times, [3, 3, 3, 3, 3, 3, 0, 0, 0, 3, 3, 3]);
    }

    #[test]
    fn token_counts_do_not_tell_domains_apart() {
        let planted = PlantedDomains::preset();
        let batch = planted.batch(Seed(1), Split::Train, 0, 2000).unwrap();
        let mut counts = vec![[0f64; 32]; 4];
        for (index, &domain) in batch.domains.iter().enumerate() {
            batch.tokens.sequence(index).iter().for_each(|&id| counts[domain as usize][id as usize] += 1.0);
        }
        // 16,000 tokens per domain over 32 ids: 500 each, give or take five standard deviations.
        assert!(counts.iter().flatten().all(|&count| (count - 500.0).abs() < 150.0), "{counts:?}");
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        assert!(PlantedDomains::new(0, 4, 0, 1, 8).is_err());
        assert!(PlantedDomains::new(2, 4, 0, 5, 8).is_err());
        assert!(PlantedDomains::new(2, 4, 0, 2, 1).is_err());
        assert!(PlantedDomains::preset().batch(Seed(0), Split::Train, 0, 0).is_err());
    }
}
