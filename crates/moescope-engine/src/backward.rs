//! The way back along the tape.

use crate::reach::Reach;
use crate::recompute::{Recompute, restore};
use crate::tape::{Node, Value};
use crate::{Device, EngineError, Gradients, RoutePlan, Tape, Tensor, Var};

/// What an operation does on the way back: from the gradient of its result to those of its arguments.
///
/// An operation holds the variables of its arguments and what it needs besides their values: indices, a plan, sums of
/// the forward pass. It is only asked when a gradient for its result has arrived.
pub(crate) trait Operation: Send {
    /// Hands a gradient to every argument that [wants](Sweep::wants) one.
    fn backward(&self, sweep: &mut Sweep<'_, '_>, gradient: Tensor);

    /// How the result is made again, for an operation that need not keep it.
    fn recompute(&self) -> Option<&dyn Recompute> {
        None
    }
}

/// The state of a backward pass.
///
/// Nodes are visited from the loss to the first, which is the reverse of their making, so all gradients for a value
/// have arrived before its turn.
pub(crate) struct Sweep<'t, 'w> {
    device: &'w dyn Device,
    nodes: &'t mut [Node<'w>],
    /// By node: whether anything that is kept lies on the way back through it.
    wanted: Vec<bool>,
    /// By node: the sum of what has arrived so far.
    gradients: Vec<Option<Tensor>>,
    /// By node: the entries that it may differ from zero in.
    reached: Vec<Reach>,
    /// The node whose turn it is.
    position: usize,
}

impl Tape<'_> {
    /// Gradients of `loss` for every parameter and watched variable.
    ///
    /// Goes back once and frees as it goes: a gradient when its operation has used it, a value when the last operation that
    /// needs it is done. Leaves, single numbers and watched values stay readable.
    ///
    /// # Errors
    /// [`EngineError::NotScalar`], [`EngineError::NoGradientMode`], or [`EngineError::Spent`] on a second call.
    pub fn backward(&mut self, loss: Var) -> Result<Gradients, EngineError> {
        let gradients = self.sweep(loss, true)?;
        self.spent = true;
        Ok(gradients)
    }

    /// As [`backward`](Self::backward), with every value left in place, so that another loss on the same tape can follow.
    ///
    /// # Errors
    /// As [`backward`](Self::backward).
    pub fn backward_keeping(&mut self, loss: Var) -> Result<Gradients, EngineError> {
        self.sweep(loss, false)
    }

    /// The way back from `loss`, with values given back on the way if `free`.
    fn sweep(&mut self, loss: Var, free: bool) -> Result<Gradients, EngineError> {
        if !self.mode.has_gradients() {
            return Err(EngineError::NoGradientMode);
        }
        if self.spent {
            return Err(EngineError::Spent);
        }
        if self.value(loss).len() != 1 {
            return Err(EngineError::NotScalar { found: self.value(loss).shape().to_vec() });
        }
        let seed = Tensor::full(self.value(loss).shape(), 1.0);
        let mut kept = Gradients { parameters: self.parameters.clone(), ..Gradients::default() };
        let mut sweep = Sweep::new(self, loss);
        sweep.add(loss, seed);
        for index in (0..=loss.0).rev() {
            sweep.step(Var(index), free, &mut kept);
        }
        Ok(kept)
    }
}

impl<'t, 'w> Sweep<'t, 'w> {
    /// Finds out which nodes a gradient is wanted for, before any is computed.
    fn new(tape: &'t mut Tape<'w>, loss: Var) -> Self {
        let nodes = &mut tape.nodes[..=loss.0];
        let mut wanted = Vec::with_capacity(nodes.len());
        for node in nodes.iter() {
            let flows = node.inputs.iter().flatten().any(|input: &Var| wanted[input.0]);
            wanted.push(node.source || node.watched || flows);
        }
        let gradients = nodes.iter().map(|_| None).collect();
        let reached = vec![Reach::default(); nodes.len()];
        Self { device: tape.device, position: nodes.len(), nodes, wanted, gradients, reached }
    }

    /// Handles one node: keeps its gradient if asked to, then sends it on.
    fn step(&mut self, var: Var, free: bool, kept: &mut Gradients) {
        self.position = var.0;
        let gradient = self.gradients[var.0].take();
        if gradient.is_some() {
            self.restore(var);
        }
        let operation = self.nodes[var.0].operation.take();
        if let Some(gradient) = gradient {
            let watched = self.nodes[var.0].watched;
            match &operation {
                Some(operation) => {
                    if watched {
                        kept.by_var.insert(var, gradient.clone());
                    }
                    operation.backward(self, gradient);
                }
                None if watched => {
                    kept.by_var.insert(var, gradient);
                    kept.reached.insert(var, std::mem::take(&mut self.reached[var.0]));
                }
                None => {}
            }
        }
        let node = &mut self.nodes[var.0];
        if !free {
            node.operation = operation;
        } else if node.operation_result() && !node.watched && node.tensor().len() > 1 {
            node.value = Value::Released;
        }
    }

    /// Makes the result of a node and its arguments again, where they were freed.
    fn restore(&mut self, var: Var) {
        restore(self.device, self.nodes, var);
        for input in self.nodes[var.0].inputs.into_iter().flatten() {
            restore(self.device, self.nodes, input);
        }
    }

    /// Where the tape's values were computed.
    pub(crate) fn device(&self) -> &'w dyn Device {
        self.device
    }

    /// Whether a gradient for `var` leads anywhere.
    pub(crate) fn wants(&self, var: Var) -> bool {
        self.wanted[var.0]
    }

    /// Whether someone will look at the gradient of `var`.
    pub(crate) fn watched(&self, var: Var) -> bool {
        self.nodes[var.0].watched
    }

    /// The value of an argument; still there, because an argument's own turn comes later.
    pub(crate) fn value(&self, var: Var) -> &Tensor {
        self.nodes[var.0].tensor()
    }

    /// The result of the operation whose turn it is.
    pub(crate) fn result(&self) -> &Tensor {
        self.nodes[self.position].tensor()
    }

    /// A tensor of the shape of `var` whose entries the caller writes.
    pub(crate) fn unfilled_like(&self, var: Var) -> Tensor {
        Tensor::unfilled(self.value(var).shape())
    }

    /// The gradient of `var` so far, to be added to (`true`), or a tensor to be written (`false`). Return it with
    /// [`put`](Self::put).
    pub(crate) fn open(&mut self, var: Var) -> (Tensor, bool) {
        self.reached[var.0] = Reach::Everything;
        match self.gradients[var.0].take() {
            Some(tensor) => (tensor, true),
            None => (self.unfilled_like(var), false),
        }
    }

    /// As [`open`](Self::open), for the weights of experts `[expert, ...]` of which those alone that have tokens are written.
    ///
    /// Where most are idle, the tensor consists of zeros already: the system hands out pages of zeros that cost nothing until
    /// they are written, while a used buffer would have to be cleared.
    pub(crate) fn open_experts(&mut self, var: Var, plan: &RoutePlan) -> (Tensor, bool) {
        self.reached[var.0].add_experts(plan.counts());
        let chosen = plan.counts().iter().filter(|&&count| count > 0).count();
        match self.gradients[var.0].take() {
            Some(tensor) => (tensor, true),
            None if 2 * chosen < plan.experts() => (Tensor::untouched_zeros(self.value(var).shape()), true),
            None => (self.unfilled_like(var), false),
        }
    }

    /// Returns what [`open`](Self::open) gave.
    pub(crate) fn put(&mut self, var: Var, gradient: Tensor) {
        self.gradients[var.0] = Some(gradient);
    }

    /// Adds a gradient for `var`; dropped when nobody wants it.
    pub(crate) fn add(&mut self, var: Var, gradient: Tensor) {
        if !self.wanted[var.0] {
            return;
        }
        self.reached[var.0] = Reach::Everything;
        match &mut self.gradients[var.0] {
            Some(sum) => self.device.accumulate(sum.data_mut(), gradient.data()),
            empty => *empty = Some(gradient),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, ParameterId};

    fn tensor(data: &[f32]) -> Tensor {
        Tensor::new([1, data.len()], data.to_vec()).unwrap()
    }

    #[test]
    fn a_value_used_twice_sums_its_gradients() {
        let weight = tensor(&[1.0, 2.0]);
        let mut tape = Tape::new(Mode::Gradient);
        let x = tape.parameter(ParameterId(0), &weight);
        let three = tape.scale(x, 3.0).unwrap();
        let sum = tape.add(x, three).unwrap();
        let loss = tape.sum_product(sum, tensor(&[1.0, 10.0])).unwrap();
        let gradients = tape.backward(loss).unwrap();
        assert_eq!(gradients.parameter(ParameterId(0)).unwrap().data(), [4.0, 40.0]);
        assert_eq!(tape.value(loss).data(), [4.0 + 80.0]);
    }

    #[test]
    fn what_is_watched_keeps_value_and_gradient_even_among_constants() {
        let mut tape = Tape::new(Mode::Gradient);
        let x = tape.constant(tensor(&[1.0, 2.0]));
        let y = tape.scale(x, 2.0).unwrap();
        let z = tape.scale(y, 5.0).unwrap();
        let loss = tape.sum_product(z, tensor(&[1.0, -1.0])).unwrap();
        tape.watch(y);
        let gradients = tape.backward(loss).unwrap();
        assert_eq!(gradients.of(y).unwrap().data(), [5.0, -5.0]);
        assert_eq!(tape.value(y).data(), [2.0, 4.0]);
        assert!(gradients.of(x).is_none());
    }

    #[test]
    fn a_tape_goes_back_once_unless_it_keeps() {
        let mut tape = Tape::new(Mode::Gradient);
        let x = tape.leaf(tensor(&[1.0, 2.0]));
        tape.watch(x);
        let y = tape.scale(x, 2.0).unwrap();
        let loss = tape.sum_product(y, tensor(&[1.0, 3.0])).unwrap();
        let first = tape.backward_keeping(loss).unwrap();
        let second = tape.backward(loss).unwrap();
        assert_eq!(first.of(x), second.of(x));
        assert_eq!(tape.backward(loss).unwrap_err(), EngineError::Spent);
    }

    #[test]
    fn a_wrong_request_is_refused() {
        let mut tape = Tape::new(Mode::Gradient);
        let x = tape.leaf(tensor(&[1.0, 2.0]));
        assert_eq!(tape.backward(x).unwrap_err(), EngineError::NotScalar { found: vec![1, 2] });
        let mut tape = Tape::new(Mode::Inference);
        let x = tape.leaf(Tensor::scalar(1.0));
        assert_eq!(tape.backward(x).unwrap_err(), EngineError::NoGradientMode);
    }
}
