//! Tables for rotary position embedding.

use std::sync::Arc;

/// Cosines and sines of the rotary position embedding, `[position, head_dim / 2]` each.
///
/// Pair `i` of a head is made of its entries `i` and `i + head_dim / 2` ("rotate half", as in Llama and Qwen) and turns by
/// `position * theta^(-2 i / head_dim)` radians. Frequencies and angles are rounded to `f32` as the Hugging Face models do,
/// because trained weights have seen those roundings. A clone shares the tables.
///
/// **Source:** Su et al. 2021, "RoFormer".
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    tables: Arc<Tables>,
}

/// Row-major, `[position, head_dim / 2]`.
#[derive(Debug, PartialEq)]
struct Tables {
    head_dim: usize,
    positions: usize,
    cosine: Vec<f32>,
    sine: Vec<f32>,
}

impl Rotary {
    /// Tables for heads of `head_dim` entries and positions `0..max_positions`, with base `theta` (10 000 in the paper).
    ///
    /// An odd `head_dim` cannot be paired; the operation that uses the tables refuses it.
    pub fn new(head_dim: usize, theta: f64, max_positions: usize) -> Self {
        let half = head_dim / 2;
        let frequency: Vec<f32> =
            (0..half).map(|pair| theta.powf(-2.0 * pair as f64 / head_dim as f64) as f32).collect();
        Self::tables(head_dim, &frequency, 1.0, max_positions)
    }

    /// Tables for `2 * frequencies.len()` turning entries, from the frequencies of the pairs in radians for each position.
    /// Cosines and sines are multiplied by `magnitude`, which lengthens what is turned.
    pub fn from_frequencies(frequencies: &[f32], magnitude: f32, max_positions: usize) -> Self {
        Self::tables(2 * frequencies.len(), frequencies, magnitude, max_positions)
    }

    fn tables(head_dim: usize, frequency: &[f32], magnitude: f32, max_positions: usize) -> Self {
        let angles =
            (0..max_positions).flat_map(|position| frequency.iter().map(move |f| position as f32 * f));
        let pair = |angle: f32| (f64::from(angle).cos() as f32, f64::from(angle).sin() as f32);
        let (cosine, sine) = angles.map(pair).map(|(c, s)| (magnitude * c, magnitude * s)).unzip();
        Self { tables: Arc::new(Tables { head_dim, positions: max_positions, cosine, sine }) }
    }

    /// Entries of a head.
    pub fn head_dim(&self) -> usize {
        self.tables.head_dim
    }

    /// Number of positions in the tables.
    pub fn max_positions(&self) -> usize {
        self.tables.positions
    }

    /// Cosines, `[position, head_dim / 2]`.
    pub fn cosine(&self) -> &[f32] {
        &self.tables.cosine
    }

    /// Sines, `[position, head_dim / 2]`.
    pub fn sine(&self) -> &[f32] {
        &self.tables.sine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_zero_does_not_turn() {
        let rotary = Rotary::new(8, 10_000.0, 3);
        assert_eq!(rotary.cosine()[..4], [1.0; 4]);
        assert_eq!(rotary.sine()[..4], [0.0; 4]);
    }

    #[test]
    fn the_first_pair_turns_by_the_position_and_the_second_slower() {
        let rotary = Rotary::new(4, 10_000.0, 3);
        assert!((rotary.sine()[2 * 2] - 2f32.sin()).abs() < 1e-7);
        assert!((rotary.sine()[2 * 2 + 1] - 0.02f32.sin()).abs() < 1e-7);
    }
}
