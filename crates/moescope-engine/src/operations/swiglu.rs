//! The gated activation.

use crate::backward::{Operation, Sweep};
use crate::recompute::{Recompute, Values};
use crate::{EngineError, Tape, Tensor, Var};

/// Both arguments are kept; their gradients share one pass over memory.
struct Swiglu {
    gate: Var,
    up: Var,
}

impl Tape<'_> {
    /// `silu(gate) * up`, with `silu(x) = x / (1 + exp(-x))`.
    ///
    /// **Source:** Shazeer 2020, "GLU Variants Improve Transformer".
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the shapes differ.
    pub fn swiglu(&mut self, gate: Var, up: Var) -> Result<Var, EngineError> {
        self.require_shape("swiglu", "up", up, self.value(gate).shape())?;
        Ok(self.compute([Some(gate), Some(up)], Swiglu { gate, up }))
    }
}

impl Recompute for Swiglu {
    fn result(&self, values: &Values<'_, '_>) -> Tensor {
        let mut out = values.unfilled_like(self.gate);
        values.device.swiglu(values.of(self.gate), values.of(self.up), out.data_mut());
        out
    }
}

impl Operation for Swiglu {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        let mut gate_gradient = sweep.unfilled_like(self.gate);
        let (gate, up) = (sweep.value(self.gate).data(), sweep.value(self.up).data());
        sweep.device().swiglu_backward(gate, up, gradient.data_mut(), gate_gradient.data_mut());
        sweep.add(self.gate, gate_gradient);
        sweep.add(self.up, gradient);
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

    fn reference(x: &[Vec<f64>]) -> Vec<f64> {
        x[0].iter().zip(&x[1]).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn gates_follow_the_reference(rows in 1usize..4, columns in 1usize..20, reach in 1f32..12.0, seed: u64) {
            let gate = numbers(&[rows, columns], seed).data().iter().map(|x| reach * x).collect();
            let inputs = [Tensor::new([rows, columns], gate).unwrap(), numbers(&[rows, columns], seed ^ 1)];
            check(&inputs, |tape, vars| tape.swiglu(vars[0], vars[1]), reference);
        }
    }

    #[test]
    fn many_entries_have_the_same_bits_on_any_number_of_threads() {
        let inputs = [numbers(&[90, 399], 1), numbers(&[90, 399], 2)];
        check_bits(&inputs, |tape, vars| tape.swiglu(vars[0], vars[1]));
    }

    #[test]
    fn a_gate_far_below_zero_is_shut() {
        let mut tape = Tape::new(crate::Mode::Gradient);
        let gate = tape.leaf(Tensor::new([2], vec![-200.0, 200.0]).unwrap());
        let up = tape.leaf(Tensor::full([2], 3.0));
        let out = tape.swiglu(gate, up).unwrap();
        assert_eq!(tape.value(out).data()[1], 600.0);
        assert!(tape.value(out).data()[0].abs() < 1e-30);
    }
}
