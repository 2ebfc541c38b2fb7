use serde::{Deserialize, Serialize};

use crate::{Axis, HookPoint};

/// What was found at a hook point: numbers with named axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    shape: Vec<usize>,
    axes: Vec<Axis>,
    data: ValueData,
    /// For the ragged values of one expert: which token (`batch * positions + pos`) each row belongs to.
    rows: Option<Vec<u32>>,
}

/// The numbers of a [`Value`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ValueData {
    /// Activations, scores, weights, gradients.
    Real(Vec<f32>),
    /// Expert indices.
    Integer(Vec<i64>),
}

/// A value that does not have the axes which its site declares.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Wrong number of axes, or a length that does not fit the number of elements.
    #[error(
        "{point}: shape {shape:?} with {elements} elements does not fit the axes {axes:?}; this is a defect of the recorder"
    )]
    Shape {
        /// Where.
        point: HookPoint,
        /// Shape given.
        shape: Vec<usize>,
        /// Number of elements given.
        elements: usize,
        /// Axes that the site declares.
        axes: Vec<Axis>,
    },
}

impl Value {
    /// A value for `point`, checked against the axes of its site.
    ///
    /// # Errors
    /// If the number of axes or of elements does not fit, or token rows are missing or superfluous.
    pub fn new(
        point: HookPoint,
        shape: Vec<usize>,
        data: ValueData,
        rows: Option<Vec<u32>>,
    ) -> Result<Value, ValueError> {
        let axes = point.site().axes();
        let elements = data.len();
        let rows_fit = match &rows {
            Some(rows) => axes[0] == Axis::Row && rows.len() == shape[0],
            None => axes[0] != Axis::Row,
        };
        if shape.len() != axes.len() || shape.iter().product::<usize>() != elements || !rows_fit {
            return Err(ValueError::Shape { point, shape, elements, axes: axes.to_vec() });
        }
        Ok(Value { shape, axes: axes.to_vec(), data, rows })
    }

    /// Lengths of the axes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Names of the axes, outermost first.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// The numbers, row-major.
    pub fn data(&self) -> &ValueData {
        &self.data
    }

    /// The numbers if they are real.
    pub fn real(&self) -> Option<&[f32]> {
        match &self.data {
            ValueData::Real(x) => Some(x),
            ValueData::Integer(_) => None,
        }
    }

    /// The numbers if they are integers.
    pub fn integer(&self) -> Option<&[i64]> {
        match &self.data {
            ValueData::Integer(x) => Some(x),
            ValueData::Real(_) => None,
        }
    }

    /// Token of each row, for the values of a single expert.
    pub fn rows(&self) -> Option<&[u32]> {
        self.rows.as_deref()
    }

    /// Length of the last axis.
    pub fn columns(&self) -> usize {
        *self.shape.last().expect("every site has at least two axes")
    }
}

impl ValueData {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            ValueData::Real(x) => x.len(),
            ValueData::Integer(x) => x.len(),
        }
    }

    /// Whether there is no element, as for an expert that no token chose.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Site;

    #[test]
    fn a_value_must_have_the_axes_of_its_site() {
        let point = HookPoint::block(Site::ResidPost, 0);
        assert!(Value::new(point, vec![1, 2, 3], ValueData::Real(vec![0.0; 6]), None).is_ok());
        assert!(Value::new(point, vec![2, 3], ValueData::Real(vec![0.0; 6]), None).is_err());
        assert!(Value::new(point, vec![1, 2, 3], ValueData::Real(vec![0.0; 5]), None).is_err());
    }

    #[test]
    fn an_expert_value_must_name_its_tokens() {
        let point = HookPoint::expert(Site::ExpertOut, 0, 1);
        assert!(Value::new(point, vec![0, 3], ValueData::Real(vec![]), Some(vec![])).is_ok());
        assert!(Value::new(point, vec![1, 3], ValueData::Real(vec![0.0; 3]), None).is_err());
        assert!(Value::new(point, vec![1, 3], ValueData::Real(vec![0.0; 3]), Some(vec![4, 5])).is_err());
    }
}
