//! Reading single tensors out of a safetensors file.

use std::path::Path;

use moescope_host::TensorFile;
use safetensors::Dtype;

use crate::TraceError;

/// A safetensors file of which only the header has been read.
#[derive(Debug)]
pub struct TensorReader {
    file: TensorFile,
}

impl TensorReader {
    /// Reads the header and checks it against the length of the file.
    ///
    /// # Errors
    /// [`TraceError::Host`].
    pub fn open(path: &Path) -> Result<TensorReader, TraceError> {
        Ok(TensorReader { file: TensorFile::open(path)? })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.file.tensors().keys().map(String::as_str)
    }

    /// Shape and numbers of an `F32` tensor, row-major.
    ///
    /// # Errors
    /// [`TraceError::Tensor`] when it is absent or of another type, [`TraceError::Host`] when it cannot be read.
    pub fn reals(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), TraceError> {
        let (shape, bytes) = self.bytes(name, Dtype::F32)?;
        let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        Ok((shape, bytes.chunks_exact(4).map(number).collect()))
    }

    /// Shape and numbers of an `I64` tensor, row-major.
    ///
    /// # Errors
    /// As [`reals`](Self::reals).
    pub fn integers(&self, name: &str) -> Result<(Vec<usize>, Vec<i64>), TraceError> {
        let (shape, bytes) = self.bytes(name, Dtype::I64)?;
        let number = |b: &[u8]| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        Ok((shape, bytes.chunks_exact(8).map(number).collect()))
    }

    /// Whether the file holds integers under this name.
    pub(crate) fn is_integer(&self, name: &str) -> bool {
        self.file.tensors().get(name).is_some_and(|place| place.format == Dtype::I64)
    }

    pub(crate) fn complain(
        &self,
        name: &str,
        found: impl Into<String>,
        wanted: impl Into<String>,
    ) -> TraceError {
        TraceError::Tensor {
            path: self.file.path().into(),
            name: name.into(),
            found: found.into(),
            wanted: wanted.into(),
        }
    }

    fn bytes(&self, name: &str, wanted: Dtype) -> Result<(Vec<usize>, Vec<u8>), TraceError> {
        let Some(place) = self.file.tensors().get(name) else {
            return Err(self.complain(name, "absent", format!("{wanted:?} numbers")));
        };
        if place.format != wanted {
            return Err(self.complain(name, format!("{:?}", place.format), format!("{wanted:?}")));
        }
        Ok((place.shape.clone(), self.file.read(place)?))
    }
}
