//! Numbers kept within a bound.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// The slope follows from the result.
struct SoftCap {
    x: Var,
    cap: f32,
}

impl Tape<'_> {
    /// `cap * tanh(x / cap)`: nearly the identity far below the cap, never beyond it.
    ///
    /// **Source:** Gemma Team 2024, "Gemma 2".
    ///
    /// # Errors
    /// None today; the result keeps the signature of all operations.
    pub fn soft_cap(&mut self, x: Var, cap: f32) -> Result<Var, EngineError> {
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.soft_cap(self.value(x).data(), cap, out.data_mut());
        Ok(self.record(out, [Some(x), None], SoftCap { x, cap }))
    }
}

impl Operation for SoftCap {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        sweep.device().soft_cap_backward(sweep.result().data(), self.cap, gradient.data_mut());
        sweep.add(self.x, gradient);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn caps_follow_the_reference(columns in 1usize..20, cap in 0.3f32..20.0, seed: u64) {
            let wanted = |x: &[Vec<f64>]| x[0].iter().map(|x| f64::from(cap) * (x / f64::from(cap)).tanh()).collect();
            check(&[numbers(&[2, columns], seed)], |tape, vars| tape.soft_cap(vars[0], cap), wanted);
        }
    }
}
