//! The neurons of an expert, and their partners in another.
//!
//! A neuron is what it reads with and what it writes, as one vector: its rows of gate and up and its column of down. Reordering the neurons of
//! an expert changes nothing that it computes, so that two experts are compared neuron by neuron only once partners are found.

use std::collections::BTreeSet;

use moescope_base::{Parameters, Projection, Seed, WeightMatrix};
use nalgebra::DMatrix;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::assignment::assignment;
use crate::matrix::normal;
use crate::{AnalysisError, check};

/// Neurons that are matched at a time.
pub(crate) const TOGETHER: usize = 256;

/// The neurons of one expert.
pub(crate) struct Neurons {
    /// What each reads with and writes, one part below the other: `[part · d_model, neuron]`.
    vectors: DMatrix<f32>,
    /// Length of a part.
    width: usize,
}

impl Neurons {
    /// What one expert reads and writes.
    pub(crate) fn read(
        parameters: &mut dyn Parameters,
        layer: usize,
        expert: usize,
    ) -> Result<Neurons, AnalysisError> {
        let mut parts = Vec::new();
        for projection in Projection::ALL {
            let matrix = parameters.expert(layer, expert, projection)?;
            parts.extend(matrix.map(|matrix| by_neuron(&matrix, projection)));
        }
        let (width, count) = parts[0].shape();
        let mut vectors = DMatrix::zeros(parts.len() * width, count);
        for (at, part) in parts.iter().enumerate() {
            vectors.rows_mut(at * width, width).copy_from(part);
        }
        Ok(Neurons { vectors, width })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.vectors.ncols()
    }

    /// Sum of the squares of each neuron, and of all.
    fn squares(&self) -> (Vec<f64>, f64) {
        let square = |vector: &[f32]| vector.iter().map(|x| f64::from(*x).powi(2)).sum();
        let each: Vec<f64> = self.vectors.as_slice().chunks(self.vectors.nrows()).map(square).collect();
        let all = each.iter().sum();
        (each, all)
    }

    /// Cosine of the weights as they stand.
    pub(crate) fn plain(&self, other: &Neurons) -> f64 {
        let pairs = self.vectors.iter().zip(other.vectors.iter());
        let product: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        product / (self.squares().1 * other.squares().1).sqrt()
    }

    /// Cosine of some neurons with those of the other expert that they are matched to.
    ///
    /// The matching has the smallest sum of squared distances once both experts have the same length. With all neurons it is the one
    /// with the largest product; with some of them it still finds a copy, where the product would prefer long neurons.
    pub(crate) fn matched(&self, other: &Neurons, sample: &[usize]) -> f64 {
        let ((own, all), (theirs, all_theirs)) = (self.squares(), other.squares());
        let (scale, count) = ((all / all_theirs).sqrt(), other.count());
        // Columns lie together: the products of one sampled neuron with all of the other expert.
        let products = other.vectors.tr_mul(&self.vectors.select_columns(sample));
        let near = |(at, product): (usize, &f32)| {
            scale * f64::from(*product) - scale * scale * theirs[at % count] / 2.0
        };
        let gain: Vec<f64> = products.iter().enumerate().map(near).collect();
        // What is not a number has no match; the caller refuses the result.
        if gain.iter().any(|x| !x.is_finite()) {
            return f64::NAN;
        }
        let partners = assignment(&gain, count);
        let of = |row: usize, partner: usize| f64::from(products[(partner, row)]);
        let product: f64 = partners.iter().enumerate().map(|(row, partner)| of(row, *partner)).sum();
        let own: f64 = sample.iter().map(|neuron| own[*neuron]).sum();
        let theirs: f64 = partners.iter().map(|neuron| theirs[*neuron]).sum();
        product / (own * theirs).sqrt()
    }

    /// The partner of each neuron among those of the other expert, one to one, such that the sum of their products is largest: `[neuron]`.
    ///
    /// Above [`TOGETHER`] neurons the matching is made for as many at a time, drawn at random, among the partners that are still free:
    /// copies are found all the same, but the sum may be below the largest one.
    ///
    /// Source: weight matching of Ainsworth et al. 2023 (arXiv 2209.04836); for one hidden layer it needs a single assignment.
    pub(crate) fn partners(&self, other: &Neurons, seed: Seed) -> Result<Vec<usize>, AnalysisError> {
        check::same_length("matching of neurons", "second expert", other.count(), self.count())?;
        let mut order: Vec<usize> = (0..self.count()).collect();
        order.shuffle(&mut seed.rng());
        let mut free: Vec<usize> = (0..other.count()).collect();
        let mut partners = vec![0; self.count()];
        for part in order.chunks(TOGETHER) {
            // Columns lie together: the products of one neuron with all free ones.
            let products = other.vectors.select_columns(&free).tr_mul(&self.vectors.select_columns(part));
            let gain: Vec<f64> = products.iter().map(|product| f64::from(*product)).collect();
            check::finite("matching of neurons", &gain)?;
            let found = assignment(&gain, free.len());
            part.iter().zip(&found).for_each(|(neuron, place)| partners[*neuron] = free[*place]);
            let taken: BTreeSet<usize> = found.into_iter().collect();
            let mut place = 0..;
            free.retain(|_| !place.next().is_some_and(|place| taken.contains(&place)));
        }
        Ok(partners)
    }

    /// Neurons whose parts have the same lengths, in random directions.
    pub(crate) fn scrambled(&self, seed: Seed) -> Neurons {
        let scramble = |(at, part): (usize, &[f32])| {
            let mut rng = seed.index(at as u64).rng();
            let drawn: Vec<f64> = part.iter().map(|_| normal(&mut rng)).collect();
            let length = |squares: f64| squares.sqrt();
            let factor = length(part.iter().map(|x| f64::from(*x).powi(2)).sum())
                / length(drawn.iter().map(|x| x * x).sum());
            drawn.into_iter().map(|x| (x * factor) as f32).collect::<Vec<f32>>()
        };
        let parts: Vec<Vec<f32>> =
            self.vectors.as_slice().par_chunks(self.width).enumerate().map(scramble).collect();
        let vectors = DMatrix::from_vec(self.vectors.nrows(), self.count(), parts.concat());
        Neurons { vectors, width: self.width }
    }
}

/// A matrix with one neuron in each column: `[d_model, neuron]`.
fn by_neuron(matrix: &WeightMatrix, projection: Projection) -> DMatrix<f32> {
    match projection {
        // nalgebra stores columns together, so that rows of gate and up, one after the other, are its columns.
        Projection::Gate | Projection::Up => {
            DMatrix::from_column_slice(matrix.columns(), matrix.rows(), matrix.data())
        }
        Projection::Down => DMatrix::from_row_slice(matrix.rows(), matrix.columns(), matrix.data()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted_parameters::PlantedParameters;

    #[test]
    fn a_copy_in_another_order_is_matched_neuron_by_neuron_also_in_parts() {
        for neurons in [9, TOGETHER + 40] {
            let mut planted = PlantedParameters::gaussian(2, neurons, 6, 1);
            planted.experts[1] = planted.experts[0].clone();
            let mut order: Vec<usize> = (0..neurons).collect();
            order.shuffle(&mut Seed(4).rng());
            planted.reorder(1, &order);
            let [own, other] = [0, 1].map(|expert| Neurons::read(&mut planted.clone(), 0, expert).unwrap());
            let partners = own.partners(&other, Seed(1)).unwrap();
            // Neuron `partner` of the copy is what `order[partner]` was.
            assert!((0..neurons).all(|neuron| order[partners[neuron]] == neuron));
        }
    }

    #[test]
    fn partners_differ_and_other_sizes_are_refused() {
        let planted = PlantedParameters::gaussian(2, 20, 4, 2);
        let other = PlantedParameters::gaussian(2, 21, 4, 2);
        let read = |planted: &PlantedParameters, e| Neurons::read(&mut planted.clone(), 0, e).unwrap();
        let mut partners = read(&planted, 0).partners(&read(&planted, 1), Seed(3)).unwrap();
        partners.sort_unstable();
        assert!(partners.into_iter().eq(0..20));
        assert!(read(&planted, 0).partners(&read(&other, 1), Seed(3)).is_err());
    }
}
