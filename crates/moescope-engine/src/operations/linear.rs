//! The dense product.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, LinearShape, Tape, Tensor, Var};

/// Adds to a weight's gradient in place, for a weight may be used twice: a tied table, say.
struct Linear {
    x: Var,
    weight: Var,
    shape: LinearShape,
}

impl Tape<'_> {
    /// `x[token, input] · weight[output, input]ᵀ`: `[token, output]`.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when `x` is not as wide as the weight.
    pub fn linear(&mut self, x: Var, weight: Var) -> Result<Var, EngineError> {
        let rows = self.value(x).rows();
        let shape = match *self.value(weight).shape() {
            [outputs, inputs] if inputs == self.value(x).columns() => LinearShape { rows, inputs, outputs },
            ref found => {
                let wanted = format!("[output, {}] to match `x`", self.value(x).columns());
                return Err(EngineError::Shape {
                    operation: "linear",
                    argument: "weight",
                    found: found.to_vec(),
                    wanted,
                });
            }
        };
        let mut out = Tensor::unfilled([rows, shape.outputs]);
        self.device.linear(self.value(x).data(), self.value(weight).data(), shape, out.data_mut());
        Ok(self.record(out, [Some(x), Some(weight)], Linear { x, weight, shape }))
    }
}

impl Operation for Linear {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let device = sweep.device();
        if sweep.wants(self.weight) {
            let (mut out, started) = sweep.open(self.weight);
            let x = sweep.value(self.x).data();
            device.linear_weight(gradient.data(), x, self.shape, out.data_mut(), started);
            sweep.put(self.weight, out);
        }
        if sweep.wants(self.x) {
            let (mut out, started) = sweep.open(self.x);
            let weight = sweep.value(self.weight).data();
            device.linear_input(gradient.data(), weight, self.shape, out.data_mut(), started);
            sweep.put(self.x, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;

    fn reference(x: &[f64], weight: &[f64], inputs: usize) -> Vec<f64> {
        let row = |x: &[f64]| -> Vec<f64> {
            weight.chunks(inputs).map(|weight| weight.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
        };
        x.chunks(inputs).flat_map(row).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn products_follow_the_reference(rows in 1usize..8, inputs in 1usize..12, outputs in 1usize..8, seed: u64) {
            let tensors = [numbers(&[rows, inputs], seed), numbers(&[outputs, inputs], seed ^ 1)];
            check(&tensors, |tape, vars| tape.linear(vars[0], vars[1]), |x| reference(&x[0], &x[1], inputs));
        }
    }

    #[test]
    fn several_tiles_follow_the_reference_with_the_same_bits_on_any_number_of_threads() {
        for (rows, inputs, outputs) in [(601, 67, 1100), (300, 4200, 33), (4500, 9, 300)] {
            several_tiles(rows, inputs, outputs);
        }
    }

    fn several_tiles(rows: usize, inputs: usize, outputs: usize) {
        let tensors = [numbers(&[rows, inputs], 1), numbers(&[outputs, inputs], 2)];
        check_bits(&tensors, |tape, vars| tape.linear(vars[0], vars[1]));
        let (value, gradients) =
            outcome(&tensors, &|tape: &mut Tape<'_>, vars: &[Var]| tape.linear(vars[0], vars[1]));
        let wide = |tensor: &Tensor| tensor.data().iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let wanted = reference(&wide(&tensors[0]), &wide(&tensors[1]), inputs);
        let near = |(&found, wanted): (&f32, f64)| (f64::from(found) - wanted).abs() < 1e-3;
        assert!(value.data().iter().zip(wanted).all(near));
        let finite =
            |gradient: &Option<Tensor>| gradient.as_ref().unwrap().data().iter().all(|x| x.is_finite());
        assert!(gradients.iter().all(finite));
    }

    #[test]
    fn a_product_used_twice_accumulates() {
        let tensors = [numbers(&[3, 4], 1), numbers(&[4, 4], 2)];
        let build = |tape: &mut Tape<'_>, vars: &[Var]| {
            let once = tape.linear(vars[0], vars[1])?;
            tape.linear(once, vars[1])
        };
        check(&tensors, build, |x| reference(&reference(&x[0], &x[1], 4), &x[1], 4));
    }

    #[test]
    fn widths_that_differ_are_refused() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let (x, weight) = (tape.constant(Tensor::zeros([2, 3])), tape.constant(Tensor::zeros([5, 4])));
        let message = tape.linear(x, weight).unwrap_err().to_string();
        assert!(message.contains("[5, 4]") && message.contains("[output, 3]"), "{message}");
    }
}
