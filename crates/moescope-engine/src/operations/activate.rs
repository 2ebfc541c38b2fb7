//! One function of every number.

use crate::backward::{Operation, Sweep};
use crate::{Activation, EngineError, Tape, Tensor, Var};

/// The way back needs the argument, not the result.
struct Activate {
    x: Var,
    activation: Activation,
}

impl Tape<'_> {
    /// The activation of every number.
    ///
    /// # Errors
    /// None today; the result keeps the signature of all operations.
    pub fn activate(&mut self, x: Var, activation: Activation) -> Result<Var, EngineError> {
        let mut out = Tensor::unfilled(self.value(x).shape());
        self.device.activate(self.value(x).data(), activation, out.data_mut());
        Ok(self.record(out, [Some(x), None], Activate { x, activation }))
    }
}

impl Operation for Activate {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, mut gradient: Tensor) {
        sweep.device().activate_backward(sweep.value(self.x).data(), self.activation, gradient.data_mut());
        sweep.add(self.x, gradient);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    pub(in super::super) const ALL: [Activation; 5] =
        [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Relu];

    pub(in super::super) fn reference(x: f64, activation: Activation) -> f64 {
        match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
            Activation::GeluTanh => {
                let root = (2.0 / std::f64::consts::PI).sqrt();
                0.5 * x * (1.0 + (root * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
            Activation::Relu => x.max(0.0),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn activations_follow_the_reference(which in 0usize..5, columns in 1usize..20, reach in 1f32..8.0, seed: u64) {
            let x = numbers(&[2, columns], seed).data().iter().map(|x| reach * x).collect();
            let inputs = [Tensor::new([2, columns], x).unwrap()];
            let wanted = |x: &[Vec<f64>]| x[0].iter().map(|x| reference(*x, ALL[which])).collect();
            check(&inputs, |tape, vars| tape.activate(vars[0], ALL[which]), wanted);
        }
    }

    #[test]
    fn far_out_they_are_the_identity_or_nothing() {
        for activation in ALL {
            let mut tape = Tape::new(crate::Mode::Inference);
            let x = tape.constant(Tensor::new([2], vec![60.0, -60.0]).unwrap());
            let y = tape.activate(x, activation).unwrap();
            assert!((tape.value(y).data()[0] - 60.0).abs() < 1e-4 && tape.value(y).data()[1].abs() < 1e-20);
        }
    }
}
