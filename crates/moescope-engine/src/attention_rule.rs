//! What scores of attention are made of, where the plain pattern does not do.

use std::ops::Range;

use crate::AttentionLayout;

/// How queries meet keys: a scale, a soft cap, and a window of keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionRule {
    /// Axes; `head_dim` is that of queries and keys.
    pub layout: AttentionLayout,
    /// Multiplies every product of a query and a key.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`. Source: Gemma Team 2024, "Gemma 2".
    pub cap: Option<f32>,
    /// Keys that a query sees, itself included; all earlier ones where there is no window.
    pub window: Option<usize>,
}

impl AttentionRule {
    /// Keys that a query sees.
    pub fn seen(&self, query: usize) -> Range<usize> {
        let first = self.window.map_or(0, |window| (query + 1).saturating_sub(window.max(1)));
        first..query + 1
    }
}

/// Which part of a head turns with the position, and how.
///
/// The rest of the head passes unchanged. As many entries turn as the tables have, [`Rotary::head_dim`](crate::Rotary::head_dim).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotaryPart {
    /// Heads in a token row.
    pub heads: usize,
    /// Entries of a head.
    pub head_dim: usize,
    /// First entry that turns.
    pub start: usize,
    /// Which entries make a pair.
    pub pairs: RotaryPairs,
    /// Tokens of a sequence; the position of a row is `row % positions`.
    pub positions: usize,
}

/// Which entries of the turning part make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotaryPairs {
    /// Entry `i` and entry `i + half`, as in Llama.
    Halves,
    /// Entries `2 i` and `2 i + 1`, as in DeepSeek.
    Neighbours,
}
