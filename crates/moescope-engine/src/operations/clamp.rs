//! Numbers cut at a limit on both sides.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// The way back needs to know what was cut.
struct Clamp {
    x: Var,
    limit: f32,
}

impl Tape<'_> {
    /// Every number, but none beyond `limit` on either side. What was cut gets no gradient.
    ///
    /// # Errors
    /// None today; the result keeps the signature of all operations.
    pub fn clamp(&mut self, x: Var, limit: f32) -> Result<Var, EngineError> {
        let limit = limit.abs();
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.clamp(self.value(x).data(), limit, out.data_mut());
        Ok(self.record(out, [Some(x), None], Clamp { x, limit }))
    }
}

impl Operation for Clamp {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        sweep.device().clamp_backward(sweep.value(self.x).data(), self.limit, gradient.data_mut());
        sweep.add(self.x, gradient);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cuts_follow_the_reference(columns in 1usize..20, limit in 0.1f32..2.0, seed: u64) {
            let wanted = |x: &[Vec<f64>]| x[0].iter().map(|x| x.clamp(-f64::from(limit), f64::from(limit))).collect();
            // A finite difference across the kink is neither slope.
            let mut x = numbers(&[2, columns], seed);
            x.data_mut().iter_mut().filter(|x| (x.abs() - limit).abs() < 1e-3).for_each(|x| *x *= 0.9);
            check(&[x], |tape, vars| tape.clamp(vars[0], limit), wanted);
        }
    }
}
