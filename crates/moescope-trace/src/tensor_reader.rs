//! Reading single tensors out of a safetensors file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::TraceError;

/// Longest header that the format allows, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// A safetensors file of which only the header has been read.
#[derive(Debug)]
pub struct TensorReader {
    path: PathBuf,
    start: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

impl TensorReader {
    /// Reads the header and checks it against the length of the file.
    ///
    /// # Errors
    /// [`TraceError::File`] or [`TraceError::Broken`].
    pub fn open(path: &Path) -> Result<TensorReader, TraceError> {
        let failed = |source| TraceError::File { action: "read", path: path.into(), source };
        let broken = |reason: String| TraceError::Broken { path: path.into(), reason };
        let mut file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut prefix = [0; 8];
        if length < 8 {
            return Err(broken(format!("it has {length} bytes, fewer than the length of its header takes")));
        }
        file.read_exact(&mut prefix).map_err(failed)?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > LONGEST_HEADER || header_length + 8 > length {
            return Err(broken(format!(
                "its header claims {header_length} bytes, and the file has {length}"
            )));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(failed)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| broken(format!("its header does not read: {error}")))?;
        let (start, room) = (8 + header_length, length - 8 - header_length);
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            if !fits(info, room) {
                let reason = format!("the tensor `{name}` claims bytes {:?} of {room}", info.data_offsets);
                return Err(broken(reason));
            }
            tensors.insert(name, info.clone());
        }
        match metadata.data_len() as u64 == room {
            true => Ok(TensorReader { path: path.into(), start, tensors }),
            false => {
                Err(broken(format!("its tensors take {} bytes, and there are {room}", metadata.data_len())))
            }
        }
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape and numbers of an `F32` tensor, row-major.
    ///
    /// # Errors
    /// [`TraceError::Tensor`] when it is absent or of another type, [`TraceError::File`] when it cannot be read.
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
        self.tensors.get(name).is_some_and(|info| info.dtype == Dtype::I64)
    }

    pub(crate) fn complain(
        &self,
        name: &str,
        found: impl Into<String>,
        wanted: impl Into<String>,
    ) -> TraceError {
        TraceError::Tensor {
            path: self.path.clone(),
            name: name.into(),
            found: found.into(),
            wanted: wanted.into(),
        }
    }

    fn bytes(&self, name: &str, wanted: Dtype) -> Result<(Vec<usize>, Vec<u8>), TraceError> {
        let Some(info) = self.tensors.get(name) else {
            return Err(self.complain(name, "absent", format!("{wanted:?} numbers")));
        };
        if info.dtype != wanted {
            return Err(self.complain(name, format!("{:?}", info.dtype), format!("{wanted:?}")));
        }
        let failed = |source| TraceError::File { action: "read", path: self.path.clone(), source };
        let (first, last) = info.data_offsets;
        let mut bytes = vec![0; last - first];
        let mut file = File::open(&self.path).map_err(failed)?;
        file.seek(SeekFrom::Start(self.start + first as u64)).map_err(failed)?;
        file.read_exact(&mut bytes).map_err(failed)?;
        Ok((info.shape.clone(), bytes))
    }
}

/// Whether the bytes of a tensor lie in the file and are as many as its shape takes.
fn fits(info: &TensorInfo, room: u64) -> bool {
    let (first, last) = info.data_offsets;
    let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, axis| bits.checked_mul(*axis));
    first <= last && last as u64 <= room && bits.is_some() && bits == (last - first).checked_mul(8)
}
