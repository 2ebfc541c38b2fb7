//! The tensors of a model under the names that Hugging Face folders have for them: their shapes, and their numbers when asked.
//!
//! Files are mapped and read tensor by tensor, so that opening a model needs the memory of its weights once, and looking at the
//! headers touches no weight.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use moescope_engine::Tensor;
use moescope_weights::{NumberFormat, Weights};

use super::entry::{Entry, Stored};
use crate::ModelError;
use crate::families::Names;

/// All tensors of a model, by name.
pub(crate) struct Tensors {
    weights: Weights,
    entries: BTreeMap<String, Entry>,
}

impl Tensors {
    /// The tensors of these weights, under the names of the files.
    pub(crate) fn of(weights: Weights) -> Tensors {
        let entry = |name: &str| (name.to_owned(), Entry::whole(&weights, name));
        let entries = weights.names().map(entry).collect();
        Tensors { weights, entries }
    }

    /// The tensors of these weights, under other names. What is not among the entries is not there.
    pub(crate) fn renamed(weights: Weights, entries: BTreeMap<String, Entry>) -> Tensors {
        Tensors { weights, entries }
    }

    /// The same tensors under the full names of a family, where the files leave out what all names begin with.
    pub(crate) fn under(self, names: &Names) -> Tensors {
        if !names.lack_base(self.names()) {
            return self;
        }
        let entries = self.entries.into_iter().map(|(name, entry)| (names.full(&name), entry)).collect();
        Tensors { entries, ..self }
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

    /// Refuses a tensor of whole numbers: they are packed or indices, and stand for something else than their values.
    pub(crate) fn require_real(&self, name: &str) -> Result<(), ModelError> {
        let Stored::Whole(stored) = &self.entry(name).stored else { return Ok(()) };
        let format = self.weights.get(stored).map(|tensor| tensor.format());
        let whole = format.filter(|format| {
            use NumberFormat::{I8, I16, I32, I64, U8};
            matches!(format, I8 | I16 | I32 | I64 | U8)
        });
        match whole {
            Some(format) => Err(ModelError::TensorFormat {
                path: self.folder().into(),
                name: name.into(),
                found: format.to_string(),
            }),
            None => Ok(()),
        }
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
        self.entry(name).read(&self.weights, None, out)
    }

    /// The numbers of one index of the slowest axis, all finite, into room for exactly so many.
    pub(crate) fn read_row(&self, name: &str, row: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.entry(name).read(&self.weights, Some(row), out)
    }

    /// Whether the rows of a tensor can be read without the rest of it.
    pub(crate) fn is_plain(&self, name: &str) -> bool {
        self.entry(name).is_plain(&self.weights)
    }

    /// Some rows of a [plain](Tensors::is_plain) matrix, all finite, into room for exactly so many.
    pub(crate) fn read_rows(
        &self,
        name: &str,
        rows: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        self.entry(name).read_rows(&self.weights, rows, out)
    }

    fn entry(&self, name: &str) -> &Entry {
        self.entries.get(name).expect("the source of a parameter was found before")
    }
}
