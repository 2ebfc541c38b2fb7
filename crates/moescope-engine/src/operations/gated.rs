//! Gated activations beyond SwiGLU.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Gate, Tape, Tensor, Var};

/// Both arguments are kept; their gradients share one pass over memory.
struct Gated {
    gate: Var,
    up: Var,
    kind: Gate,
}

impl Tape<'_> {
    /// The gated activation of every pair of numbers; [`swiglu`](Self::swiglu) is the fast way to the most common one.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the shapes differ.
    pub fn gated(&mut self, gate: Var, up: Var, kind: Gate) -> Result<Var, EngineError> {
        self.require_shape("gated", "up", up, self.value(gate).shape())?;
        let mut out = Tensor::unfilled(self.value(gate).shape());
        self.device.gated(self.value(gate).data(), self.value(up).data(), kind, out.data_mut());
        Ok(self.record(out, [Some(gate), Some(up)], Gated { gate, up, kind }))
    }
}

impl Operation for Gated {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        let mut gate_gradient = sweep.unfilled_like(self.gate);
        let (gate, up) = (sweep.value(self.gate).data(), sweep.value(self.up).data());
        sweep.device().gated_backward(gate, up, self.kind, gradient.data_mut(), gate_gradient.data_mut());
        sweep.add(self.gate, gate_gradient);
        sweep.add(self.up, gradient);
    }
}

#[cfg(test)]
mod tests {
    use super::super::activate::tests::{ALL, reference as activation};
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[Vec<f64>], kind: Gate) -> Vec<f64> {
        let pair = |(gate, up): (&f64, &f64)| match kind {
            Gate::Plain(which) => activation(*gate, which) * up,
            Gate::Clamped { alpha, limit } => {
                let (alpha, limit) = (f64::from(alpha), f64::from(limit));
                let gate = gate.min(limit);
                gate / (1.0 + (-alpha * gate).exp()) * (up.clamp(-limit, limit) + 1.0)
            }
        };
        x[0].iter().zip(&x[1]).map(pair).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn gates_follow_the_reference(which in 0usize..6, columns in 1usize..20, reach in 1f32..12.0, seed: u64) {
            let clamped = Gate::Clamped { alpha: 1.702, limit: 5.0 };
            let kind = ALL.get(which).map_or(clamped, |activation| Gate::Plain(*activation));
            let scaled = |seed| {
                let data = numbers(&[2, columns], seed).data().iter().map(|x| reach * x).collect();
                Tensor::new([2, columns], data).unwrap()
            };
            check(&[scaled(seed), scaled(seed ^ 1)], |tape, vars| tape.gated(vars[0], vars[1], kind), |x| reference(x, kind));
        }
    }

    #[test]
    fn many_entries_have_the_same_bits_on_any_number_of_threads() {
        let inputs = [numbers(&[90, 399], 1), numbers(&[90, 399], 2)];
        let kind = Gate::Clamped { alpha: 1.702, limit: 0.7 };
        check_bits(&inputs, |tape, vars| tape.gated(vars[0], vars[1], kind));
    }
}
