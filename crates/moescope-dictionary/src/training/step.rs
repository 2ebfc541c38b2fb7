//! One pass forward and back.

use moescope_engine::{Activation, Gradients, Mode, ParameterId, Tape, Tensor, Var};

use super::settings::Kind;
use crate::DictionaryError;

/// The names of the trained tensors on a tape.
pub(crate) const ENCODER: ParameterId = ParameterId(0);
pub(crate) const ENCODER_BIAS: ParameterId = ParameterId(1);
pub(crate) const DECODER: ParameterId = ParameterId(2);
pub(crate) const BIAS: ParameterId = ParameterId(3);
pub(crate) const THRESHOLDS: ParameterId = ParameterId(4);

/// Weight of the auxiliary loss.
///
/// **Source:** Gao et al. 2024, section 2.4.
const AUXILIARY: f32 = 1.0 / 32.0;

/// The trained tensors; names as in [`Parts`](crate::Parts).
pub(crate) struct Weights<'w> {
    pub(crate) encoder: &'w Tensor,
    pub(crate) encoder_bias: &'w Tensor,
    pub(crate) decoder: &'w Tensor,
    pub(crate) bias: &'w Tensor,
    pub(crate) thresholds: &'w Tensor,
}

/// What a pass is asked for.
pub(crate) struct Pass<'p> {
    pub(crate) kind: Kind,
    /// Features kept, or aimed at, for each row.
    pub(crate) kept: usize,
    /// Weight of the penalty.
    pub(crate) penalty: f64,
    /// Width of the window around a threshold.
    pub(crate) bandwidth: f32,
    /// One for dead features, zero for the others; `None` when none is dead.
    pub(crate) dead: Option<Tensor>,
    /// Dead features that are used for the auxiliary loss in each row.
    pub(crate) revived: usize,
    /// Normalised input, `[row, input]`.
    pub(crate) x: &'p Tensor,
    /// Normalised target, `[row, target]`; `None` for an autoencoder.
    pub(crate) y: Option<&'p Tensor>,
}

/// What a pass found.
pub(crate) struct Outcome {
    /// `[row, feature]`.
    pub(crate) features: Tensor,
    /// What was not explained, `[row, target]`.
    pub(crate) rest: Tensor,
    /// Squared error of a number on average; its variance is 1.
    pub(crate) unexplained: f64,
    pub(crate) gradients: Gradients,
}

/// Runs it.
pub(crate) fn run(weights: &Weights<'_>, pass: &Pass<'_>) -> Result<Outcome, DictionaryError> {
    let mut tape = Tape::new(Mode::Gradient);
    let encoder = tape.parameter(ENCODER, weights.encoder);
    let encoder_bias = tape.parameter(ENCODER_BIAS, weights.encoder_bias);
    let decoder = tape.parameter(DECODER, weights.decoder);
    let bias = tape.parameter(BIAS, weights.bias);
    let x = tape.frozen(pass.x);
    let (read, wanted) = match pass.y {
        Some(y) => (x, tape.frozen(y)),
        None => {
            let minus = tape.scale(bias, -1.0)?;
            (tape.add_bias(x, minus)?, x)
        }
    };
    let product = tape.linear(read, encoder)?;
    let before = tape.add_bias(product, encoder_bias)?;
    let (features, positive) = activate(&mut tape, before, weights.thresholds, pass)?;
    tape.watch(features);
    let product = tape.linear(features, decoder)?;
    let written = tape.add_bias(product, bias)?;
    let error = tape.squared_error(written, wanted)?;
    let width = tape.value(wanted).columns() as f32;
    let unexplained = f64::from(tape.value(error).data()[0] / width);
    let mut rest = tape.value(wanted).clone();
    rest.data_mut().iter_mut().zip(tape.value(written).data()).for_each(|(rest, written)| *rest -= written);
    let mut loss = tape.scale(error, width.recip())?;
    let penalty = sparsity(&mut tape, features, before, weights.thresholds, pass)?;
    let revival = auxiliary(&mut tape, positive, decoder, &rest, pass)?;
    for term in penalty.into_iter().chain(revival) {
        loss = tape.add(loss, term)?;
    }
    let gradients = tape.backward(loss)?;
    Ok(Outcome { features: tape.value(features).clone(), rest, unexplained, gradients })
}

/// Features, and what is positive before any choice.
fn activate<'w>(
    tape: &mut Tape<'w>,
    before: Var,
    thresholds: &'w Tensor,
    pass: &Pass<'_>,
) -> Result<(Var, Var), DictionaryError> {
    let positive = tape.activate(before, Activation::Relu)?;
    let features = match pass.kind {
        Kind::Relu => positive,
        Kind::TopK => tape.top_k_activation(positive, pass.kept)?,
        Kind::BatchTopK => tape.top_of_batch(positive, pass.kept * pass.x.rows())?,
        Kind::JumpRelu => {
            let thresholds = tape.parameter(THRESHOLDS, thresholds);
            tape.jump_relu(before, thresholds, pass.bandwidth)?
        }
    };
    Ok((features, positive))
}

/// The penalty of kinds that have one.
fn sparsity<'w>(
    tape: &mut Tape<'w>,
    features: Var,
    before: Var,
    thresholds: &'w Tensor,
    pass: &Pass<'_>,
) -> Result<Option<Var>, DictionaryError> {
    match pass.kind {
        // The mean over rows of the sum of features, as a share of the length that a row usually has.
        Kind::Relu => {
            let (rows, width) = (pass.x.rows(), pass.y.unwrap_or(pass.x).columns());
            let weight = pass.penalty / (rows as f64 * (width as f64).sqrt());
            let weights = Tensor::full(tape.value(features).shape(), weight as f32);
            Ok(Some(tape.sum_product(features, weights)?))
        }
        // (count / k - 1)², of which the slope at this count is all that the way back needs.
        Kind::JumpRelu => {
            let thresholds = tape.parameter(THRESHOLDS, thresholds);
            let count = tape.count_above(before, thresholds, pass.bandwidth)?;
            let k = pass.kept as f64;
            let slope = 2.0 * (f64::from(tape.value(count).data()[0]) / k - 1.0) / k;
            Ok(Some(tape.scale(count, (pass.penalty * slope) as f32)?))
        }
        Kind::TopK | Kind::BatchTopK => Ok(None),
    }
}

/// How well dead features would explain what is left over.
fn auxiliary(
    tape: &mut Tape<'_>,
    positive: Var,
    decoder: Var,
    rest: &Tensor,
    pass: &Pass<'_>,
) -> Result<Option<Var>, DictionaryError> {
    let Some(dead) = pass.dead.as_ref().filter(|_| pass.kind.has_auxiliary_loss()) else { return Ok(None) };
    let left: f64 = rest.data().iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / rest.rows() as f64;
    if left == 0.0 {
        return Ok(None);
    }
    let dead = tape.scale_columns(positive, dead.clone())?;
    let chosen = tape.top_k_activation(dead, pass.revived)?;
    let written = tape.linear(chosen, decoder)?;
    let rest = tape.constant(rest.clone());
    let error = tape.squared_error(written, rest)?;
    Ok(Some(tape.scale(error, AUXILIARY / left as f32)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dictionary::transposed;
    use crate::testing::numbers;

    /// Gradients for the encoder's rows, of six features of which one is kept for each row.
    fn encoder_gradient(dead: Option<Tensor>, kind: Kind) -> Vec<f32> {
        let (encoder, x) = (numbers(&[6, 4], 1), numbers(&[8, 4], 2));
        let (decoder, zeros) = (transposed(&encoder), Tensor::zeros([6]));
        let weights = Weights {
            encoder: &encoder,
            // The last feature is never chosen.
            encoder_bias: &Tensor::new([6], vec![5.0, 5.0, 5.0, 5.0, 5.0, 0.0]).unwrap(),
            decoder: &decoder,
            bias: &Tensor::zeros([4]),
            thresholds: &zeros,
        };
        let (kept, revived) = (1, 1);
        let pass = Pass { kind, kept, penalty: 1.0, bandwidth: 0.5, dead, revived, x: &x, y: None };
        let outcome = run(&weights, &pass).unwrap();
        outcome.gradients.parameter(ENCODER).unwrap().data().to_vec()
    }

    #[test]
    fn only_what_is_left_over_teaches_a_dead_feature() {
        for kind in [Kind::TopK, Kind::BatchTopK] {
            let silent = encoder_gradient(None, kind);
            assert!(silent[5 * 4..].iter().all(|slope| *slope == 0.0), "{kind:?}");
            let mask = Tensor::new([6], vec![0.0, 0.0, 0.0, 0.0, 0.0, 1.0]).unwrap();
            let taught = encoder_gradient(Some(mask), kind);
            assert!(taught[5 * 4..].iter().any(|slope| *slope != 0.0), "{kind:?}");
        }
    }

    #[test]
    fn what_is_left_over_is_the_target_less_what_was_written() {
        let (encoder, x, y) = (numbers(&[6, 4], 1), numbers(&[8, 4], 2), numbers(&[8, 3], 3));
        let (decoder, thresholds) = (numbers(&[3, 6], 4), Tensor::full([6], 0.2));
        let (encoder_bias, bias) = (Tensor::zeros([6]), Tensor::zeros([3]));
        for kind in Kind::ALL {
            let weights = Weights {
                encoder: &encoder,
                encoder_bias: &encoder_bias,
                decoder: &decoder,
                bias: &bias,
                thresholds: &thresholds,
            };
            let (kept, revived) = (2, 1);
            let pass =
                Pass { kind, kept, penalty: 0.5, bandwidth: 0.5, dead: None, revived, x: &x, y: Some(&y) };
            let found = run(&weights, &pass).unwrap();
            let mut squares = 0.0;
            for (row, features) in found.features.data().chunks(6).enumerate() {
                for (column, weights) in decoder.data().chunks(6).enumerate() {
                    let written: f32 = features.iter().zip(weights).map(|(a, b)| a * b).sum();
                    let rest = y.data()[row * 3 + column] - written;
                    squares += f64::from(rest).powi(2);
                    assert!((found.rest.data()[row * 3 + column] - rest).abs() < 1e-4, "{kind:?}");
                }
            }
            assert!((found.unexplained - squares / 24.0).abs() < 1e-4, "{kind:?}");
        }
    }
}
