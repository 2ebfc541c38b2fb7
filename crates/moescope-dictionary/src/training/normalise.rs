//! Activations of any size and place brought to a common one, and dictionaries brought back.

use moescope_engine::Tensor;

use crate::{Dictionary, DictionaryError, Parts, Place, Rule};

/// `u = (x - mean) scale`: rows have the mean zero, and each number the variance 1 on average.
///
/// One number scales all columns, so that directions and their relative sizes stay what they are. Taken from the first rows of a
/// training, and folded into what is saved, so nobody who uses the dictionary need know of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Normalisation {
    /// `[column]`.
    pub(crate) mean: Vec<f32>,
    pub(crate) scale: f32,
}

impl Normalisation {
    /// The normalisation that fits these rows. `what` names them in an error.
    pub(crate) fn of(x: &Tensor, what: &'static str) -> Result<Normalisation, DictionaryError> {
        let (rows, columns) = (x.rows(), x.columns());
        let mut mean = vec![0.0f64; columns];
        for row in x.data().chunks_exact(columns.max(1)) {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        mean.iter_mut().for_each(|sum| *sum /= rows.max(1) as f64);
        let squares = x.data().iter().zip(mean.iter().cycle()).map(|(x, m)| (f64::from(*x) - m).powi(2));
        let variance = squares.sum::<f64>() / x.len().max(1) as f64;
        if !variance.is_finite() {
            return Err(DictionaryError::NotFinite { what, step: 1 });
        }
        // What is left of equal rows is rounding.
        let size = mean.iter().map(|m| m * m).sum::<f64>() / columns.max(1) as f64;
        if variance <= 1e-12 * size || variance == 0.0 {
            return Err(DictionaryError::Constant { what });
        }
        let mean = mean.into_iter().map(|m| m as f32).collect();
        Ok(Normalisation { mean, scale: variance.sqrt().recip() as f32 })
    }

    /// Rows brought to the common size and place.
    pub(crate) fn apply(&self, x: &Tensor) -> Tensor {
        let mut out = x.clone();
        for row in out.data_mut().chunks_exact_mut(self.mean.len().max(1)) {
            row.iter_mut().zip(&self.mean).for_each(|(x, mean)| *x = (*x - mean) * self.scale);
        }
        out
    }
}

/// A dictionary of normalised rows as one of rows as they are. What features write keeps its length; features and thresholds
/// take the unit of the target.
pub(crate) fn unfolded(
    parts: Parts,
    input: &Normalisation,
    target: &Normalisation,
    place: Place,
) -> Result<Dictionary, DictionaryError> {
    let Parts { rule, mut encoder, mut encoder_bias, decoder, mut bias, centred } = parts;
    let back = target.scale.recip();
    if !centred {
        let width = encoder.columns().max(1);
        for (row, offset) in encoder.data_mut().chunks_exact_mut(width).zip(encoder_bias.data_mut()) {
            row.iter_mut().for_each(|weight| *weight *= input.scale);
            let at_mean = row.iter().zip(&input.mean).map(|(w, m)| f64::from(*w) * f64::from(*m));
            *offset -= at_mean.sum::<f64>() as f32;
            row.iter_mut().for_each(|weight| *weight *= back);
        }
    }
    encoder_bias.data_mut().iter_mut().for_each(|offset| *offset *= back);
    bias.data_mut().iter_mut().zip(&target.mean).for_each(|(bias, mean)| *bias = mean + *bias * back);
    let rule = match rule {
        Rule::JumpRelu { mut thresholds } => {
            thresholds.data_mut().iter_mut().for_each(|threshold| *threshold *= back);
            Rule::JumpRelu { thresholds }
        }
        other => other,
    };
    Dictionary::new(Parts { rule, encoder, encoder_bias, decoder, bias, centred }, place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rows;
    use crate::testing::numbers;

    #[test]
    fn rows_get_the_mean_zero_and_the_variance_one() {
        let x = Tensor::new([2, 2], vec![1.0, 10.0, 3.0, 10.0]).unwrap();
        let found = Normalisation::of(&x, "input").unwrap();
        assert_eq!(found.mean, [2.0, 10.0]);
        assert!((found.scale - 2f32.sqrt()).abs() < 1e-6);
        let near = |(a, b): (&f32, f32)| (a - b).abs() < 1e-6;
        let wanted = [-2f32.sqrt(), 0.0, 2f32.sqrt(), 0.0];
        assert!(found.apply(&x).data().iter().zip(wanted).all(near));
    }

    #[test]
    fn equal_rows_and_numbers_that_are_none_are_refused() {
        let equal = Tensor::full([5, 3], 0.1);
        assert!(matches!(Normalisation::of(&equal, "input"), Err(DictionaryError::Constant { .. })));
        let broken = Tensor::new([2, 1], vec![1.0, f32::NAN]).unwrap();
        assert!(matches!(Normalisation::of(&broken, "input"), Err(DictionaryError::NotFinite { .. })));
    }

    /// The dictionary of normalised rows and the one brought back write the same, autoencoder and transcoder, with each rule.
    #[test]
    fn what_is_folded_in_changes_nothing_but_the_unit() {
        let thresholds = Tensor::full([5], 0.3);
        for rule in [Rule::Relu, Rule::TopK { k: 2 }, Rule::JumpRelu { thresholds }] {
            for (centred, width) in [(true, 3), (false, 2)] {
                let parts = Parts {
                    rule: rule.clone(),
                    encoder: numbers(&[5, 3], 1),
                    encoder_bias: numbers(&[5], 2),
                    decoder: numbers(&[width, 5], 3),
                    bias: numbers(&[width], 4),
                    centred,
                };
                let input = Normalisation { mean: vec![1.0, -2.0, 3.0], scale: 0.25 };
                let target = match centred {
                    true => input.clone(),
                    false => Normalisation { mean: vec![5.0, 6.0], scale: 4.0 },
                };
                let x = Rows { input: numbers(&[20, 3], 5), target: Some(numbers(&[20, width], 6)) };
                let inside = Dictionary::new(parts.clone(), Place::default()).unwrap();
                let normalised = Rows { input: input.apply(&x.input), target: x.target.clone() };
                let (features, written) = inside.reconstruct(&normalised).unwrap();
                let outside = unfolded(parts, &input, &target, Place::default()).unwrap();
                let (real_features, real_written) = outside.reconstruct(&x).unwrap();
                let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-3 * (1.0 + b.abs()), "{a} {b}");
                let pairs = features.data().iter().zip(real_features.data());
                pairs.for_each(|(a, b)| near(*b * target.scale, *a));
                let back = target.apply(&real_written);
                written.data().iter().zip(back.data()).for_each(|(a, b)| near(*b, *a));
            }
        }
    }
}
