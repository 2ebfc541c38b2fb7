//! A dictionary of random directions, as sparse as another.

use moescope_base::{Seed, mean_row};

use crate::dictionary::transposed;
use crate::draws::directions;
use crate::{Dictionary, DictionaryError, Parts, Rows, Rule};
use moescope_engine::Tensor;

/// An autoencoder of the same sizes, with the mean of the given rows for its bias, whose directions are random, which reads what it writes and keeps the `active` largest of
/// each row: what any directions explain, learned or not. The length of what all of them write is the one that suits the given rows best, since
/// directions that are not at right angles would write too much.
///
/// A null for autoencoders. A transcoder of random directions writes nothing of use; there the mean, which explains 0, is the null.
///
/// # Errors
/// [`DictionaryError::Width`] for a transcoder to another width or rows of another, [`DictionaryError::Setting`] when `active` is no possible
/// number, [`DictionaryError::TooFew`] without a row.
pub fn random_like(
    dictionary: &Dictionary,
    rows: &Rows,
    active: usize,
    seed: Seed,
) -> Result<Dictionary, DictionaryError> {
    let (features, width) = (dictionary.features(), dictionary.target_width());
    if rows.is_empty() {
        return Err(DictionaryError::TooFew { found: 0, wanted: 1 });
    }
    rows.require_widths(width, width)?;
    let written = directions(features, width, seed);
    let parts = Parts {
        rule: Rule::TopK { k: active },
        decoder: transposed(&written),
        encoder: written,
        encoder_bias: Tensor::zeros([features]),
        bias: Tensor::new([width], mean_row(rows.wanted().data(), width))?,
        centred: true,
    };
    let mut random = Dictionary::new(parts, dictionary.place().clone())?;
    let length = best_length(&random, rows)?;
    random.decoder.data_mut().iter_mut().for_each(|weight| *weight *= length);
    Ok(random)
}

/// The factor on what is written, apart from the bias, that leaves the least squared error; 1 where nothing is written.
fn best_length(random: &Dictionary, rows: &Rows) -> Result<f32, DictionaryError> {
    let (_, written) = random.reconstruct(rows)?;
    let (mut along, mut square) = (0.0f64, 0.0f64);
    let entries = rows.wanted().data().iter().zip(written.data()).zip(random.bias().data().iter().cycle());
    for ((wanted, written), bias) in entries {
        let added = f64::from(written - bias);
        along += f64::from(wanted - bias) * added;
        square += added * added;
    }
    Ok(if square > 0.0 { (along / square) as f32 } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;
    use crate::{Evaluation, Place};

    #[test]
    fn it_has_the_sizes_and_sparsity_of_the_other_and_explains_little() {
        let parts = Parts {
            rule: Rule::Relu,
            encoder: numbers(&[50, 20], 1),
            encoder_bias: numbers(&[50], 2),
            decoder: numbers(&[20, 50], 3),
            bias: numbers(&[20], 4),
            centred: true,
        };
        let other = Dictionary::new(parts, Place::default()).unwrap();
        let rows = Rows::of(numbers(&[500, 20], 5));
        let random = random_like(&other, &rows, 3, Seed(7)).unwrap();
        assert_eq!((random.features(), random.rule()), (50, &Rule::TopK { k: 3 }));
        let explained = |of: &Dictionary| {
            let mut found = Evaluation::new(of);
            found.add(of, &rows, &[0; 500]).unwrap();
            assert!(found.active(&[0]) <= 3.0);
            found.explained_variance(&[0])
        };
        assert!((0.0..0.6).contains(&explained(&random)), "{}", explained(&random));
        // Longer or shorter directions explain less.
        for factor in [0.9, 1.1] {
            let mut other = random.clone();
            other.decoder.data_mut().iter_mut().for_each(|weight| *weight *= factor);
            assert!(explained(&other) < explained(&random));
        }
        assert_ne!(random, random_like(&other, &rows, 3, Seed(8)).unwrap());
        assert!(random_like(&other, &rows, 51, Seed(7)).is_err());
    }
}
