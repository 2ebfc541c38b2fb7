//! What a backward pass leaves behind.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::reach::Reach;
use crate::{ParameterId, Tensor, Var};

/// Gradients of the loss for parameters and watched variables.
///
/// A variable that the loss does not depend on has none: [`of`](Self::of) then answers `None`, which means zero.
///
/// All are sums: a weight that is used twice has one gradient, the sum over its uses.
#[derive(Debug, Default)]
pub struct Gradients {
    /// Gradients by variable, in the variable's shape.
    pub(crate) by_var: BTreeMap<Var, Tensor>,
    /// For leaves, the entries that may differ from zero.
    pub(crate) reached: BTreeMap<Var, Reach>,
    /// The variable of every parameter of the tape, also of those without a gradient.
    pub(crate) parameters: BTreeMap<ParameterId, Var>,
}

impl Gradients {
    /// The gradient for a parameter or a watched variable, of that variable's shape.
    pub fn of(&self, var: Var) -> Option<&Tensor> {
        self.by_var.get(&var)
    }

    /// The gradient for a parameter.
    ///
    /// `None` when the loss does not depend on it, which means zero.
    pub fn parameter(&self, id: ParameterId) -> Option<&Tensor> {
        self.by_var.get(self.parameters.get(&id)?)
    }

    /// The entries of a parameter that the loss reached, as ascending ranges; the gradient is zero elsewhere.
    ///
    /// All entries of most parameters; of the weights of experts `[expert, ...]`, those of experts that a token chose. Nothing
    /// where [`parameter`](Self::parameter) is `None`.
    pub fn reached(&self, id: ParameterId) -> Vec<Range<usize>> {
        let found =
            self.parameters.get(&id).and_then(|var| Some((self.by_var.get(var)?, self.reached.get(var)?)));
        found.map(|(gradient, reach)| reach.ranges(gradient.len())).unwrap_or_default()
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
