//! Kinds that keep a given number of features: one dense product with the encoder, and from there on only what was kept.
//!
//! Of the six products of a pass over the tape one is left. The others have as many terms as features were kept, some thousandths of all in
//! a dictionary of useful size.
//!
//! **Source:** Gao et al. 2024, "Scaling and evaluating sparse autoencoders", appendix on kernels.

use moescope_engine::{Activation, Cpu, Device, LinearShape, Mode, SparseRows, Tape, Tensor};

use super::{Outcome, Pass, Slopes, Weights};
use crate::DictionaryError;
use crate::training::directions::product;
use crate::training::settings::Kind;

/// Weight of the auxiliary loss.
///
/// **Source:** Gao et al. 2024, section 2.4.
pub(super) const AUXILIARY: f32 = 1.0 / 32.0;

pub(super) fn run(weights: &Weights<'_>, pass: &Pass<'_>) -> Result<Outcome, DictionaryError> {
    let wanted = pass.y.unwrap_or(pass.x);
    let read = read(weights, pass);
    let before = before(weights, &read);
    let active = kept(&before, pass)?;
    let mut rest = active.products(weights.decoder);
    for (rest, wanted) in rows_of(&mut rest).zip(wanted.data().chunks_exact(wanted.columns())) {
        rest.iter_mut()
            .zip(wanted)
            .zip(weights.bias.data())
            .for_each(|((rest, y), bias)| *rest = y - *rest - bias);
    }
    let squares = squares(&rest);
    // What is not a number is never kept, and would pass unseen where the target is finite.
    let unexplained = if finite(&before) { squares / rest.len() as f64 } else { f64::NAN };
    let mut slopes = Slopes {
        encoder: Tensor::zeros(weights.encoder.shape()),
        encoder_bias: Tensor::zeros(weights.encoder_bias.shape()),
        decoder: Tensor::zeros(weights.decoder.shape()),
        bias: Tensor::zeros(weights.bias.shape()),
        thresholds: None,
    };
    let of_written = scaled(&rest, -2.0 / rest.len() as f32);
    slopes.through(&active, &of_written, &read, weights);
    for row in of_written.data().chunks_exact(of_written.columns()) {
        slopes.bias.data_mut().iter_mut().zip(row).for_each(|(slope, of_row)| *slope += of_row);
    }
    auxiliary((&before, &rest, squares), &mut slopes, &read, weights, pass);
    if pass.y.is_none() {
        through_centre(&mut slopes, weights);
    }
    Ok(Outcome { active, rest, unexplained, slopes })
}

/// What the encoder reads: an autoencoder has the bias of the decoder taken away.
fn read(weights: &Weights<'_>, pass: &Pass<'_>) -> Tensor {
    let mut read = pass.x.clone();
    if pass.y.is_none() {
        for row in rows_of(&mut read) {
            row.iter_mut().zip(weights.bias.data()).for_each(|(x, bias)| *x -= bias);
        }
    }
    read
}

/// Features before any choice, `[row, feature]`.
fn before(weights: &Weights<'_>, read: &Tensor) -> Tensor {
    let (inputs, outputs) = (weights.encoder.columns(), weights.encoder.rows());
    let shape = LinearShape { rows: read.rows(), inputs, outputs };
    let mut before = Tensor::zeros([shape.rows, outputs]);
    Cpu.linear(read.data(), weights.encoder.data(), shape, before.data_mut());
    for row in rows_of(&mut before) {
        row.iter_mut().zip(weights.encoder_bias.data()).for_each(|(feature, bias)| *feature += bias);
    }
    before
}

/// Features that stay.
fn kept(before: &Tensor, pass: &Pass<'_>) -> Result<SparseRows, DictionaryError> {
    if pass.kind == Kind::TopK {
        return Ok(SparseRows::strongest(before, pass.kept));
    }
    let mut tape = Tape::new(Mode::Inference);
    let before = tape.frozen(before);
    let positive = tape.activate(before, Activation::Relu)?;
    let features = tape.top_of_batch(positive, pass.kept * pass.x.rows())?;
    Ok(SparseRows::positive(tape.value(features)))
}

/// How well dead features would explain what is left over: `Σ (written - rest)² / Σ rest²`, weighted.
fn auxiliary(
    (before, rest, squares): (&Tensor, &Tensor, f64),
    slopes: &mut Slopes,
    read: &Tensor,
    weights: &Weights<'_>,
    pass: &Pass<'_>,
) {
    if pass.dead.is_empty() || squares == 0.0 {
        return;
    }
    let revived = SparseRows::strongest_among(before, &pass.dead, pass.revived);
    let mut of_written = revived.products(weights.decoder);
    let factor = 2.0 * AUXILIARY / squares as f32;
    let numbers = of_written.data_mut().iter_mut().zip(rest.data());
    numbers.for_each(|(written, rest)| *written = factor * (*written - rest));
    slopes.through(&revived, &of_written, read, weights);
}

impl Slopes {
    /// Adds what the slopes of written rows say of the features that wrote them.
    fn through(&mut self, features: &SparseRows, of_written: &Tensor, read: &Tensor, weights: &Weights<'_>) {
        let of_features = features.along(weights.decoder, of_written);
        let by_column = features.by_column();
        by_column.add_products(features.values(), of_written, &mut self.decoder);
        by_column.add_products(&of_features, read, &mut self.encoder);
        by_column.add_sums(&of_features, self.encoder_bias.data_mut());
    }
}

/// An autoencoder reads its input less the bias: what the features say of it goes there as well, in the other direction.
fn through_centre(slopes: &mut Slopes, weights: &Weights<'_>) {
    let rows = weights.encoder.data().chunks_exact(weights.encoder.columns());
    for (of_feature, row) in slopes.encoder_bias.data().iter().zip(rows) {
        slopes.bias.data_mut().iter_mut().zip(row).for_each(|(slope, weight)| *slope -= of_feature * weight);
    }
}

fn rows_of(x: &mut Tensor) -> impl Iterator<Item = &mut [f32]> {
    let columns = x.columns();
    x.data_mut().chunks_exact_mut(columns)
}

fn scaled(x: &Tensor, factor: f32) -> Tensor {
    let mut out = x.clone();
    out.data_mut().iter_mut().for_each(|x| *x *= factor);
    out
}

/// Whether all entries are finite.
fn finite(x: &Tensor) -> bool {
    x.data().chunks(1024).all(|some| some.iter().fold(true, |all, x| all & x.is_finite()))
}

/// Sum of all squares.
fn squares(x: &Tensor) -> f64 {
    x.data().chunks_exact(x.columns()).map(|row| f64::from(product(row, row))).sum()
}

#[cfg(test)]
mod tests {
    use super::super::dense::{BIAS, DECODER, ENCODER, ENCODER_BIAS, slopes};
    use super::*;
    use crate::dictionary::transposed;
    use crate::testing::numbers;
    use moescope_engine::Var;
    use proptest::prelude::*;

    /// The same by the definition, over the tape, with all features in every product.
    fn reference(weights: &Weights<'_>, pass: &Pass<'_>) -> (f64, Slopes) {
        let written_by = transposed(weights.decoder);
        let mut tape = Tape::new(Mode::Gradient);
        let encoder = tape.parameter(ENCODER, weights.encoder);
        let encoder_bias = tape.parameter(ENCODER_BIAS, weights.encoder_bias);
        let (decoder, bias) = (tape.parameter(DECODER, &written_by), tape.parameter(BIAS, weights.bias));
        let x = tape.frozen(pass.x);
        let (read, wanted) = match pass.y {
            Some(y) => (x, tape.frozen(y)),
            None => {
                let minus = tape.scale(bias, -1.0).unwrap();
                (tape.add_bias(x, minus).unwrap(), x)
            }
        };
        let product = tape.linear(read, encoder).unwrap();
        let before = tape.add_bias(product, encoder_bias).unwrap();
        let live = tape.constant(live(weights.encoder.rows(), &pass.dead));
        let dead = tape.add_bias(before, live).unwrap();
        let positive = tape.activate(before, Activation::Relu).unwrap();
        let features = match pass.kind {
            Kind::TopK => tape.top_k_activation(positive, pass.kept),
            _ => tape.top_of_batch(positive, pass.kept * pass.x.rows()),
        };
        let product = tape.linear(features.unwrap(), decoder).unwrap();
        let written = tape.add_bias(product, bias).unwrap();
        let error = tape.squared_error(written, wanted).unwrap();
        let width = tape.value(wanted).columns() as f32;
        let unexplained = f64::from(tape.value(error).data()[0] / width);
        let mut loss = tape.scale(error, width.recip()).unwrap();
        if let Some(term) = reference_auxiliary(&mut tape, [dead, decoder, written, wanted], pass) {
            loss = tape.add(loss, term).unwrap();
        }
        (unexplained, slopes(tape.backward(loss).unwrap(), weights))
    }

    /// What keeps every live feature from being positive.
    fn live(features: usize, dead: &[u32]) -> Tensor {
        let mut live = Tensor::full([features], -1e6);
        dead.iter().for_each(|feature| live.data_mut()[*feature as usize] = 0.0);
        live
    }

    fn reference_auxiliary(
        tape: &mut Tape<'_>,
        [dead, decoder, written, wanted]: [Var; 4],
        pass: &Pass<'_>,
    ) -> Option<Var> {
        let mut rest = tape.value(wanted).clone();
        rest.data_mut().iter_mut().zip(tape.value(written).data()).for_each(|(rest, y)| *rest -= y);
        let left = squares(&rest) / rest.rows() as f64;
        if pass.dead.is_empty() || left == 0.0 {
            return None;
        }
        let positive = tape.activate(dead, Activation::Relu).unwrap();
        let chosen = tape.top_k_activation(positive, pass.revived).unwrap();
        let written = tape.linear(chosen, decoder).unwrap();
        let rest = tape.constant(rest);
        let error = tape.squared_error(written, rest).unwrap();
        Some(tape.scale(error, AUXILIARY / left as f32).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn a_pass_over_what_was_kept_is_one_over_the_tape(
            rows in 1usize..40, features in 1usize..40, input in 1usize..12, output in 0usize..12,
            share in 0.0f64..1.0, every in 1usize..4, batch: bool, seed: u64,
        ) {
            let kept = 1 + (share * (features - 1) as f64) as usize;
            let y = (output > 0).then(|| numbers(&[rows, output], seed ^ 1));
            let target = y.as_ref().map_or(input, Tensor::columns);
            let weights = Weights {
                encoder: &numbers(&[features, input], seed ^ 2),
                encoder_bias: &numbers(&[features], seed ^ 3),
                decoder: &numbers(&[features, target], seed ^ 4),
                bias: &numbers(&[target], seed ^ 5),
                thresholds: &Tensor::zeros([features]),
            };
            let pass = Pass {
                kind: if batch { Kind::BatchTopK } else { Kind::TopK },
                kept, penalty: 1.0, bandwidth: 0.5,
                dead: (0..features as u32).skip(1).step_by(every).collect(),
                revived: kept.div_ceil(2), x: &numbers(&[rows, input], seed), y: y.as_ref(),
            };
            let (found, (unexplained, wanted)) = (run(&weights, &pass).unwrap(), reference(&weights, &pass));
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 + 1e-4 * a.abs().max(b.abs());
            prop_assert!(close(found.unexplained, unexplained), "{} {unexplained}", found.unexplained);
            let found = &found.slopes;
            for (name, found, wanted) in [
                ("encoder", &found.encoder, &wanted.encoder),
                ("encoder bias", &found.encoder_bias, &wanted.encoder_bias),
                ("decoder", &found.decoder, &wanted.decoder),
                ("bias", &found.bias, &wanted.bias),
            ] {
                prop_assert_eq!(found.shape(), wanted.shape());
                let largest = wanted.data().iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let off = found.data().iter().zip(wanted.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                prop_assert!(off <= 1e-6 + 1e-4 * largest, "{name}: {off} of {largest}");
            }
        }
    }

    #[test]
    fn an_input_that_is_not_a_number_is_seen_where_the_target_is_one() {
        let (encoder, decoder, y) = (numbers(&[6, 4], 1), numbers(&[6, 3], 2), numbers(&[8, 3], 3));
        let zeros = [6, 3].map(|count| Tensor::zeros([count]));
        let [encoder_bias, bias] = &zeros;
        let weights =
            Weights { encoder: &encoder, encoder_bias, decoder: &decoder, bias, thresholds: encoder_bias };
        for kind in [Kind::TopK, Kind::BatchTopK] {
            let unexplained = |x: &Tensor| {
                let (kept, revived, dead) = (2, 1, vec![]);
                let pass = Pass { kind, kept, penalty: 1.0, bandwidth: 0.5, dead, revived, x, y: Some(&y) };
                run(&weights, &pass).unwrap().unexplained
            };
            let mut x = numbers(&[8, 4], 4);
            assert!(unexplained(&x).is_finite(), "{kind:?}");
            x.data_mut()[13] = f32::NAN;
            assert!(unexplained(&x).is_nan(), "{kind:?}");
        }
    }

    /// Slopes of the encoder's rows, of six features of which one is kept for each row.
    fn of_encoder(dead: Vec<u32>, kind: Kind) -> Vec<f32> {
        let (encoder, x) = (numbers(&[6, 4], 1), numbers(&[8, 4], 2));
        let weights = Weights {
            encoder: &encoder,
            // The last feature is never chosen.
            encoder_bias: &Tensor::new([6], vec![5.0, 5.0, 5.0, 5.0, 5.0, 0.0]).unwrap(),
            decoder: &encoder,
            bias: &Tensor::zeros([4]),
            thresholds: &Tensor::zeros([6]),
        };
        let (kept, revived) = (1, 1);
        let pass = Pass { kind, kept, penalty: 1.0, bandwidth: 0.5, dead, revived, x: &x, y: None };
        run(&weights, &pass).unwrap().slopes.encoder.into_data()
    }

    #[test]
    fn only_what_is_left_over_teaches_a_dead_feature() {
        for kind in [Kind::TopK, Kind::BatchTopK] {
            assert!(of_encoder(vec![], kind)[5 * 4..].iter().all(|slope| *slope == 0.0), "{kind:?}");
            assert!(of_encoder(vec![5], kind)[5 * 4..].iter().any(|slope| *slope != 0.0), "{kind:?}");
        }
    }
}
