//! The rotary turn of part of each head.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Rotary, RotaryPart, Tape, Tensor, Var};

/// The tables are shared with the model, not copied.
struct TurnPart {
    x: Var,
    rotary: Rotary,
    part: RotaryPart,
}

const NAME: &str = "rotary_part";

impl Tape<'_> {
    /// Turns part of each head of `x[token, head * head_dim]` by its position, as [`RotaryPart`] says. The rest passes.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the width does not fit, [`EngineError::Range`] when the turning part does not lie inside a
    /// head or the tables have too few positions.
    pub fn rotary_part(&mut self, x: Var, rotary: &Rotary, part: RotaryPart) -> Result<Var, EngineError> {
        let range = |argument, found, low, high| {
            if (low..=high).contains(&found) {
                return Ok(());
            }
            Err(EngineError::Range { operation: NAME, argument, found, low, high })
        };
        range("end of the turning part", part.start + rotary.head_dim(), 1, part.head_dim)?;
        range("positions", part.positions, 1, rotary.max_positions())?;
        self.require_shape(NAME, "x", x, &[self.value(x).rows(), part.heads * part.head_dim])?;
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.rotary_part(self.value(x).data(), rotary, part, out.data_mut());
        Ok(self.record(out, [Some(x), None], TurnPart { x, rotary: rotary.clone(), part }))
    }
}

impl Operation for TurnPart {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        sweep.device().rotary_part_backward(&self.rotary, self.part, gradient.data_mut());
        sweep.add(self.x, gradient);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RotaryPairs;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[f64], part: RotaryPart, frequencies: &[f32], magnitude: f64) -> Vec<f64> {
        let mut out = x.to_vec();
        let half = frequencies.len();
        for (index, head) in out.chunks_mut(part.head_dim).enumerate() {
            let position = (index / part.heads % part.positions) as f64;
            for (pair, frequency) in frequencies.iter().enumerate() {
                let (first, second) = match part.pairs {
                    RotaryPairs::Halves => (part.start + pair, part.start + pair + half),
                    RotaryPairs::Neighbours => (part.start + 2 * pair, part.start + 2 * pair + 1),
                };
                let angle = position * f64::from(*frequency);
                let (a, b) = (head[first], head[second]);
                head[first] = magnitude * (a * angle.cos() - b * angle.sin());
                head[second] = magnitude * (b * angle.cos() + a * angle.sin());
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn parts_follow_the_reference(
            positions in 1usize..5, heads in 1usize..4, half in 1usize..4, start in 0usize..4, rest in 0usize..3, near: bool, seed: u64,
        ) {
            let pairs = if near { RotaryPairs::Neighbours } else { RotaryPairs::Halves };
            let part = RotaryPart { heads, head_dim: start + 2 * half + rest, start, pairs, positions };
            let frequencies: Vec<f32> = (0..half).map(|i| 0.7f32.powi(i as i32)).collect();
            let rotary = Rotary::from_frequencies(&frequencies, 1.25, 5);
            let inputs = [numbers(&[2 * positions, heads * part.head_dim], seed)];
            let build = |tape: &mut Tape<'_>, vars: &[Var]| tape.rotary_part(vars[0], &rotary, part);
            check(&inputs, build, |x| reference(&x[0], part, &frequencies, 1.25));
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let rotary = Rotary::new(6, 10_000.0, 40);
        let part = RotaryPart { heads: 5, head_dim: 10, start: 3, pairs: RotaryPairs::Halves, positions: 40 };
        check_bits(&[numbers(&[800, 50], 1)], |tape, vars| tape.rotary_part(vars[0], &rotary, part));
    }

    #[test]
    fn a_part_beyond_the_head_is_refused() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let x = tape.constant(Tensor::zeros([4, 6]));
        let part = RotaryPart { heads: 1, head_dim: 6, start: 4, pairs: RotaryPairs::Halves, positions: 2 };
        let found = tape.rotary_part(x, &Rotary::new(4, 1e4, 3), part);
        assert!(matches!(found, Err(EngineError::Range { found: 8, high: 6, .. })));
    }
}
