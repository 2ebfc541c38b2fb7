//! The tensors of a model under the names that Hugging Face folders have for them: their shapes, and their numbers when asked.
//!
//! Files are mapped and read tensor by tensor, so that opening a model needs the memory of its weights once, and looking at the
//! headers touches no weight.

use std::collections::BTreeMap;
use std::path::Path;

use moescope_engine::Tensor;
use moescope_weights::{TensorView, Weights};

use crate::ModelError;

/// All tensors of a model, by name.
pub(crate) struct Tensors {
    weights: Weights,
    entries: BTreeMap<String, Entry>,
}

/// One tensor, or one row of a tensor of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Lengths of the axes, slowest first.
    pub(crate) shape: Vec<usize>,
    /// Name in the files.
    stored: String,
}

impl Tensors {
    /// The tensors of these weights, under the names of the files.
    pub(crate) fn of(weights: Weights) -> Tensors {
        let entry = |name: &str| Entry { shape: view(&weights, name).shape().into(), stored: name.into() };
        let entries = weights.names().map(|name| (name.to_owned(), entry(name))).collect();
        Tensors { weights, entries }
    }

    /// The folder or file, for messages.
    pub(crate) fn folder(&self) -> &Path {
        self.weights.path()
    }

    /// All names in alphabetical order, so that the first complaint is always the same.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// What the header says about a tensor.
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Bytes of all tensors.
    pub(crate) fn bytes(&self) -> u64 {
        self.weights.bytes()
    }

    /// Numbers of all tensors.
    pub(crate) fn numbers(&self) -> u64 {
        self.weights.numbers()
    }

    /// The numbers of one tensor, all finite.
    pub(crate) fn read(&self, name: &str) -> Result<Tensor, ModelError> {
        let shape = self.entry(name).shape.clone();
        let mut numbers = vec![0.0; shape.iter().product()];
        self.read_into(name, &mut numbers)?;
        Ok(Tensor::new(shape, numbers)?)
    }

    /// The numbers of one tensor, all finite, into room for exactly so many.
    pub(crate) fn read_into(&self, name: &str, out: &mut [f32]) -> Result<(), ModelError> {
        let tensor = view(&self.weights, &self.entry(name).stored);
        tensor.read_into(out)?;
        Ok(tensor.require_finite(0, out)?)
    }

    /// The numbers of one index of the slowest axis, all finite, into room for exactly so many.
    pub(crate) fn read_row(&self, name: &str, row: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let tensor = view(&self.weights, &self.entry(name).stored);
        tensor.read_rows(row..row + 1, out)?;
        Ok(tensor.require_finite(row * out.len(), out)?)
    }

    fn entry(&self, name: &str) -> &Entry {
        self.entries.get(name).expect("the source of a parameter was found before")
    }
}

/// A tensor that an entry leads to.
fn view<'w>(weights: &'w Weights, stored: &str) -> TensorView<'w> {
    weights.get(stored).expect("entries are made from the names of the weights")
}
