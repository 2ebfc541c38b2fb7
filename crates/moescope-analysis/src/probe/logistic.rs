use std::cell::Cell;

use moescope_engine::{Doubles, Lined, double_product, few_products, few_sums};
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::minimise::minimise;
use crate::matrix::Features;

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
    weights: DMatrix<f64>, // [class, coordinate + bias + filling]
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
        let rows = inputs.rows;
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
        let inputs = self.scale.apply(features, tokens);
        let weights = Doubles::by_column(self.weights.as_slice(), self.weights.nrows(), inputs.rows);
        let logits = double_product(weights, Doubles::by_column(&inputs.numbers, inputs.rows, tokens.len()));
        let normalise = |column: &[f64]| {
            let most = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total = most + column.iter().map(|l| (l - most).exp()).sum::<f64>().ln();
            column.iter().map(|l| l - total).collect()
        };
        logits.chunks_exact(self.weights.nrows()).map(normalise).collect()
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
    mean: Vec<f64>,
    spread: Vec<f64>,
}

impl Standardisation {
    fn of(features: &Features, tokens: &[usize]) -> Standardisation {
        let count = tokens.len() as f64;
        let (mut mean, mut variance) = (vec![0.0; features.width()], vec![0.0; features.width()]);
        for token in tokens {
            mean.iter_mut().zip(features.row(*token)).for_each(|(mean, x)| *mean += x / count);
        }
        for token in tokens {
            let both = variance.iter_mut().zip(&mean).zip(features.row(*token));
            both.for_each(|((variance, mean), x)| *variance += (x - mean) * (x - mean) / count);
        }
        // A coordinate without variation carries nothing; dividing by 1 leaves it at 0.
        let spread = variance.into_iter().map(|v| if v > 1e-24 { v.sqrt() } else { 1.0 }).collect();
        Standardisation { mean, spread }
    }

    /// Standardised vectors of some tokens.
    fn apply(&self, features: &Features, tokens: &[usize]) -> Inputs {
        let width = features.width();
        let rows = Lined::width(width + 1);
        let mut numbers = Lined::zeros(rows * tokens.len());
        for (column, token) in numbers.chunks_exact_mut(rows).zip(tokens) {
            let scales = self.mean.iter().zip(&self.spread);
            for ((input, value), (mean, spread)) in column.iter_mut().zip(features.row(*token)).zip(scales) {
                *input = (value - mean) / spread;
            }
            column[width] = 1.0;
        }
        Inputs { numbers, rows, width }
    }
}

/// Standardised vectors with a coordinate of 1 after the others, for the bias, filled up with zeros.
struct Inputs {
    numbers: Lined, // [token][coordinate + bias + filling]
    rows: usize,
    /// Coordinates.
    width: usize,
}

/// Mean negative log-likelihood plus ridge.
struct Objective<'a> {
    inputs: Inputs,
    labels: &'a [usize],
    penalty: Penalty,
}

impl Objective<'_> {
    /// Value and gradient; the weights are `[class, coordinate + bias + filling]`, columns together. Those of the filling stay at zero.
    ///
    /// Tokens are gone through in blocks that stay in a core's cache between the two products that read them: with few classes an evaluation
    /// has little to compute for each number that it reads.
    fn evaluate(&self, flat: &DVector<f64>) -> (f64, DVector<f64>) {
        let (rows, classes) = (self.inputs.rows, self.penalty.classes);
        let weights = DMatrix::from_column_slice(classes, rows, flat.as_slice());
        let weight = 1.0 / self.labels.len() as f64;
        let tokens = (CACHED / rows).max(classes * classes).max(1);
        let by_class = weights.transpose(); // [coordinate + bias + filling, class]
        let of_block = |(inputs, labels): (&[f64], &[usize])| {
            if classes <= FEW {
                let mut errors = few_products(inputs, by_class.as_slice(), rows); // [token][class]
                let value = softmax_errors(&mut errors, labels, classes, weight);
                return (value, few_sums(inputs, &errors, rows));
            }
            let inputs = Doubles::by_column(inputs, rows, labels.len()); // [coordinate + bias + filling, token]
            let mut errors = double_product(Doubles::by_column(flat.as_slice(), classes, rows), inputs); // [token][class]
            let value = softmax_errors(&mut errors, labels, classes, weight);
            let errors = Doubles::by_column(&errors, classes, labels.len());
            (value, double_product(inputs, errors.turned()))
        };
        let blocks: Vec<(&[f64], &[usize])> =
            self.inputs.numbers.chunks(rows * tokens).zip(self.labels.chunks(tokens)).collect();
        let found: Vec<(f64, Vec<f64>)> = blocks.into_par_iter().map(of_block).collect();
        let mut value = 0.0;
        let mut gradient = DMatrix::zeros(rows, classes);
        for (own, part) in &found {
            value += own;
            gradient.as_mut_slice().iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        let mut gradient = gradient.transpose();
        for column in 0..self.inputs.width {
            value += 0.5 * self.penalty.ridge * weights.column(column).norm_squared();
            gradient.column_mut(column).axpy(self.penalty.ridge, &weights.column(column), 1.0);
        }
        (value, DVector::from_column_slice(gradient.as_slice()))
    }
}

/// Classes up to which products are worked out without copying tokens into another order first.
const FEW: usize = 24;

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
        // Three coordinates and the bias of each of four classes; the filling weighs nothing.
        let at = DVector::from_fn(32, |i, _| if i < 16 { 0.1 * (i as f64).sin() } else { 0.0 });
        let gradient = objective.evaluate(&at).1;
        assert!(gradient.iter().skip(16).all(|slope| *slope == 0.0));
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
