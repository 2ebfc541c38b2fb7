//! The same numbers under other axes.

use crate::backward::{Operation, Sweep};
use crate::{EngineError, Tape, Tensor, Var};

/// The way back gives the gradient the axes of the argument.
struct Reshape {
    x: Var,
}

impl Tape<'_> {
    /// The numbers of `x`, row-major, as a value of another shape with as many: a copy.
    ///
    /// # Errors
    /// [`EngineError::Shape`] when the number of entries differs.
    pub fn reshape(&mut self, x: Var, shape: impl Into<Vec<usize>>) -> Result<Var, EngineError> {
        let (shape, value) = (shape.into(), self.value(x));
        if shape.iter().product::<usize>() != value.len() {
            return Err(EngineError::Shape {
                operation: "reshape",
                argument: "x",
                found: value.shape().to_vec(),
                wanted: format!("as many entries as {shape:?} has"),
            });
        }
        let out = Tensor::new(shape, value.data().to_vec())?;
        Ok(self.record(out, [Some(x), None], Reshape { x }))
    }
}

impl Operation for Reshape {
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor) {
        let mut out = sweep.unfilled_like(self.x);
        out.data_mut().copy_from_slice(gradient.data());
        sweep.add(self.x, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn numbers_and_gradients_keep_their_order() {
        let inputs = [numbers(&[6, 4], 1)];
        check(&inputs, |tape, vars| tape.reshape(vars[0], [3, 2, 4]), |x| x[0].clone());
    }

    #[test]
    fn another_number_of_entries_is_refused() {
        let mut tape = Tape::new(crate::Mode::Inference);
        let x = tape.constant(Tensor::zeros([2, 3]));
        let message = tape.reshape(x, [2, 2]).unwrap_err().to_string();
        assert!(message.contains("[2, 3]") && message.contains("[2, 2]"), "{message}");
    }
}
