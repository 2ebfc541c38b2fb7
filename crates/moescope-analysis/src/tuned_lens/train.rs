//! Training of a translator: Adam on small batches, stopped by documents set aside.

use moescope_base::Seed;
use nalgebra::DMatrix;
use rand::seq::SliceRandom;

use super::readout::Readout;
use super::translator::Translator;

/// Tokens in one batch.
const BATCH: usize = 64;
/// Steps between two looks at the documents set aside.
const LOOK: usize = 20;
const FIRST_DECAY: f32 = 0.9;
const SECOND_DECAY: f32 = 0.999;
const TINY: f32 = 1e-8;

/// Inputs of a translator, and the final residual vectors `[model, token]` whose predictions are wanted.
pub(super) struct Material<'a, Input> {
    pub(super) input: &'a Input,
    pub(super) last: &'a DMatrix<f32>,
}

/// How long and how fast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) steps: usize,
    /// Rate at the beginning; it falls in a line to nothing.
    pub(super) rate: f32,
}

/// The parameters that do best on the documents set aside: those of the start, if nothing is better.
///
/// - **Source:** Adam, Kingma and Ba 2015; Belrose et al. train by the same loss, with more tokens and without an early stop.
pub(super) fn train<T: Translator>(
    translator: &T,
    readout: &Readout,
    training: &Material<'_, T::Input>,
    aside: &Material<'_, T::Input>,
    pace: Pace,
    seed: Seed,
) -> Vec<f32> {
    let mut parameters = translator.start();
    let judge = |parameters: &[f32]| {
        let found = readout.divergences(aside.last, &translator.translate(parameters, aside.input));
        found.iter().sum::<f64>() / found.len() as f64
    };
    let (mut best, mut least) = (parameters.clone(), judge(&parameters));
    let (mut first, mut second) = (vec![0.0; parameters.len()], vec![0.0; parameters.len()]);
    let tokens = training.last.ncols();
    let mut order: Vec<usize> = Vec::new();
    for step in 0..pace.steps {
        if order.len() < BATCH.min(tokens) {
            order = (0..tokens).collect();
            order.shuffle(&mut seed.index(step as u64).rng());
        }
        let batch = order.split_off(order.len() - BATCH.min(tokens));
        let input = translator.select(training.input, &batch);
        let translated = translator.translate(&parameters, &input);
        let (_, pulled) = readout.loss(&training.last.select_columns(&batch), &translated);
        let gradient = translator.gradient(&parameters, &input, &pulled);
        let rate = pace.rate * (1.0 - step as f32 / pace.steps as f32);
        adam(&mut parameters, &gradient, [&mut first, &mut second], step, rate);
        if (step + 1) % LOOK == 0 || step + 1 == pace.steps {
            let now = judge(&parameters);
            if now < least {
                (best, least) = (parameters.clone(), now);
            }
        }
    }
    best
}

/// One step of Adam.
fn adam(parameters: &mut [f32], gradient: &[f32], moments: [&mut Vec<f32>; 2], step: usize, rate: f32) {
    let [first, second] = moments;
    let corrections = [FIRST_DECAY, SECOND_DECAY].map(|decay| 1.0 - decay.powi(step as i32 + 1));
    for (at, slope) in gradient.iter().enumerate() {
        first[at] = FIRST_DECAY * first[at] + (1.0 - FIRST_DECAY) * slope;
        second[at] = SECOND_DECAY * second[at] + (1.0 - SECOND_DECAY) * slope * slope;
        let size = (second[at] / corrections[1]).sqrt() + TINY;
        parameters[at] -= rate * first[at] / corrections[0] / size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_of_adam_is_the_rate_against_the_slope() {
        let mut parameters = vec![1.0, 1.0, 1.0];
        let (mut first, mut second) = (vec![0.0; 3], vec![0.0; 3]);
        adam(&mut parameters, &[2.0, -0.5, 0.0], [&mut first, &mut second], 0, 0.1);
        assert!((parameters[0] - 0.9).abs() < 1e-6 && (parameters[1] - 1.1).abs() < 1e-6);
        assert_eq!(parameters[2], 1.0);
    }
}
