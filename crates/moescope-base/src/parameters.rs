use crate::{SubjectError, WeightPlace};

/// The weights of a model, for an analysis that looks at them: those of routed layers, and by place those of dense layers, shared experts and
/// attention.
///
/// Matrices are those that the forward pass multiplies with, decoded from whatever the files store; `[output, input]`, row-major.
/// They are copied out one at a time, so that a model larger than memory can answer as well.
pub trait Parameters {
    /// The matrix of the router of a block, `[expert, d_model]`; none where the router does not score (hash, random).
    ///
    /// # Errors
    /// If the block is not routed, or the weights cannot be read.
    fn router(&mut self, layer: usize) -> Result<Option<WeightMatrix>, SubjectError>;

    /// One matrix of one expert: gate and up `[neuron, d_model]`, down `[d_model, neuron]`; none for `up` where experts have no
    /// gate beside it.
    ///
    /// # Errors
    /// If the block is not routed or has no such expert, or the weights cannot be read.
    fn expert(
        &mut self,
        layer: usize,
        expert: usize,
        projection: Projection,
    ) -> Result<Option<WeightMatrix>, SubjectError>;

    /// What stands at a place; none where the model has no such weights.
    ///
    /// # Errors
    /// If the block is not routed or has no such expert, or the weights cannot be read.
    fn weights(&mut self, place: WeightPlace) -> Result<Option<WeightMatrix>, SubjectError> {
        match place {
            WeightPlace::Router { layer } => self.router(layer),
            WeightPlace::Expert { layer, expert, projection } => self.expert(layer, expert, projection),
            WeightPlace::ExpertBias { .. } | WeightPlace::Attention { .. } => Ok(None),
            WeightPlace::Dense { .. } | WeightPlace::Shared { .. } => Ok(None),
        }
    }

    /// Puts other weights at a place, for every later pass, until [`restore`](Parameters::restore). Files stay as they are.
    ///
    /// # Errors
    /// If there is nothing at this place, the sizes differ, or the subject's weights cannot be replaced.
    fn replace(&mut self, place: WeightPlace, with: &WeightMatrix) -> Result<(), SubjectError> {
        let _ = with;
        Err(SubjectError::Input { reason: format!("the subject cannot run with other weights at {place}") })
    }

    /// Puts every weight back that was replaced, to the bit.
    ///
    /// # Errors
    /// If the weights are held by somebody else.
    fn restore(&mut self) -> Result<(), SubjectError> {
        Ok(())
    }
}

/// The matrices of an expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Projection {
    /// What the activation function sees.
    Gate,
    /// The linear branch beside the gate.
    Up,
    /// What writes into the residual stream.
    Down,
}

impl Projection {
    /// All of them, in the order of the forward pass.
    pub const ALL: [Projection; 3] = [Projection::Gate, Projection::Up, Projection::Down];
}

/// A matrix `[row, column]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightMatrix {
    columns: usize,
    data: Vec<f32>,
}

impl WeightMatrix {
    /// A matrix of so many columns.
    ///
    /// # Errors
    /// If the numbers do not fill whole rows, or there is none.
    pub fn new(columns: usize, data: Vec<f32>) -> Result<WeightMatrix, SubjectError> {
        if columns == 0 || data.is_empty() || !data.len().is_multiple_of(columns) {
            let reason = format!(
                "a matrix of {} numbers has no whole rows of {columns}, wanted one or more",
                data.len()
            );
            return Err(SubjectError::Input { reason });
        }
        Ok(WeightMatrix { columns, data })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.data.len() / self.columns
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All numbers, row after row.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.columns..(row + 1) * self.columns]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_whole_rows() {
        let matrix = WeightMatrix::new(2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!((matrix.rows(), matrix.row(1)), (3, &[3.0, 4.0][..]));
        for (columns, numbers) in [(0, 2), (2, 0), (2, 3)] {
            assert!(WeightMatrix::new(columns, vec![0.0; numbers]).is_err());
        }
    }
}
