//! Kinds of which any number of features may be active: over the tape.

use moescope_engine::{Activation, Gradients, Mode, ParameterId, SparseRows, Tape, Tensor, Var};

use super::{Outcome, Pass, Slopes, Weights};
use crate::DictionaryError;
use crate::dictionary::transposed;
use crate::training::settings::Kind;

/// The names of the trained tensors on a tape.
pub(super) const ENCODER: ParameterId = ParameterId(0);
pub(super) const ENCODER_BIAS: ParameterId = ParameterId(1);
pub(super) const DECODER: ParameterId = ParameterId(2);
pub(super) const BIAS: ParameterId = ParameterId(3);
const THRESHOLDS: ParameterId = ParameterId(4);

pub(super) fn run(weights: &Weights<'_>, pass: &Pass<'_>) -> Result<Outcome, DictionaryError> {
    let mut tape = Tape::new(Mode::Gradient);
    let encoder = tape.parameter(ENCODER, weights.encoder);
    let encoder_bias = tape.parameter(ENCODER_BIAS, weights.encoder_bias);
    let written_by = transposed(weights.decoder); // [target, feature]
    let decoder = tape.parameter(DECODER, &written_by);
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
    let features = activate(&mut tape, before, weights.thresholds, pass)?;
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
    loss = tape.add(loss, penalty)?;
    let gradients = tape.backward(loss)?;
    let active = SparseRows::positive(tape.value(features));
    Ok(Outcome { active, rest, unexplained, slopes: slopes(gradients, weights) })
}

/// Gradients by name; of a tensor that none reached, zeros.
pub(super) fn slopes(mut gradients: Gradients, weights: &Weights<'_>) -> Slopes {
    let mut take = |id, shape: &[usize]| gradients.take_parameter(id).unwrap_or_else(|| Tensor::zeros(shape));
    let decoder = take(DECODER, &[weights.decoder.columns(), weights.decoder.rows()]);
    Slopes {
        encoder: take(ENCODER, weights.encoder.shape()),
        encoder_bias: take(ENCODER_BIAS, weights.encoder_bias.shape()),
        decoder: transposed(&decoder),
        bias: take(BIAS, weights.bias.shape()),
        thresholds: gradients.take_parameter(THRESHOLDS),
    }
}

fn activate<'w>(
    tape: &mut Tape<'w>,
    before: Var,
    thresholds: &'w Tensor,
    pass: &Pass<'_>,
) -> Result<Var, DictionaryError> {
    Ok(match pass.kind {
        Kind::JumpRelu => {
            let thresholds = tape.parameter(THRESHOLDS, thresholds);
            tape.jump_relu(before, thresholds, pass.bandwidth)?
        }
        _ => tape.activate(before, Activation::Relu)?,
    })
}

/// The penalty on features that are active.
fn sparsity<'w>(
    tape: &mut Tape<'w>,
    features: Var,
    before: Var,
    thresholds: &'w Tensor,
    pass: &Pass<'_>,
) -> Result<Var, DictionaryError> {
    match pass.kind {
        // (count / k - 1)², of which the slope at this count is all that the way back needs.
        Kind::JumpRelu => {
            let thresholds = tape.parameter(THRESHOLDS, thresholds);
            let count = tape.count_above(before, thresholds, pass.bandwidth)?;
            let k = pass.kept as f64;
            let slope = 2.0 * (f64::from(tape.value(count).data()[0]) / k - 1.0) / k;
            Ok(tape.scale(count, (pass.penalty * slope) as f32)?)
        }
        // The mean over rows of the sum of features, as a share of the length that a row usually has.
        _ => {
            let (rows, width) = (pass.x.rows(), pass.y.unwrap_or(pass.x).columns());
            let weight = pass.penalty / (rows as f64 * (width as f64).sqrt());
            let weights = Tensor::full(tape.value(features).shape(), weight as f32);
            Ok(tape.sum_product(features, weights)?)
        }
    }
}
