//! Norms and ranks of the matrices of experts, beside Gaussian matrices.

use moescope_base::{FeedForwardShape, Parameters, Projection, Seed, SubjectShape, WeightMatrix};
use nalgebra::DMatrix;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::{METHOD, NEURONS};
use crate::expert_similarity::prediction_bound;
use crate::matrix::normal;
use crate::routing::{NullComparison, Permutations};
use crate::spectrum::effective_number;
use crate::statistics::{Tail, mean, standard_deviation};
use crate::{AnalysisError, check};

/// Size and rank of one matrix.
///
/// - **Unit and range:** norms in the unit of the weights, from 0; ranks in directions, from 1 to the smaller side of the matrix, 256 at most.
/// - **Null:** a Gaussian matrix of the same shape and Frobenius norm, whose ranks depend on the shape alone.
/// - **Does not show:** what the directions are for, nor that small singular values can be left out: `expert-prune` and `quantised-experts`
///   intervene. Activation functions and norms before the layer may undo a scale.
/// - **Source:** effective rank of Roy and Vetterli 2007, over singular values; stable rank of Rudelson and Vershynin 2007.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatrixSize {
    /// Root of the sum of squares of the whole matrix.
    pub frobenius: f64,
    /// Largest singular value of the neurons that were looked at.
    pub spectral: f64,
    /// exp of the entropy of the singular values, brought to sum one.
    pub effective_rank: f64,
    /// Sum of the squared singular values over the largest square.
    pub stable_rank: f64,
}

/// One expert.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertSizes {
    /// Root of the sum of squares of all of its matrices.
    pub norm: f64,
    /// Gate, up and down, as far as the expert has them.
    pub matrices: Vec<(Projection, MatrixSize)>,
}

/// One kind of matrix over the experts of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatrixSummary {
    /// Which matrix.
    pub projection: Projection,
    /// Mean Frobenius norm.
    pub frobenius: f64,
    /// Standard deviation of the logarithm of the Frobenius norm, beside Gaussian matrices of one scale; large values speak against the null.
    pub spread: NullComparison,
    /// Expert with the largest norm, and that norm over the median.
    pub largest: (usize, f64),
    /// Mean effective rank.
    pub effective_rank: f64,
    /// Mean stable rank.
    pub stable_rank: f64,
    /// Expert with the lowest effective rank, and that rank.
    pub lowest: (usize, f64),
    /// What one Gaussian matrix of all that were looked at falls below in less than 5 % of models (Bonferroni, Student's t for one more draw,
    /// on the logarithm of what the rank lacks of the side of the matrix).
    pub threshold: f64,
    /// Experts below that.
    pub below: usize,
}

/// The experts of one layer; units, null and limits are those of [`MatrixSize`].
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSizes {
    /// Block.
    pub layer: usize,
    /// Every expert.
    pub experts: Vec<ExpertSizes>,
    /// Every kind of matrix.
    pub matrices: Vec<MatrixSummary>,
    /// Mean of Gaussian matrices of this shape and Frobenius norm 1.
    pub gaussian: MatrixSize,
    /// Share of the squared Frobenius norm that the neurons that were looked at stand for, if all were alike.
    pub share: f64,
    /// Gaussian matrices behind it.
    pub random: usize,
}

/// Measures the experts of some layers, one expert in memory at a time; `random` Gaussian matrices, at least 3, are behind ranks.
///
/// # Errors
/// If a layer has fewer than two experts, weights cannot be read, are not finite, or are all zero.
pub fn expert_sizes(
    parameters: &mut dyn Parameters,
    shape: &SubjectShape,
    layers: &[usize],
    random: usize,
    permutations: Permutations,
) -> Result<Vec<LayerSizes>, AnalysisError> {
    permutations.check(METHOD)?;
    check::at_least(METHOD, "Gaussian matrices", random, 3)?;
    let mut found = Vec::new();
    for layer in layers {
        let FeedForwardShape::Routed { experts, expert_width, .. } = shape.feed_forward[*layer] else {
            continue;
        };
        check::at_least(METHOD, "experts", experts, 2)?;
        let neurons = some_neurons(expert_width, permutations.seed.child("neurons"));
        let read = |expert| of_expert(parameters, *layer, expert, &neurons);
        let sizes = (0..experts).map(read).collect::<Result<Vec<ExpertSizes>, AnalysisError>>()?;
        // The shape decides the draws, so that layers of one shape have one null.
        let drawn = gaussian(neurons.len(), shape.d_model, random, permutations.seed.child("Gaussian"));
        found.push(Measured { layer: *layer, sizes, drawn, width: expert_width, neurons: neurons.len() });
    }
    check::at_least(METHOD, "routed layers", found.len(), 1)?;
    let tests: usize = found.iter().map(|layer| layer.sizes.len() * layer.sizes[0].matrices.len()).sum();
    Ok(found.into_iter().map(|layer| layer.summed_up(tests, shape.d_model, permutations)).collect())
}

/// Neurons of an expert of this width, all or some drawn at random, ascending.
///
/// The same neurons are looked at in every expert and matrix, so that what differs between experts is not the draw.
fn some_neurons(width: usize, seed: Seed) -> Vec<usize> {
    let mut neurons: Vec<usize> = (0..width).collect();
    if width > NEURONS {
        neurons.shuffle(&mut seed.rng());
        neurons.truncate(NEURONS);
        neurons.sort_unstable();
    }
    neurons
}

/// All matrices of one expert, which is read for this alone and forgotten.
///
/// Norms are of whole matrices; singular values of the neurons that are given.
fn of_expert(
    parameters: &mut dyn Parameters,
    layer: usize,
    expert: usize,
    neurons: &[usize],
) -> Result<ExpertSizes, AnalysisError> {
    let mut matrices = Vec::new();
    for projection in Projection::ALL {
        if let Some(matrix) = parameters.expert(layer, expert, projection)? {
            let squares = matrix.data().iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            let size = size_of(&by_neuron(&matrix, projection, neurons), squares.sqrt())?;
            matrices.push((projection, size));
        }
    }
    let norm = matrices.iter().map(|(_, size)| size.frobenius.powi(2)).sum::<f64>().sqrt();
    Ok(ExpertSizes { norm, matrices })
}

/// Some neurons of a matrix: `[neuron, d_model]`.
fn by_neuron(matrix: &WeightMatrix, projection: Projection, neurons: &[usize]) -> DMatrix<f64> {
    match projection {
        Projection::Down => DMatrix::from_fn(neurons.len(), matrix.rows(), |neuron, row| {
            f64::from(matrix.row(row)[neurons[neuron]])
        }),
        _ => DMatrix::from_fn(neurons.len(), matrix.columns(), |neuron, column| {
            f64::from(matrix.row(neurons[neuron])[column])
        }),
    }
}

/// Size of a matrix of this Frobenius norm, of which some rows are given.
fn size_of(rows: &DMatrix<f64>, frobenius: f64) -> Result<MatrixSize, AnalysisError> {
    check::finite(METHOD, &[frobenius])?;
    // Both products share their eigenvalues apart from zeros; the smaller one is quicker to decompose.
    let gram = if rows.nrows() <= rows.ncols() { rows * rows.transpose() } else { rows.tr_mul(rows) };
    // A product with itself has no negative eigenvalue; what lies below zero is rounding.
    let squares: Vec<f64> = gram.symmetric_eigenvalues().iter().map(|square| square.max(0.0)).collect();
    let largest = squares.iter().copied().fold(0.0, f64::max);
    if largest <= 0.0 {
        return Err(AnalysisError::Constant { method: METHOD, what: "a matrix of an expert, which is zero" });
    }
    let singular: Vec<f64> = squares.iter().map(|square| square.sqrt()).collect();
    Ok(MatrixSize {
        frobenius,
        spectral: largest.sqrt(),
        effective_rank: effective_number(&singular),
        stable_rank: squares.iter().sum::<f64>() / largest,
    })
}

/// Gaussian matrices of one shape, brought to a Frobenius norm of 1.
///
/// Ranks do not see a scale, so that one such list serves all matrices of the shape, whatever their norms are. Its draws follow from the
/// seed alone, and so layers of one shape share them.
fn gaussian(rows: usize, columns: usize, count: usize, seed: Seed) -> Vec<MatrixSize> {
    let one = |draw: usize| {
        let mut rng = seed.index(draw as u64).rng();
        let matrix = DMatrix::from_fn(rows, columns, |_, _| normal(&mut rng));
        let norm = matrix.norm();
        size_of(&(matrix / norm), 1.0).expect("Gaussian numbers are finite and not all zero")
    };
    (0..count).into_par_iter().map(one).collect()
}

/// A layer whose experts have been read.
struct Measured {
    layer: usize,
    sizes: Vec<ExpertSizes>,
    /// Gaussian matrices of the shape that was looked at.
    drawn: Vec<MatrixSize>,
    /// Neurons of an expert.
    width: usize,
    /// Those that were looked at.
    neurons: usize,
}

impl Measured {
    /// With all kinds of matrices held against Gaussian ones; so many matrices are tested in the whole model.
    fn summed_up(self, tests: usize, d_model: usize, permutations: Permutations) -> LayerSizes {
        let of = |pick: fn(&MatrixSize) -> f64| mean(&self.drawn.iter().map(pick).collect::<Vec<f64>>());
        let gaussian = MatrixSize {
            frobenius: 1.0,
            spectral: of(|size| size.spectral),
            effective_rank: of(|size| size.effective_rank),
            stable_rank: of(|size| size.stable_rank),
        };
        // Ranks pile up under the side of the matrix, so that what they lack of it is nearer to normal on a logarithmic scale.
        let side = self.neurons.min(d_model) as f64;
        let lack = |size: &MatrixSize| (side - size.effective_rank).max(f64::MIN_POSITIVE).ln();
        let lacks: Vec<f64> = self.drawn.iter().map(lack).collect();
        let threshold = side - prediction_bound(&lacks, 0.05 / tests as f64).exp();
        let entries = self.width * d_model;
        let kinds = 0..self.sizes[0].matrices.len();
        let permutations = permutations.index(self.layer).child("norms");
        let matrices =
            kinds.map(|kind| summary(&self.sizes, kind, threshold, entries, permutations)).collect();
        LayerSizes {
            layer: self.layer,
            matrices,
            gaussian,
            share: self.neurons as f64 / self.width as f64,
            random: self.drawn.len(),
            experts: self.sizes,
        }
    }
}

/// One kind of matrix of a layer, of so many entries each.
///
/// The spread of norms is held against Gaussian matrices of one scale, whose norms hardly differ: in a trained model nearly every layer is
/// called, and `largest` tells how much it is. The median is that of the layer's experts, so that a scale of the whole layer is no finding.
fn summary(
    experts: &[ExpertSizes],
    kind: usize,
    threshold: f64,
    entries: usize,
    permutations: Permutations,
) -> MatrixSummary {
    let all = |pick: fn(&MatrixSize) -> f64| -> Vec<f64> {
        experts.iter().map(|expert| pick(&expert.matrices[kind].1)).collect()
    };
    let (norms, ranks) = (all(|size| size.frobenius), all(|size| size.effective_rank));
    let spread =
        |norms: &[f64]| standard_deviation(&norms.iter().map(|norm| norm.ln()).collect::<Vec<f64>>());
    let draws = permutations.draw(
        || vec![0.0; experts.len()],
        |drawn, rng| {
            drawn.iter_mut().for_each(|norm| *norm = gaussian_norm(entries, normal(rng)));
            spread(drawn)
        },
    );
    let mut sorted = norms.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let median = (sorted[(norms.len() - 1) / 2] + sorted[norms.len() / 2]) / 2.0;
    let at = |of: &[f64], better: fn(f64, f64) -> bool| {
        (1..of.len()).fold(0, |best, expert| if better(of[expert], of[best]) { expert } else { best })
    };
    let (largest, lowest) = (at(&norms, |a, b| a > b), at(&ranks, |a, b| a < b));
    MatrixSummary {
        projection: experts[0].matrices[kind].0,
        frobenius: mean(&norms),
        spread: NullComparison::new(spread(&norms), &draws, Tail::Greater),
        largest: (largest, norms[largest] / median),
        effective_rank: mean(&ranks),
        stable_rank: mean(&all(|size| size.stable_rank)),
        lowest: (lowest, ranks[lowest]),
        threshold,
        below: ranks.iter().filter(|rank| **rank < threshold).count(),
    }
}

/// Frobenius norm of a Gaussian matrix of so many entries over its expectation, about: the root of a χ² as Wilson and Hilferty (1931) have it.
fn gaussian_norm(entries: usize, normal: f64) -> f64 {
    let part = 2.0 / (9.0 * entries as f64);
    (1.0 - part + normal * part.sqrt()).max(f64::MIN_POSITIVE).powf(1.5)
}
