//! Final norm and unembedding, with their derivative.
//!
//! Training a lens needs the derivative of what is read out. The subject answers with logits alone, so the
//! matrix behind them is asked for column by column, with vectors for which the norm divides by one, and then
//! held against the logits of random vectors. A model that caps its logits, or whose norm is another, is
//! refused rather than approximated. The matrix takes four bytes for each number of the vocabulary times the
//! width.

use moescope_base::Subject;
use moescope_engine::{divergence, to_probabilities};
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::METHOD;
use crate::matrix::normal;
use crate::{AnalysisError, check};

/// Rows in one product with the unembedding.
const ROWS_AT_ONCE: usize = 256;
/// Tokens whose divergences are one task.
const TOKENS_AT_ONCE: usize = 16;
/// Relative error of a logit beyond which the unembedding is not what is assumed of it.
const CLOSE: f32 = 1e-2;

/// What the norm does before the unembedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Norm {
    /// Nothing.
    None,
    /// Divides by the root of the mean square.
    RootMeanSquare,
    /// Takes the mean off, then the same.
    Centred,
}

/// Logits as `matrix · norm(x) + base`, asked of the subject coordinate by coordinate.
pub(super) struct Readout {
    matrix: DMatrix<f32>, // [vocabulary, model]
    base: DVector<f32>,
    norm: Norm,
}

impl Readout {
    /// Learns what the subject reads out, and holds it against random vectors.
    ///
    /// # Errors
    /// If no norm that is known here explains the logits.
    pub(super) fn of(subject: &mut dyn Subject) -> Result<Readout, AnalysisError> {
        let width = subject.shape().d_model;
        let mut rng = moescope_base::Seed(0).rng();
        let probe: Vec<f32> = (0..2 * width).map(|_| normal(&mut rng) as f32).collect();
        let wanted = subject.unembed(&probe)?;
        let largest = wanted.iter().fold(f32::MIN_POSITIVE, |most, logit| most.max(logit.abs()));
        for norm in [Norm::RootMeanSquare, Norm::Centred, Norm::None] {
            let readout = Readout::with(subject, norm)?;
            let found = readout.logits(&DMatrix::from_column_slice(width, 2, &probe));
            let error = found.iter().zip(&wanted).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
            if error <= CLOSE * largest {
                return Ok(readout);
            }
        }
        let what = "unembedding of this model";
        let found = "not linear after a norm, capped logits perhaps";
        check::in_range(METHOD, what, found, false, "a norm and a matrix")?;
        unreachable!("the check refuses what does not hold")
    }

    /// For a norm that takes the mean off, what is learnt is the matrix behind that; on vectors whose mean is
    /// off already it acts as the matrix itself. The small number that norms add to the mean square is left
    /// out, and the comparison with random vectors covers it.
    fn with(subject: &mut dyn Subject, norm: Norm) -> Result<Readout, AnalysisError> {
        let (width, vocabulary) = (subject.shape().d_model, subject.shape().vocab);
        let base = DVector::from_vec(subject.unembed(&vec![0.0; width])?);
        let share = 1.0 / width as f32;
        // One coordinate so large that the denominator of the norm is 1.
        let size = match norm {
            Norm::None => 1.0,
            Norm::RootMeanSquare => share.sqrt().recip(),
            Norm::Centred => (share * (1.0 - share)).sqrt().recip(),
        };
        let mut matrix = DMatrix::zeros(vocabulary, width);
        for first in (0..width).step_by(ROWS_AT_ONCE) {
            let count = ROWS_AT_ONCE.min(width - first);
            let mut rows = vec![0.0; count * width];
            (0..count).for_each(|row| rows[row * width + first + row] = size);
            let logits = subject.unembed(&rows)?;
            for (row, logits) in logits.chunks_exact(vocabulary).enumerate() {
                let mut column = matrix.column_mut(first + row);
                let pairs = logits.iter().zip(base.iter());
                column.iter_mut().zip(pairs).for_each(|(to, (logit, base))| *to = (logit - base) / size);
            }
        }
        Ok(Readout { matrix, base, norm })
    }

    /// Normalised columns of `x[model, token]`, with what each was divided by.
    fn normalised(&self, x: &DMatrix<f32>) -> (DMatrix<f32>, Vec<f32>) {
        let mut normalised = x.clone();
        let mut scales = Vec::with_capacity(x.ncols());
        for mut column in normalised.column_iter_mut() {
            if self.norm == Norm::Centred {
                let mean = column.mean();
                column.add_scalar_mut(-mean);
            }
            let scale = match self.norm {
                Norm::None => 1.0,
                _ => (column.norm_squared() / column.len() as f32).sqrt().max(1e-6),
            };
            column.unscale_mut(scale);
            scales.push(scale);
        }
        (normalised, scales)
    }

    /// Logits `[vocabulary, token]` of vectors `x[model, token]`.
    pub(super) fn logits(&self, x: &DMatrix<f32>) -> DMatrix<f32> {
        let mut logits = &self.matrix * self.normalised(x).0;
        logits.column_iter_mut().for_each(|mut column| column += &self.base);
        logits
    }

    /// Divergences of the predictions of `last` from those of `x`, both `[model, token]`, nats.
    ///
    /// The direction is that from the final prediction to the lens: a lens pays for every token that the
    /// model holds likely and it does not. The same is what tuned lenses are trained by (Belrose et al.
    /// 2023).
    pub(super) fn divergences(&self, last: &DMatrix<f32>, x: &DMatrix<f32>) -> Vec<f64> {
        let parts: Vec<Vec<f64>> = parts(x.ncols())
            .into_par_iter()
            .map(|part| {
                let (target, logits) = (self.logits_of(last, &part), self.logits_of(x, &part));
                between(&target, &logits).collect()
            })
            .collect();
        parts.concat()
    }

    /// Mean prediction of vectors `[model, token]`, as log-probabilities.
    ///
    /// Of all constant predictions the mean has the least mean divergence, so it is what a lens that has
    /// learnt nothing of a token can reach.
    pub(super) fn mean_prediction(&self, last: &DMatrix<f32>) -> Vec<f32> {
        let sums: Vec<DVector<f32>> = parts(last.ncols())
            .into_par_iter()
            .map(|part| probabilities(self.logits_of(last, &part)).column_sum())
            .collect();
        let total = sums.into_iter().fold(DVector::zeros(self.base.len()), |total, sum| total + sum);
        // An entry of zero would make an infinite divergence out of rounding.
        (total / last.ncols() as f32).iter().map(|p| p.max(1e-30).ln()).collect()
    }

    /// Divergences of the predictions of `last` from one distribution, given as log-probabilities.
    pub(super) fn divergences_from(&self, last: &DMatrix<f32>, constant: &[f32]) -> Vec<f64> {
        let parts: Vec<Vec<f64>> = parts(last.ncols())
            .into_par_iter()
            .map(|part| {
                let target = self.logits_of(last, &part);
                target.column_iter().map(|column| divergence(column.as_slice(), constant)).collect()
            })
            .collect();
        parts.concat()
    }

    /// Mean divergence of the predictions of `last` from those of `x`, and its gradient by `x`, all `[model, token]`.
    pub(super) fn loss(&self, last: &DMatrix<f32>, x: &DMatrix<f32>) -> (f64, DMatrix<f32>) {
        let count = x.ncols() as f32;
        let parts: Vec<(f64, DMatrix<f32>)> = parts(x.ncols())
            .into_par_iter()
            .map(|part| {
                let (target, lens) = (self.logits_of(last, &part), self.logits_of(x, &part));
                let loss = between(&target, &lens).sum::<f64>();
                let mut gradient = probabilities(lens);
                gradient.zip_apply(&probabilities(target), |lens, target| *lens = (*lens - target) / count);
                let pulled = self.matrix.tr_mul(&gradient);
                (loss, self.through_norm(&x.columns(part.start, part.len()).into_owned(), pulled))
            })
            .collect();
        let loss = parts.iter().map(|(loss, _)| loss).sum::<f64>() / f64::from(count);
        let columns: Vec<f32> = parts.iter().flat_map(|(_, gradient)| gradient.iter().copied()).collect();
        (loss, DMatrix::from_vec(x.nrows(), x.ncols(), columns))
    }

    /// Gradient by the vectors from that by the normalised ones.
    fn through_norm(&self, x: &DMatrix<f32>, mut gradient: DMatrix<f32>) -> DMatrix<f32> {
        if self.norm == Norm::None {
            return gradient;
        }
        let (normalised, scales) = self.normalised(x);
        for (token, mut column) in gradient.column_iter_mut().enumerate() {
            let along = column.dot(&normalised.column(token)) / column.len() as f32;
            column.axpy(-along, &normalised.column(token), 1.0);
            column.unscale_mut(scales[token]);
            if self.norm == Norm::Centred {
                let mean = column.mean();
                column.add_scalar_mut(-mean);
            }
        }
        gradient
    }

    /// Logits of some tokens, `[vocabulary, token]`.
    fn logits_of(&self, x: &DMatrix<f32>, part: &std::ops::Range<usize>) -> DMatrix<f32> {
        self.logits(&x.columns(part.start, part.len()).into_owned())
    }
}

/// Divergence of the prediction of each column from that of the same column of others, nats.
fn between(target: &DMatrix<f32>, lens: &DMatrix<f32>) -> impl Iterator<Item = f64> {
    let pairs = target.column_iter().zip(lens.column_iter());
    pairs.map(|(target, lens)| divergence(target.as_slice(), lens.as_slice()))
}

/// Predictions from logits, both `[vocabulary, token]`.
fn probabilities(mut logits: DMatrix<f32>) -> DMatrix<f32> {
    logits.column_iter_mut().for_each(|mut column| to_probabilities(column.as_mut_slice()));
    logits
}

/// Tokens in tasks of equal size, whatever the number of threads.
fn parts(tokens: usize) -> Vec<std::ops::Range<usize>> {
    (0..tokens).step_by(TOKENS_AT_ONCE).map(|first| first..(first + TOKENS_AT_ONCE).min(tokens)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readout(norm: Norm) -> Readout {
        let matrix = DMatrix::from_fn(7, 5, |row, column| ((3 * row + 5 * column) as f32).sin());
        Readout { matrix, base: DVector::from_fn(7, |row, _| row as f32 * 0.1), norm }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for norm in [Norm::None, Norm::RootMeanSquare, Norm::Centred] {
            let readout = readout(norm);
            let column =
                |shift: f32| DMatrix::from_fn(5, 3, |row, token| ((row * 2 + token) as f32 + shift).cos());
            let (last, x) = (column(0.5), column(0.0));
            let (_, gradient) = readout.loss(&last, &x);
            for at in 0..x.len() {
                let moved = |by: f32| {
                    let mut moved = x.clone();
                    moved[at] += by;
                    readout.divergences(&last, &moved).iter().sum::<f64>() / 3.0
                };
                let wanted = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!(
                    (f64::from(gradient[at]) - wanted).abs() < 2e-3,
                    "{norm:?} {at}: {} {wanted}",
                    gradient[at]
                );
            }
        }
    }

    #[test]
    fn a_divergence_by_hand_and_a_prediction_from_itself() {
        let half = 0.5_f32.ln();
        let wanted = 0.5 * (2f64).ln() + 0.5 * (2.0_f64 / 3.0).ln();
        assert!((divergence(&[half, half], &[0.25_f32.ln(), 0.75_f32.ln()]) - wanted).abs() < 1e-6);
        let x = DMatrix::from_fn(5, 20, |row, token| ((row + 3 * token) as f32).sin());
        let readout = readout(Norm::RootMeanSquare);
        assert!(readout.divergences(&x, &x).iter().all(|kl| *kl < 1e-6));
        let alike = x.columns(0, 1).into_owned();
        let constant = readout.mean_prediction(&alike);
        assert!(readout.divergences_from(&alike, &constant)[0] < 1e-6);
    }
}
