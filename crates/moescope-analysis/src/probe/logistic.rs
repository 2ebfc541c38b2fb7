use std::cell::Cell;

use moescope_engine::{Doubles, double_product};
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::minimise::minimise;
use crate::matrix::{Features, product};

/// Number of classes, and the ridge penalty on the weights relative to the mean loss.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Penalty {
    pub(crate) classes: usize,
    pub(crate) ridge: f64,
}

/// Multinomial logistic regression on standardised features.
#[derive(Clone, Debug)]
pub(crate) struct Classifier {
    scale: Standardisation,
    weights: DMatrix<f64>, // [class, coordinate + bias]
    evaluations: usize,
}

impl Classifier {
    /// Fits on some tokens by full-batch L-BFGS from zero weights; `tokens` is not empty.
    ///
    /// The objective is strictly convex in the weights, so that its minimum does not depend on the path to it.
    pub(crate) fn fit(features: &Features, labels: &[u32], tokens: &[usize], penalty: Penalty) -> Classifier {
        let scale = Standardisation::of(features, tokens);
        let inputs = scale.apply(features, tokens);
        let chosen: Vec<usize> = tokens.iter().map(|t| labels[*t] as usize).collect();
        let rows = inputs.nrows();
        let objective = Objective { inputs, labels: &chosen, penalty };
        let start = DVector::zeros(penalty.classes * rows);
        let evaluations = Cell::new(0);
        let evaluate = |weights: &DVector<f64>| {
            evaluations.set(evaluations.get() + 1);
            objective.evaluate(weights)
        };
        let found = minimise(evaluate, start);
        let weights = DMatrix::from_column_slice(penalty.classes, rows, found.as_slice());
        Classifier { scale, weights, evaluations: evaluations.get() }
    }

    /// How often the objective was evaluated to fit it.
    pub(crate) fn evaluations(&self) -> usize {
        self.evaluations
    }

    /// Log-probabilities of all classes, for each of some tokens.
    pub(crate) fn log_probabilities(&self, features: &Features, tokens: &[usize]) -> Vec<Vec<f64>> {
        let logits = product(&self.weights, &self.scale.apply(features, tokens)); // [class, token]
        let normalise = |column: Vec<f64>| {
            let most = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total = most + column.iter().map(|l| (l - most).exp()).sum::<f64>().ln();
            column.iter().map(|l| l - total).collect()
        };
        logits.column_iter().map(|column| normalise(column.iter().copied().collect())).collect()
    }
}

/// Frequency of each class among some tokens, one token added to each so that no frequency is 0.
pub(crate) fn class_frequencies(labels: &[u32], tokens: &[usize], classes: usize) -> Vec<f64> {
    let mut counts = vec![1.0; classes];
    tokens.iter().for_each(|t| counts[labels[*t] as usize] += 1.0);
    counts.iter().map(|c| c / (tokens.len() + classes) as f64).collect()
}

/// Index of the largest entry, the first of equals; `values` is not empty.
pub(crate) fn largest(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Mean and spread of each coordinate over the training tokens.
#[derive(Clone, Debug)]
struct Standardisation {
    mean: DVector<f64>,
    spread: DVector<f64>,
}

impl Standardisation {
    fn of(features: &Features, tokens: &[usize]) -> Standardisation {
        let picked = features.select(tokens);
        let mean = picked.transposed().column_mean();
        let variance = picked.transposed().column_variance();
        // A coordinate without variation carries nothing; dividing by 1 leaves it at 0.
        let spread = variance.map(|v| if v > 1e-24 { v.sqrt() } else { 1.0 });
        Standardisation { mean, spread }
    }

    /// Standardised vectors of some tokens with a last coordinate of 1: `[coordinate + bias, token]`.
    fn apply(&self, features: &Features, tokens: &[usize]) -> DMatrix<f64> {
        let width = features.width();
        let mut inputs = DMatrix::from_element(width + 1, tokens.len(), 1.0);
        for (column, token) in tokens.iter().enumerate() {
            for (coordinate, value) in features.row(*token).iter().enumerate() {
                inputs[(coordinate, column)] = (value - self.mean[coordinate]) / self.spread[coordinate];
            }
        }
        inputs
    }
}

/// Mean negative log-likelihood plus ridge.
struct Objective<'a> {
    inputs: DMatrix<f64>, // [coordinate + bias, token]
    labels: &'a [usize],
    penalty: Penalty,
}

impl Objective<'_> {
    /// Value and gradient; the weights are `[class, coordinate + bias]`, columns together.
    ///
    /// Tokens are gone through in blocks that stay in a core's cache between the two products that read them: with few classes an evaluation
    /// has little to compute for each number that it reads.
    fn evaluate(&self, flat: &DVector<f64>) -> (f64, DVector<f64>) {
        let (rows, classes) = (self.inputs.nrows(), self.penalty.classes);
        let weights = DMatrix::from_column_slice(classes, rows, flat.as_slice());
        let weight = 1.0 / self.labels.len() as f64;
        let tokens = (CACHED / rows).max(classes * classes).max(1);
        let of_block = |(inputs, labels): (&[f64], &[usize])| {
            let inputs = Doubles::by_column(inputs, rows, labels.len()); // [coordinate + bias, token]
            let mut errors = double_product(Doubles::by_column(flat.as_slice(), classes, rows), inputs); // [token][class]
            let value = softmax_errors(&mut errors, labels, classes, weight);
            let errors = Doubles::by_column(&errors, classes, labels.len());
            (value, double_product(inputs, errors.turned()))
        };
        let blocks: Vec<(&[f64], &[usize])> =
            self.inputs.as_slice().chunks(rows * tokens).zip(self.labels.chunks(tokens)).collect();
        let found: Vec<(f64, Vec<f64>)> = blocks.into_par_iter().map(of_block).collect();
        let mut value = 0.0;
        let mut gradient = DMatrix::zeros(rows, classes);
        for (own, part) in &found {
            value += own;
            gradient.as_mut_slice().iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        let mut gradient = gradient.transpose();
        for column in 0..rows - 1 {
            value += 0.5 * self.penalty.ridge * weights.column(column).norm_squared();
            gradient.column_mut(column).axpy(self.penalty.ridge, &weights.column(column), 1.0);
        }
        (value, DVector::from_column_slice(gradient.as_slice()))
    }
}

/// Numbers of a block of inputs, a fifth of a core's second cache on machines of today. With many classes a block is longer: its products then have enough to
/// compute, and fewer gradients of blocks are added.
const CACHED: usize = 25_000;

/// Turns logits `[token][class]` into the gradient by them, and gives the loss; each token counts with this weight.
fn softmax_errors(logits: &mut [f64], labels: &[usize], classes: usize, weight: f64) -> f64 {
    let mut value = 0.0;
    for (of_token, label) in logits.chunks_exact_mut(classes).zip(labels) {
        let most = of_token.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        value += most - of_token[*label];
        of_token.iter_mut().for_each(|logit| *logit = (*logit - most).exp());
        let total: f64 = of_token.iter().sum();
        value += total.ln();
        of_token.iter_mut().for_each(|share| *share *= weight / total);
        of_token[*label] -= weight;
    }
    weight * value
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Seed;

    use crate::matrix::normal;

    fn noise(tokens: usize, width: usize) -> Features {
        let mut rng = Seed(4).rng();
        Features::new(width, &(0..tokens * width).map(|_| normal(&mut rng)).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_value() {
        let features = noise(12, 3);
        let labels: Vec<usize> = (0..12).map(|t| t % 4).collect();
        let inputs =
            Standardisation::of(&features, &[0, 1, 2, 5]).apply(&features, &(0..12).collect::<Vec<_>>());
        let penalty = Penalty { classes: 4, ridge: 0.3 };
        let objective = Objective { inputs, labels: &labels, penalty };
        let at = DVector::from_fn(16, |i, _| 0.1 * (i as f64).sin());
        let gradient = objective.evaluate(&at).1;
        for i in 0..16 {
            let mut moved = at.clone();
            moved[i] += 1e-5;
            let above = objective.evaluate(&moved).0;
            moved[i] -= 2e-5;
            let slope = (above - objective.evaluate(&moved).0) / 2e-5;
            assert!((slope - gradient[i]).abs() < 1e-8, "{i}: {slope} and {}", gradient[i]);
        }
    }

    #[test]
    fn separable_classes_are_learned_and_the_unit_of_a_feature_does_not_matter() {
        let tokens: Vec<usize> = (0..60).collect();
        let labels: Vec<u32> = (0..60).map(|t| t % 3).collect();
        let build = |unit: f64| {
            let values: Vec<f64> =
                labels.iter().flat_map(|l| [unit * f64::from(*l), f64::from(l % 2) + 7.0]).collect();
            Features::new(2, &values).unwrap()
        };
        let read = |unit: f64| {
            let features = build(unit);
            let penalty = Penalty { classes: 3, ridge: 1e-3 };
            Classifier::fit(&features, &labels, &tokens, penalty).log_probabilities(&features, &tokens)
        };
        let (plain, large) = (read(1.0), read(1000.0));
        for ((a, b), label) in plain.iter().zip(&large).zip(&labels) {
            assert_eq!(largest(a), *label as usize);
            assert!(a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-3));
            assert!((a.iter().map(|x| x.exp()).sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_constant_feature_leaves_the_class_frequencies() {
        let features = Features::new(1, &[3.0; 8]).unwrap();
        let labels = [0, 0, 0, 1, 0, 0, 0, 1];
        let penalty = Penalty { classes: 2, ridge: 1e-3 };
        let tokens: Vec<usize> = (0..8).collect();
        let read = Classifier::fit(&features, &labels, &tokens, penalty).log_probabilities(&features, &[0]);
        assert!((read[0][0].exp() - 0.75).abs() < 1e-3, "{}", read[0][0].exp());
    }
}
