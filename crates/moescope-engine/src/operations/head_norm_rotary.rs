//! Heads normalised one by one, then turned by their position.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, HeadShape, Rotary, Tape, Tensor, Var};

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
        let mut out = Tensor::unfilled(self.value(x).shape());
        let weight_data = weight.map(|weight| self.value(weight).data());
        self.device.head_norm_rotary(self.value(x).data(), weight_data, rotary, shape, out.data_mut());
        let operation = HeadNormRotary { x, weight, rotary: rotary.clone(), shape };
        Ok(self.record(out, [Some(x), weight], operation))
    }

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
}
