//! The tape: values in the order in which they were computed, and what is needed to go back.

use std::collections::BTreeMap;

use crate::backward::Operation;
use crate::cpu::Cpu;
use crate::{Device, EngineError, Tensor};

/// The name of a trained tensor: the caller numbers its parameters as it likes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ParameterId(pub usize);

/// A value on a tape. Only the tape that gave it out understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var(pub(crate) usize);

/// Whether a tape will be asked to go back. The forward bits are the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Keeps nothing for a backward pass; [`Tape::release`] frees values early.
    Inference,
    /// Keeps what [`Tape::backward`] needs.
    Gradient,
    /// As [`Gradient`](Mode::Gradient), but a value that is released and cheap to make again (normalised, turned, gated, attention
    /// patterns) is freed, and made again on the way back: about half of the memory for a few per cent of the time.
    ///
    /// **Source:** Korthikanti et al. 2023, "Reducing Activation Recomputation in Large Transformer Models", section 5.
    Recomputing,
}

impl Mode {
    /// Whether a backward pass can follow.
    pub fn has_gradients(self) -> bool {
        self != Mode::Inference
    }
}

/// A record of one forward pass.
///
/// The tape borrows weights for `'w` and owns what it computes. Values stay readable until they are released, or until
/// [`backward`](Self::backward) has passed them.
pub struct Tape<'w> {
    /// Computes everything on this tape.
    pub(crate) device: &'w dyn Device,
    pub(crate) mode: Mode,
    /// In the order of their making: arguments always stand before results.
    pub(crate) nodes: Vec<Node<'w>>,
    /// The variable of each parameter, so that one id has one.
    pub(crate) parameters: BTreeMap<ParameterId, Var>,
    /// Losses by row of every cross-entropy.
    pub(crate) token_losses: BTreeMap<Var, Vec<f32>>,
    /// A backward pass has freed values; no other can follow.
    pub(crate) spent: bool,
}

/// One value with its origin.
pub(crate) struct Node<'w> {
    /// What was computed or given.
    pub(crate) value: Value<'w>,
    /// Arguments to which a gradient may flow; all empty for a leaf.
    pub(crate) inputs: [Option<Var>; 3],
    /// The way back; none for a leaf and in [`Mode::Inference`].
    pub(crate) operation: Option<Box<dyn Operation>>,
    /// A leaf to which gradients flow.
    pub(crate) source: bool,
    /// Its gradient is kept, and its value stays through a backward pass.
    pub(crate) watched: bool,
    /// An attention pattern with zeros for later keys.
    pub(crate) causal: bool,
}

/// Where a value lives.
pub(crate) enum Value<'w> {
    /// A weight of the model, never copied.
    Borrowed(&'w Tensor),
    /// Computed here, or given away by the caller.
    Owned(Tensor),
    /// Freed; reading it is an error of the program.
    Released,
}

impl<'w> Tape<'w> {
    /// An empty tape on the CPU.
    pub fn new(mode: Mode) -> Self {
        Self::on(&Cpu, mode)
    }

    /// An empty tape on a device.
    pub fn on(device: &'w dyn Device, mode: Mode) -> Self {
        Self {
            device,
            mode,
            nodes: Vec::new(),
            parameters: BTreeMap::new(),
            token_losses: BTreeMap::new(),
            spent: false,
        }
    }

    /// The mode that the tape was made with.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// A trained leaf, borrowed: its gradient is kept under `id`.
    ///
    /// An id names one tensor of the tape: asking again gives the same variable, so tied weights sum their gradients.
    pub fn parameter(&mut self, id: ParameterId, tensor: &'w Tensor) -> Var {
        if let Some(&var) = self.parameters.get(&id) {
            return var;
        }
        let var = self.push_leaf(Value::Borrowed(tensor), true);
        self.nodes[var.0].watched = true;
        self.parameters.insert(id, var);
        var
    }

    /// A borrowed leaf without gradient.
    pub fn frozen(&mut self, tensor: &'w Tensor) -> Var {
        self.push_leaf(Value::Borrowed(tensor), false)
    }

    /// An owned leaf without gradient.
    pub fn constant(&mut self, tensor: Tensor) -> Var {
        self.push_leaf(Value::Owned(tensor), false)
    }

    /// An owned leaf to which gradients flow; they are kept when it is [watched](Self::watch).
    pub fn leaf(&mut self, tensor: Tensor) -> Var {
        self.push_leaf(Value::Owned(tensor), true)
    }

    /// Keeps the gradient of `var`, and its value, through the backward pass.
    ///
    /// Of use at any time before [`backward`](Self::backward), also where all weights are frozen: gradients then flow as far
    /// as what is watched.
    pub fn watch(&mut self, var: Var) {
        self.nodes[var.0].watched = true;
    }

    /// The value of a variable.
    ///
    /// # Panics
    /// When the value was released, by [`release`](Self::release) or by a backward pass, which keeps only leaves, single
    /// numbers and what is watched.
    pub fn value(&self, var: Var) -> &Tensor {
        self.nodes[var.0].tensor()
    }

    /// Frees a value that the rest of the forward pass does not read.
    ///
    /// Does nothing in [`Mode::Gradient`], whose backward pass may need it, nor for a value that is watched; in
    /// [`Mode::Recomputing`] it frees what can be made again.
    pub fn release(&mut self, var: Var) {
        let node = &mut self.nodes[var.0];
        let freed = match self.mode {
            Mode::Inference => node.operation_result(),
            Mode::Gradient => false,
            Mode::Recomputing => {
                let again = node.operation.as_ref().is_some_and(|operation| operation.recompute().is_some());
                again && !node.watched
            }
        };
        if freed {
            node.value = Value::Released;
        }
    }

    /// Frees a value that nothing reads any more, also one that was [given away](Self::constant): a weight that was read for one
    /// product, say. Its memory goes back to the system, not to the spare buffers.
    ///
    /// Does nothing where a backward pass may follow, nor to what is borrowed.
    pub fn discard(&mut self, var: Var) {
        let node = &mut self.nodes[var.0];
        if self.mode == Mode::Inference && matches!(node.value, Value::Owned(_)) {
            let value = std::mem::replace(&mut node.value, Value::Released);
            if let Value::Owned(tensor) = value {
                drop(tensor.into_data());
            }
        }
    }

    /// How many values the tape has: a mark for [`discard_since`](Self::discard_since).
    pub fn mark(&self) -> usize {
        self.nodes.len()
    }

    /// [Discards](Self::discard) every value that was put on the tape after a mark, except one.
    pub fn discard_since(&mut self, mark: usize, kept: Var) {
        (mark..self.nodes.len()).map(Var).filter(|var| *var != kept).for_each(|var| self.discard(var));
    }

    /// Puts the result of an operation on the tape.
    pub(crate) fn record<const N: usize>(
        &mut self,
        value: Tensor,
        arguments: [Option<Var>; N],
        operation: impl Operation + 'static,
    ) -> Var {
        let mut inputs = [None; 3];
        inputs[..N].copy_from_slice(&arguments);
        let operation: Option<Box<dyn Operation>> =
            self.mode.has_gradients().then(|| Box::new(operation) as Box<dyn Operation>);
        self.push(Node {
            value: Value::Owned(value),
            inputs,
            operation,
            source: false,
            watched: false,
            causal: false,
        })
    }

    /// Refuses a value that is not of the wanted shape.
    pub(crate) fn require_shape(
        &self,
        operation: &'static str,
        argument: &'static str,
        var: Var,
        wanted: &[usize],
    ) -> Result<(), EngineError> {
        let found = self.value(var).shape();
        if found == wanted {
            return Ok(());
        }
        Err(EngineError::Shape { operation, argument, found: found.to_vec(), wanted: format!("{wanted:?}") })
    }

    /// A node without arguments; `source` says whether gradients flow to it.
    fn push_leaf(&mut self, value: Value<'w>, source: bool) -> Var {
        self.push(Node { value, inputs: [None; 3], operation: None, source, watched: false, causal: false })
    }

    fn push(&mut self, node: Node<'w>) -> Var {
        self.nodes.push(node);
        Var(self.nodes.len() - 1)
    }
}

impl Node<'_> {
    pub(crate) fn tensor(&self) -> &Tensor {
        match &self.value {
            Value::Borrowed(tensor) => tensor,
            Value::Owned(tensor) => tensor,
            Value::Released => panic!("this value was released; watch it to keep it through a backward pass"),
        }
    }

    /// Whether the value was freed.
    pub(crate) fn released(&self) -> bool {
        matches!(self.value, Value::Released)
    }

    /// Puts a value back that was freed.
    pub(crate) fn fill(&mut self, value: Tensor) {
        self.value = Value::Owned(value);
    }

    /// Whether the value was computed, not given.
    pub(crate) fn operation_result(&self) -> bool {
        matches!(self.value, Value::Owned(_)) && self.inputs[0].is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_asked_twice_is_one_variable() {
        let weight = Tensor::scalar(2.0);
        let mut tape = Tape::new(Mode::Gradient);
        let first = tape.parameter(ParameterId(7), &weight);
        assert_eq!(first, tape.parameter(ParameterId(7), &weight));
        assert_ne!(first, tape.frozen(&weight));
    }

    #[test]
    fn what_is_discarded_since_a_mark_is_gone_but_for_what_is_kept_and_borrowed() {
        let weight = Tensor::scalar(2.0);
        for (mode, freed) in [(Mode::Inference, true), (Mode::Gradient, false)] {
            let mut tape = Tape::new(mode);
            let before = tape.constant(Tensor::scalar(1.0));
            let mark = tape.mark();
            let (given, borrowed) = (tape.constant(Tensor::scalar(3.0)), tape.frozen(&weight));
            let kept = tape.add(given, borrowed).unwrap();
            tape.discard_since(mark, kept);
            assert_eq!(tape.nodes[given.0].released(), freed);
            assert!(![before, borrowed, kept].iter().any(|var| tape.nodes[var.0].released()));
        }
    }

    #[test]
    fn release_frees_computed_values_in_inference_alone() {
        for (mode, freed) in [(Mode::Inference, true), (Mode::Gradient, false)] {
            let mut tape = Tape::new(mode);
            let x = tape.leaf(Tensor::scalar(1.0));
            let y = tape.scale(x, 3.0).unwrap();
            tape.release(x);
            tape.release(y);
            assert_eq!(tape.value(x).data(), [1.0]);
            assert_eq!(matches!(tape.nodes[y.0].value, Value::Released), freed);
        }
    }
}
