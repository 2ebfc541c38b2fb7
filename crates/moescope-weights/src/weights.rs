use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use moescope_host::MappedFile;

use crate::stored::Stored;
use crate::{Metadata, NumberFormat, WeightsError, gguf, safetensors_files};

/// The weights of one model: named tensors in mapped files, of which only the headers have been read.
///
/// The files must stay as they are for as long as this lives; see [`MappedFile`].
#[derive(Debug)]
pub struct Weights {
    pub(crate) path: PathBuf,
    pub(crate) files: Vec<MappedFile>,
    pub(crate) tensors: BTreeMap<String, Stored>,
    pub(crate) metadata: Option<Metadata>,
}

impl Weights {
    /// Opens a folder with `model.safetensors`, or with shards and their index, or with one file of another name; a single
    /// `.safetensors` file; or a `.gguf` file, all parts of it if it is split.
    ///
    /// Quantised tensors whose numbers and scales are stored apart appear as one tensor of real numbers: `X_blocks` and
    /// `X_scales` of MXFP4 as `X`, and `X` with `X_scale_inv` of FP8 as `X`. Names are those of the files.
    ///
    /// # Errors
    /// For files that are missing, damaged, or claim what they do not hold; no weight is looked at.
    pub fn open(path: &Path) -> Result<Weights, WeightsError> {
        if path.is_dir() {
            return safetensors_files::open_folder(path);
        }
        match gguf::is_gguf(path)? {
            true => gguf::open(path),
            false => safetensors_files::open(path, vec![path.into()]),
        }
    }

    /// Where the weights are: the folder or the file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All names in alphabetical order, so that a first complaint is always the same.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor, without reading it.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let (name, stored) = self.tensors.get_key_value(name)?;
        Some(TensorView { weights: self, name, stored })
    }

    /// A tensor that must be there, without reading it.
    ///
    /// # Errors
    /// [`WeightsError::NoTensor`].
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, WeightsError> {
        let missing = || WeightsError::NoTensor { path: self.path.clone(), name: name.into() };
        self.get(name).ok_or_else(missing)
    }

    /// Bytes of all tensors in the files.
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(Stored::bytes).sum()
    }

    /// Numbers of all tensors; scales of quantised ones are not counted.
    pub fn numbers(&self) -> u64 {
        self.tensors.values().map(|stored| stored.len() as u64).sum()
    }

    /// What a GGUF file says about its model; `None` for safetensors.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }
}

/// One tensor of [`Weights`]. Its numbers are decoded to `f32` when they are asked for, and only those.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'w> {
    weights: &'w Weights,
    name: &'w str,
    stored: &'w Stored,
}

impl<'w> TensorView<'w> {
    /// Name in the files.
    pub fn name(&self) -> &'w str {
        self.name
    }

    /// Lengths of the axes, slowest first; none for a single number.
    pub fn shape(&self) -> &'w [usize] {
        &self.stored.shape
    }

    /// How the numbers are stored.
    pub fn format(&self) -> NumberFormat {
        self.stored.format
    }

    /// Bytes in the files, scales included.
    pub fn bytes(&self) -> u64 {
        self.stored.bytes()
    }

    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Whether an axis has the length 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All numbers, row-major.
    ///
    /// # Errors
    /// As [`read_into`](TensorView::read_into).
    pub fn read(&self) -> Result<Vec<f32>, WeightsError> {
        let mut out = vec![0.0; self.len()];
        self.read_into(&mut out)?;
        Ok(out)
    }

    /// All numbers, row-major, into room for exactly so many.
    ///
    /// Numbers are not looked at: see [`require_finite`](TensorView::require_finite).
    ///
    /// # Errors
    /// [`WeightsError::NumberFormat`], and [`WeightsError::Rows`] for room that does not fit.
    pub fn read_into(&self, out: &mut [f32]) -> Result<(), WeightsError> {
        if out.len() != self.len() {
            return Err(self.misfit(0..self.shape().first().copied().unwrap_or(1), out.len()));
        }
        let known = self.stored.read(&Mapped::all(&self.weights.files), 0..self.rows(), out);
        self.require_known(known)
    }

    /// Some rows, which are indices of the slowest axis: one expert of a tensor of all experts, say. The others are not
    /// touched, so they need not even be in memory.
    ///
    /// # Errors
    /// [`WeightsError::Rows`] for rows that are not there or room that does not fit, and [`WeightsError::NumberFormat`].
    pub fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), WeightsError> {
        let there = !self.shape().is_empty() && rows.start <= rows.end && rows.end <= self.shape()[0];
        // Rows that are there are no more numbers than the tensor has, so the product fits.
        if !there || rows.len() * self.stored.row() != out.len() {
            return Err(self.misfit(rows, out.len()));
        }
        let known = self.stored.read(&Mapped::all(&self.weights.files), rows, out);
        self.require_known(known)
    }

    /// Refuses numbers of this tensor that are not finite; `first` is the place of the first of them in the tensor.
    ///
    /// # Errors
    /// [`WeightsError::NotFinite`], with the place in the tensor.
    pub fn require_finite(&self, first: usize, numbers: &[f32]) -> Result<(), WeightsError> {
        match numbers.iter().position(|number| !number.is_finite()) {
            None => Ok(()),
            Some(place) => Err(WeightsError::NotFinite {
                name: self.name.into(),
                entry: first + place,
                found: numbers[place],
            }),
        }
    }

    /// Tells the system that these rows are not needed for now: their pages are memory of this program no longer. They can be
    /// read again. Rows that are not there are ignored.
    pub fn release(&self, rows: Range<usize>) {
        let end = rows.end.min(self.rows());
        if rows.start < end {
            let place = &self.stored.place;
            self.weights.files[place.file].release(self.stored.bytes_of(&(rows.start..end)));
        }
    }

    /// Rows of the tensor; a single number counts as one.
    fn rows(&self) -> usize {
        self.shape().first().copied().unwrap_or(1)
    }

    fn misfit(&self, rows: Range<usize>, room: usize) -> WeightsError {
        WeightsError::Rows { name: self.name.into(), rows, shape: self.shape().into(), room }
    }

    fn require_known(&self, known: bool) -> Result<(), WeightsError> {
        match known {
            true => Ok(()),
            false => Err(WeightsError::NumberFormat { name: self.name.into(), found: self.format() }),
        }
    }
}

/// The bytes of a mapped file.
struct Mapped<'w>(&'w MappedFile);

impl Mapped<'_> {
    fn all(files: &[MappedFile]) -> Vec<Mapped<'_>> {
        files.iter().map(Mapped).collect()
    }
}

impl AsRef<[u8]> for Mapped<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}
