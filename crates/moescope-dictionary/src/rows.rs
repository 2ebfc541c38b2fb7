//! Activations as they stream.

use moescope_engine::Tensor;

use crate::{DictionaryError, SourceError};

/// Activations of some tokens at one site, and at a second one if the dictionary leads from one to the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// What is read, `[token, input]`.
    pub input: Tensor,
    /// What is written, `[token, target]`, of the same tokens; `None` where a dictionary writes what it reads.
    pub target: Option<Tensor>,
}

impl Rows {
    /// Rows of one site.
    pub fn of(input: Tensor) -> Rows {
        Rows { input, target: None }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.input.rows()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is to be written: the target, or the input itself.
    pub fn wanted(&self) -> &Tensor {
        self.target.as_ref().unwrap_or(&self.input)
    }

    /// Refuses rows of other widths.
    pub(crate) fn require_widths(&self, input: usize, target: usize) -> Result<(), DictionaryError> {
        let of = |what, tensor: &Tensor, wanted| match tensor.columns() {
            found if found == wanted => Ok(()),
            found => Err(DictionaryError::Width { what, found, wanted }),
        };
        of("the input", &self.input, input)?;
        of("the target", self.wanted(), target)?;
        match self.wanted().rows() == self.len() {
            true => Ok(()),
            false => Err(DictionaryError::Source("input and target are not of the same tokens".into())),
        }
    }
}

/// Where activations come from, batch by batch, so that they are never all in memory or on disk.
///
/// Every function that gives rows is one.
pub trait ActivationStream {
    /// The next rows, as many as come at once; `None` when there are no more.
    ///
    /// # Errors
    /// Whatever keeps the rows from being had.
    fn next_rows(&mut self) -> Result<Option<Rows>, SourceError>;
}

impl<F: FnMut() -> Result<Option<Rows>, SourceError>> ActivationStream for F {
    fn next_rows(&mut self) -> Result<Option<Rows>, SourceError> {
        self()
    }
}
