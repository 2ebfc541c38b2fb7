//! All weights of one expert: read, reordered, averaged, and put in the place of another's.
//!
//! An expert is its matrices and, in some families, a bias beside each. Whoever reorders or averages experts must take all of them along: a
//! neuron has a row of gate and of up, an entry of their biases, and a column of down. The bias of down belongs to no neuron.

use moescope_base::{Parameters, Projection, WeightMatrix, WeightPlace};

use crate::AnalysisError;

/// Which weights of an expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A matrix.
    Matrix,
    /// What is added to its product.
    Bias,
}

/// The matrices of an expert, and its biases where it has some.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExpertWeights {
    parts: Vec<(Kind, Projection, WeightMatrix)>,
}

impl ExpertWeights {
    /// Those of one expert.
    ///
    /// # Errors
    /// If the block is not routed or has no such expert, or the weights cannot be read.
    pub(crate) fn read(
        parameters: &mut dyn Parameters,
        layer: usize,
        expert: usize,
    ) -> Result<ExpertWeights, AnalysisError> {
        let mut parts = Vec::new();
        for projection in Projection::ALL {
            for kind in [Kind::Matrix, Kind::Bias] {
                let found = parameters.weights(place(kind, layer, expert, projection))?;
                parts.extend(found.map(|matrix| (kind, projection, matrix)));
            }
        }
        Ok(ExpertWeights { parts })
    }

    /// Puts them in the place of an expert's.
    ///
    /// # Errors
    /// If the sizes differ, or the subject's weights cannot be replaced.
    pub(crate) fn put(
        &self,
        parameters: &mut dyn Parameters,
        layer: usize,
        expert: usize,
    ) -> Result<(), AnalysisError> {
        for (kind, projection, matrix) in &self.parts {
            parameters.replace(place(*kind, layer, expert, *projection), matrix)?;
        }
        Ok(())
    }

    /// The same expert with its neurons in another order: neuron `i` is what `order[i]` was.
    pub(crate) fn reordered(&self, order: &[usize]) -> Result<ExpertWeights, AnalysisError> {
        let of = |(kind, projection, matrix): &(Kind, Projection, WeightMatrix)| {
            let data: Vec<f32> = match (projection, kind) {
                (Projection::Down, Kind::Bias) => matrix.data().to_vec(),
                (Projection::Down, Kind::Matrix) => (0..matrix.rows())
                    .flat_map(|row| order.iter().map(move |neuron| matrix.row(row)[*neuron]))
                    .collect(),
                _ => order.iter().flat_map(|neuron| matrix.row(*neuron)).copied().collect(),
            };
            Ok((*kind, *projection, WeightMatrix::new(matrix.columns(), data)?))
        };
        Ok(ExpertWeights { parts: self.parts.iter().map(of).collect::<Result<_, AnalysisError>>()? })
    }

    /// The weighted mean of experts of one layer; the weights sum to one.
    ///
    /// A weight of one alone gives that expert to the bit.
    pub(crate) fn mean(of: &[(f64, &ExpertWeights)]) -> Result<ExpertWeights, AnalysisError> {
        let part = |(number, (kind, projection, first)): (usize, &(Kind, Projection, WeightMatrix))| {
            let mut sum = vec![0.0_f64; first.data().len()];
            for (weight, expert) in of {
                let data = expert.parts[number].2.data();
                sum.iter_mut().zip(data).for_each(|(sum, x)| *sum += weight * f64::from(*x));
            }
            let data = sum.into_iter().map(|x| x as f32).collect();
            Ok((*kind, *projection, WeightMatrix::new(first.columns(), data)?))
        };
        let parts = of[0].1.parts.iter().enumerate().map(part).collect::<Result<_, AnalysisError>>()?;
        Ok(ExpertWeights { parts })
    }
}

/// Where a part of an expert stands.
fn place(kind: Kind, layer: usize, expert: usize, projection: Projection) -> WeightPlace {
    match kind {
        Kind::Matrix => WeightPlace::Expert { layer, expert, projection },
        Kind::Bias => WeightPlace::ExpertBias { layer, expert, projection },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted_parameters::PlantedParameters;

    #[test]
    fn a_mean_and_an_order_by_hand() {
        let mut planted = PlantedParameters::gaussian(2, 3, 2, 1);
        let [first, second] = [0, 1].map(|e| ExpertWeights::read(&mut planted, 0, e).unwrap());
        assert_eq!(ExpertWeights::mean(&[(1.0, &first)]).unwrap(), first);
        let middle = ExpertWeights::mean(&[(0.25, &first), (0.75, &second)]).unwrap();
        let number = |expert: &ExpertWeights| f64::from(expert.parts[0].2.data()[4]);
        assert!((number(&middle) - 0.25 * number(&first) - 0.75 * number(&second)).abs() < 1e-6);
        let order = [2, 0, 1];
        planted.reorder(0, &order);
        assert_eq!(ExpertWeights::read(&mut planted, 0, 0).unwrap(), first.reordered(&order).unwrap());
    }
}
