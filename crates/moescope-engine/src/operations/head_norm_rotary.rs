//! Heads normalised one by one, then turned by their position.

use crate::backward::{Operation, Sweep};
use crate::recompute::{Recompute, Values};
use crate::{EngineError, HeadShape, Rotary, Tape, Tensor, Var};

/// The tables are shared with the model, not copied.
struct HeadNormRotary {
    x: Var,
    weight: Option<Var>,
    rotary: Rotary,
    shape: HeadShape,
}

const NAME: &str = "head_norm_rotary";

impl Tape<'_> {
    /// Each head of `x[token, head * head_dim]` normalised as in [`rms_norm`](Self::rms_norm) with `weight[head_dim]`, when one
    /// is given, then turned by [`Rotary`]. The position of a token row is `row % positions`.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the widths do not fit, [`EngineError::Range`] when the tables have too few positions or
    /// their head size is odd.
    pub fn head_norm_rotary(
        &mut self,
        x: Var,
        weight: Option<Var>,
        epsilon: f32,
        rotary: &Rotary,
        heads: usize,
        positions: usize,
    ) -> Result<Var, EngineError> {
        let shape = HeadShape { heads, head_dim: rotary.head_dim(), positions, epsilon };
        self.check_heads(x, weight, rotary, shape)?;
        let operation = HeadNormRotary { x, weight, rotary: rotary.clone(), shape };
        Ok(self.compute([Some(x), weight], operation))
    }

    /// Refuses head sizes that cannot be paired, positions beyond the tables and widths that do not fit.
    fn check_heads(
        &self,
        x: Var,
        weight: Option<Var>,
        rotary: &Rotary,
        shape: HeadShape,
    ) -> Result<(), EngineError> {
        let HeadShape { heads, head_dim, positions, .. } = shape;
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            let high = head_dim + 1;
            return Err(EngineError::Range {
                operation: NAME,
                argument: "head_dim, which is even",
                found: head_dim,
                low: 2,
                high,
            });
        }
        if positions == 0 || positions > rotary.max_positions() {
            let high = rotary.max_positions();
            return Err(EngineError::Range {
                operation: NAME,
                argument: "positions",
                found: positions,
                low: 1,
                high,
            });
        }
        self.require_shape(NAME, "x", x, &[self.value(x).rows(), heads * head_dim])?;
        weight.map_or(Ok(()), |weight| self.require_shape(NAME, "weight", weight, &[head_dim]))
    }
}

impl Recompute for HeadNormRotary {
    fn result(&self, values: &Values<'_, '_>) -> Tensor {
        let mut out = values.unfilled_like(self.x);
        let weight = self.weight.map(|weight| values.of(weight));
        values.device.head_norm_rotary(values.of(self.x), weight, &self.rotary, self.shape, out.data_mut());
        out
    }
}

impl Operation for HeadNormRotary {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        let mut weight_gradient = self.weight.map(|weight| sweep.unfilled_like(weight));
        sweep.device().head_norm_rotary_backward(
            sweep.value(self.x).data(),
            self.weight.map(|weight| sweep.value(weight).data()),
            &self.rotary,
            self.shape,
            gradient.data_mut(),
            weight_gradient.as_mut().map(Tensor::data_mut),
        );
        if let (Some(weight), Some(weight_gradient)) = (self.weight, weight_gradient) {
            sweep.add(weight, weight_gradient);
        }
        sweep.add(self.x, gradient);
    }

    fn recompute(&self) -> Option<&dyn Recompute> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[f64], weight: Option<&[f64]>, shape: HeadShape, theta: f64) -> Vec<f64> {
        let (half, width) = (shape.head_dim / 2, shape.heads * shape.head_dim);
        let mut out = Vec::new();
        for (index, head) in x.chunks(shape.head_dim).enumerate() {
            let position = (index * shape.head_dim / width % shape.positions) as f64;
            let mean = head.iter().map(|x| x * x).sum::<f64>() / shape.head_dim as f64;
            let scale = (mean + f64::from(shape.epsilon)).sqrt();
            let normed: Vec<f64> = match weight {
                Some(weight) => head.iter().zip(weight).map(|(x, weight)| x / scale * weight).collect(),
                None => head.to_vec(),
            };
            out.extend((0..shape.head_dim).map(|i| {
                let angle = position * theta.powf(-2.0 * (i % half) as f64 / shape.head_dim as f64);
                let partner = if i < half { -normed[i + half] } else { normed[i - half] };
                normed[i] * angle.cos() + partner * angle.sin()
            }));
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn heads_follow_the_reference(
            batch in 1usize..3, positions in 1usize..4, heads in 1usize..4, half in 1usize..5, normed: bool, seed: u64,
        ) {
            let shape = HeadShape { heads, head_dim: 2 * half, positions, epsilon: 1e-2 };
            let rotary = Rotary::new(2 * half, 100.0, 5);
            let mut inputs = vec![numbers(&[batch * positions, heads * 2 * half], seed)];
            if normed {
                inputs.push(positive(&[2 * half], seed ^ 1));
            }
            let build = |tape: &mut Tape<'_>, vars: &[Var]| {
                tape.head_norm_rotary(vars[0], vars.get(1).copied(), 1e-2, &rotary, heads, positions)
            };
            check(&inputs, build, |x| reference(&x[0], x.get(1).map(Vec::as_slice), shape, 100.0));
        }
    }

    #[test]
    fn many_rows_have_the_same_bits_on_any_number_of_threads() {
        let rotary = Rotary::new(10, 10_000.0, 40);
        let inputs = [numbers(&[800, 50], 1), positive(&[10], 2)];
        check_bits(&inputs, |tape, vars| tape.head_norm_rotary(vars[0], Some(vars[1]), 1e-6, &rotary, 5, 40));
    }

    #[test]
    fn too_many_positions_and_odd_heads_are_refused() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let x = tape.constant(Tensor::zeros([4, 6]));
        let long = tape.head_norm_rotary(x, None, 0.0, &Rotary::new(2, 1e4, 3), 3, 4);
        assert!(matches!(long, Err(EngineError::Range { found: 4, high: 3, .. })));
        let odd = tape.head_norm_rotary(x, None, 0.0, &Rotary::new(3, 1e4, 9), 2, 4);
        assert!(matches!(odd, Err(EngineError::Range { found: 3, .. })));
    }
}
