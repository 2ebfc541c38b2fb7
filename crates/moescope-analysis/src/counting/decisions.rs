use moescope_trace::{BF16_ERROR, F32_ERROR, LayerRouting};

use super::ExactSum;

/// Tokens whose numbers are looked at several times while they are in the cache.
const BLOCK: usize = 1024;

/// Sums over tokens of how decided a router was. Tokens without the number (NaN) are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecisionSums {
    /// Entropy of the scores, nats.
    pub entropy: ExactSum,
    /// exp(entropy), experts.
    pub effective_choices: ExactSum,
    /// Last chosen minus best refused expert, in units of the selection scores.
    pub margin: ExactSum,
    /// Tokens with an entropy.
    pub entropy_tokens: u64,
    /// Tokens with a margin.
    pub margin_tokens: u64,
    /// Tokens whose margin is below the tie threshold.
    pub near_ties: u64,
    /// Which relative margins there were.
    pub relative: RelativeMargins,
}

/// Tokens by relative margin: see [`relative_margins`](moescope_trace::relative_margins).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelativeMargins {
    /// Tokens with one.
    pub tokens: u64,
    /// Tokens with at most [`BF16_ERROR`].
    pub bf16: u64,
    /// Tokens with at most [`F32_ERROR`].
    pub f32: u64,
}

impl DecisionSums {
    /// Adds the tokens of a layer; margins below `near_tie` count as nearly tied.
    pub fn add(&mut self, routing: &LayerRouting, near_tie: f32) {
        let there = |numbers: &'_ [f32]| numbers.iter().filter(|number| !number.is_nan()).count() as u64;
        let reals = |numbers: &'_ [f32]| -> Vec<f64> {
            numbers.iter().filter(|number| !number.is_nan()).map(|number| f64::from(*number)).collect()
        };
        self.entropy_tokens += there(&routing.entropy);
        self.margin_tokens += there(&routing.margin);
        self.near_ties += routing.margin.iter().map(|margin| u64::from(*margin < near_tie)).sum::<u64>();
        for (entropy, margin) in routing.entropy.chunks(BLOCK).zip(routing.margin.chunks(BLOCK)) {
            let entropy = reals(entropy);
            self.entropy.add_all(entropy.iter().copied());
            self.effective_choices.add_all(entropy.into_iter().map(f64::exp));
            self.margin.add_all(reals(margin).into_iter());
        }
        self.relative.add(&routing.relative_margin);
    }

    /// The counts, in a fixed order.
    pub(super) fn counts(&self) -> [u64; 6] {
        let RelativeMargins { tokens, bf16, f32 } = self.relative;
        [self.entropy_tokens, self.margin_tokens, self.near_ties, tokens, bf16, f32]
    }

    pub(super) fn count_mut(&mut self, count: usize) -> Option<&mut u64> {
        match count {
            0 => Some(&mut self.entropy_tokens),
            1 => Some(&mut self.margin_tokens),
            2 => Some(&mut self.near_ties),
            3 => Some(&mut self.relative.tokens),
            4 => Some(&mut self.relative.bf16),
            5 => Some(&mut self.relative.f32),
            _ => None,
        }
    }
}

impl RelativeMargins {
    /// Adds the relative margins of some tokens.
    pub fn add(&mut self, margins: &[f32]) {
        let count = |holds: fn(&f32) -> bool| margins.iter().map(|m| u64::from(holds(m))).sum::<u64>();
        self.tokens += count(|margin| !margin.is_nan());
        self.bf16 += count(|margin| *margin <= BF16_ERROR);
        self.f32 += count(|margin| *margin <= F32_ERROR);
    }
}
