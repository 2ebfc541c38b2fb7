//! One pass forward and back.
//!
//! Kinds that keep a given number of features visit those few alone on the way back ([`sparse`]); the others go over the tape ([`dense`]).

mod dense;
mod sparse;

use moescope_engine::{SparseRows, Tensor};

use super::settings::Kind;
use crate::DictionaryError;

/// The trained tensors; names as in [`Parts`](crate::Parts), but for the decoder.
pub(crate) struct Weights<'w> {
    pub(crate) encoder: &'w Tensor,
    pub(crate) encoder_bias: &'w Tensor,
    /// What each feature writes: `[feature, target]`.
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
    /// Features that were silent for too long, ascending.
    pub(crate) dead: Vec<u32>,
    /// Dead features that are used for the auxiliary loss in each row.
    pub(crate) revived: usize,
    /// Normalised input, `[row, input]`.
    pub(crate) x: &'p Tensor,
    /// Normalised target, `[row, target]`; `None` for an autoencoder.
    pub(crate) y: Option<&'p Tensor>,
}

/// What a pass found.
pub(crate) struct Outcome {
    /// Active features of each row.
    pub(crate) active: SparseRows,
    /// What was not explained, `[row, target]`.
    pub(crate) rest: Tensor,
    /// Squared error of a number on average; its variance is 1.
    pub(crate) unexplained: f64,
    pub(crate) slopes: Slopes,
}

/// Gradients of the loss, in the shapes of the [`Weights`].
pub(crate) struct Slopes {
    pub(crate) encoder: Tensor,
    pub(crate) encoder_bias: Tensor,
    pub(crate) decoder: Tensor,
    pub(crate) bias: Tensor,
    /// Only of kinds that have thresholds.
    pub(crate) thresholds: Option<Tensor>,
}

/// Runs it.
pub(crate) fn run(weights: &Weights<'_>, pass: &Pass<'_>) -> Result<Outcome, DictionaryError> {
    match pass.kind {
        Kind::Relu | Kind::JumpRelu => dense::run(weights, pass),
        Kind::TopK | Kind::BatchTopK => sparse::run(weights, pass),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn what_is_left_over_is_the_target_less_what_was_written() {
        let (encoder, x, y) = (numbers(&[6, 4], 1), numbers(&[8, 4], 2), numbers(&[8, 3], 3));
        let (decoder, thresholds) = (numbers(&[6, 3], 4), Tensor::full([6], 0.2));
        let (encoder_bias, bias) = (Tensor::zeros([6]), numbers(&[3], 5));
        for kind in Kind::ALL {
            let weights = Weights {
                encoder: &encoder,
                encoder_bias: &encoder_bias,
                decoder: &decoder,
                bias: &bias,
                thresholds: &thresholds,
            };
            let (kept, revived, dead) = (2, 1, vec![]);
            let pass = Pass { kind, kept, penalty: 0.5, bandwidth: 0.5, dead, revived, x: &x, y: Some(&y) };
            let found = run(&weights, &pass).unwrap();
            let written = found.active.products(&decoder);
            let mut squares = 0.0;
            for (place, (y, written)) in y.data().iter().zip(written.data()).enumerate() {
                let rest = y - written - bias.data()[place % 3];
                squares += f64::from(rest).powi(2);
                assert!((found.rest.data()[place] - rest).abs() < 1e-4, "{kind:?}");
            }
            assert!((found.unexplained - squares / 24.0).abs() < 1e-4, "{kind:?}");
            let most = found.active.columns().len();
            assert!(
                most > 0 && (most <= 16 || matches!(kind, Kind::Relu | Kind::JumpRelu)),
                "{kind:?}: {most}"
            );
        }
    }
}
