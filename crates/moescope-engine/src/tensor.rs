//! Dense row-major arrays of `f32`.

use crate::EngineError;
use crate::memory;

/// A dense, row-major array of `f32` with any number of axes.
///
/// The last axis is contiguous. Many operations see a tensor as a matrix: [`columns`](Self::columns) is the last axis and
/// [`rows`](Self::rows) the product of all others. The storage comes from, and goes back to, a pool of buffers that each
/// thread keeps, so a training step does not ask the system for fresh pages.
///
/// There are no views and no strides: an operation that needs another order copies, or its kernel reads with strides
/// of its own.
#[derive(Debug)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
    /// Whether the storage goes back to the pool.
    pooled: bool,
}

impl Tensor {
    /// Takes `data` as an array of the given shape.
    ///
    /// # Errors
    /// [`EngineError::Length`] when the shape's product is not the number of entries.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self, EngineError> {
        let shape = shape.into();
        let wanted = shape.iter().product();
        if data.len() != wanted {
            return Err(EngineError::Length {
                operation: "tensor",
                argument: "data",
                found: data.len(),
                wanted,
            });
        }
        Ok(Self { shape, data, pooled: true })
    }

    /// An array of zeros.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Self {
        Self::full(shape, 0.0)
    }

    /// An array whose every entry is `value`.
    pub fn full(shape: impl Into<Vec<usize>>, value: f32) -> Self {
        let mut tensor = Self::unfilled(shape);
        tensor.data.fill(value);
        tensor
    }

    /// One number: shape `[1]`.
    pub fn scalar(value: f32) -> Self {
        Self::full([1], value)
    }

    /// An array whose entries are left over from earlier use: the caller writes each of them.
    pub(crate) fn unfilled(shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let data = memory::take(shape.iter().product());
        Self { shape, data, pooled: true }
    }

    /// An array of zeros on fresh pages, which take memory when they are first written: for arrays that mostly stay zero.
    ///
    /// Goes back to the system rather than to the pool, which would hand it to one who writes it all.
    pub(crate) fn untouched_zeros(shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let data = vec![0.0; shape.iter().product()];
        Self { shape, data, pooled: false }
    }

    /// Length of each axis, slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there is no entry at all.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Product of all axes but the last; 1 for an array without axes.
    pub fn rows(&self) -> usize {
        self.shape[..self.shape.len().saturating_sub(1)].iter().product()
    }

    /// Length of the last axis; 1 for an array without axes.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// All entries, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All entries, row-major, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Gives the entries away.
    pub fn into_data(mut self) -> Vec<f32> {
        std::mem::take(&mut self.data)
    }
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        self.shape == other.shape && self.data == other.data
    }
}

impl Clone for Tensor {
    fn clone(&self) -> Self {
        let mut copy = Self::unfilled(self.shape.clone());
        copy.data.copy_from_slice(&self.data);
        copy
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        if self.pooled {
            memory::give_back(std::mem::take(&mut self.data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_times_columns_is_the_length() {
        let tensor = Tensor::new([2, 3, 5], vec![1.0; 30]).unwrap();
        assert_eq!((tensor.rows(), tensor.columns(), tensor.len()), (6, 5, 30));
        assert_eq!(Tensor::scalar(4.0).data(), [4.0]);
    }

    #[test]
    fn a_shape_that_does_not_fit_is_refused() {
        let error = Tensor::new([2, 3], vec![0.0; 5]).unwrap_err();
        assert!(error.to_string().contains("has 5 entries, wanted 6"), "{error}");
    }

    #[test]
    fn zeros_are_zero_even_in_a_recycled_buffer() {
        drop(Tensor::full([100, 100], f32::NAN));
        assert!(Tensor::zeros([100, 100]).data().iter().all(|&x| x == 0.0));
    }
}
