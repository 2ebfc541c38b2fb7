//! What a backward pass leaves behind.

use std::collections::BTreeMap;

use crate::{ParameterId, Tensor, Var};

/// Gradients of the loss for parameters and watched variables.
///
/// A variable that the loss does not depend on has none: [`of`](Self::of) then answers `None`, which means zero.
#[derive(Debug, Default)]
pub struct Gradients {
    pub(crate) by_var: BTreeMap<Var, Tensor>,
    pub(crate) parameters: BTreeMap<ParameterId, Var>,
}

impl Gradients {
    /// The gradient for a parameter or a watched variable, of that variable's shape.
    pub fn of(&self, var: Var) -> Option<&Tensor> {
        self.by_var.get(&var)
    }

    /// The gradient for a parameter.
    pub fn parameter(&self, id: ParameterId) -> Option<&Tensor> {
        self.by_var.get(self.parameters.get(&id)?)
    }

    /// Takes the gradient for a parameter out.
    pub fn take_parameter(&mut self, id: ParameterId) -> Option<Tensor> {
        self.by_var.remove(self.parameters.get(&id)?)
    }

    /// All parameters with a gradient, by ascending id.
    pub fn parameters(&self) -> impl Iterator<Item = (ParameterId, &Tensor)> {
        self.parameters.iter().filter_map(|(&id, var)| Some((id, self.by_var.get(var)?)))
    }
}
