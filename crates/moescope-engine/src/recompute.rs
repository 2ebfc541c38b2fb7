//! Values that are made again on the way back instead of being kept.

use crate::tape::{Node, Tape};
use crate::{Device, Tensor, Var};

/// An operation whose result is cheap to make again from its arguments.
///
/// The forward pass goes through the same function, so what is made again has the same bits.
pub(crate) trait Recompute {
    /// The result of the operation.
    fn result(&self, values: &Values<'_, '_>) -> Tensor;
}

/// The values that an operation reads.
pub(crate) struct Values<'t, 'w> {
    pub(crate) device: &'w dyn Device,
    pub(crate) nodes: &'t [Node<'w>],
}

impl Values<'_, '_> {
    /// The numbers of a value.
    pub(crate) fn of(&self, var: Var) -> &[f32] {
        self.tensor(var).data()
    }

    /// A value.
    pub(crate) fn tensor(&self, var: Var) -> &Tensor {
        self.nodes[var.0].tensor()
    }

    /// A tensor of the shape of `var` whose entries the caller writes.
    pub(crate) fn unfilled_like(&self, var: Var) -> Tensor {
        Tensor::unfilled(self.tensor(var).shape())
    }
}

impl<'w> Tape<'w> {
    /// Computes the result of an operation and puts it on the tape.
    pub(crate) fn compute<const N: usize>(
        &mut self,
        arguments: [Option<Var>; N],
        operation: impl crate::backward::Operation + Recompute + 'static,
    ) -> Var {
        let result = operation.result(&Values { device: self.device, nodes: &self.nodes });
        self.record(result, arguments, operation)
    }
}

/// Makes a released value again, and before it whatever it is made from.
pub(crate) fn restore(device: &dyn Device, nodes: &mut [Node<'_>], var: Var) {
    if !nodes[var.0].released() {
        return;
    }
    for input in nodes[var.0].inputs.into_iter().flatten() {
        restore(device, nodes, input);
    }
    let operation = nodes[var.0].operation.take().expect("only a value with a way back is made again");
    let recompute = operation.recompute().expect("only what can be made again is released early");
    let result = recompute.result(&Values { device, nodes });
    nodes[var.0].operation = Some(operation);
    nodes[var.0].fill(result);
}

#[cfg(test)]
mod tests {
    use crate::testing::numbers;
    use crate::{AttentionLayout, Gradients, Mode, ParameterId, Rotary, Tape, Tensor, Var};

    const LAYOUT: AttentionLayout =
        AttentionLayout { batch: 2, positions: 5, heads: 2, key_value_heads: 1, head_dim: 4 };

    /// A block of everything that can be made again, with values released as a model does.
    fn block(tape: &mut Tape<'_>, x: Var, gain: Var, weight: Var) -> Var {
        let rotary = Rotary::new(LAYOUT.head_dim, 100.0, LAYOUT.positions);
        let normalised = tape.rms_norm(x, gain, 1e-6).unwrap();
        let turned = tape.head_norm_rotary(normalised, None, 1e-6, &rotary, 2, LAYOUT.positions).unwrap();
        let key = tape.linear(normalised, weight).unwrap(); // [token, head_dim]
        let pattern = tape.attention_pattern(turned, key, LAYOUT).unwrap();
        let mixed = tape.attention_mix(pattern, key, LAYOUT).unwrap();
        let gated = tape.swiglu(mixed, normalised).unwrap();
        let scaled = tape.scale(gated, 2.0).unwrap();
        for var in [normalised, turned, key, pattern, mixed, gated] {
            tape.release(var);
        }
        scaled
    }

    fn gradients(mode: Mode, watch: bool) -> (Gradients, usize) {
        let (x, gain, weight) = (numbers(&[10, 8], 1), numbers(&[8], 2), numbers(&[4, 8], 3));
        let mut tape = Tape::new(mode);
        let vars = [
            tape.parameter(ParameterId(0), &x),
            tape.parameter(ParameterId(1), &gain),
            tape.parameter(ParameterId(2), &weight),
        ];
        let once = block(&mut tape, vars[0], vars[1], vars[2]);
        if watch {
            tape.watch(once);
        }
        let twice = block(&mut tape, once, vars[1], vars[2]);
        let held = tape.nodes.iter().filter(|node| !node.released()).map(|node| node.tensor().len()).sum();
        let loss = tape.sum_product(twice, Tensor::full([80], 0.5)).unwrap();
        (tape.backward(loss).unwrap(), held)
    }

    #[test]
    fn gradients_have_the_same_bits_and_the_tape_holds_less() {
        let ((kept, much), (made, little)) =
            (gradients(Mode::Gradient, false), gradients(Mode::Recomputing, false));
        assert!(2 * little < 2 * much - 300, "{little} numbers instead of {much}");
        for parameter in 0..3 {
            let id = ParameterId(parameter);
            assert_eq!(kept.parameter(id), made.parameter(id));
        }
    }

    #[test]
    fn what_is_watched_stays() {
        let (kept, _) = gradients(Mode::Gradient, true);
        let (made, _) = gradients(Mode::Recomputing, true);
        assert_eq!(kept.parameter(ParameterId(0)), made.parameter(ParameterId(0)));
    }
}
