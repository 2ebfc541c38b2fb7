//! A dictionary of random directions, as sparse as another.

use moescope_base::Seed;

use crate::dictionary::transposed;
use crate::draws::directions;
use crate::{Dictionary, DictionaryError, Parts, Rule};
use moescope_engine::Tensor;

/// An autoencoder of the same sizes and bias whose directions are random, which reads what it writes and keeps the `active` largest of
/// each row: what any directions explain, learned or not.
///
/// A null for autoencoders. A transcoder of random directions writes nothing of use and is worse than the mean; there the mean, which explains 0, is
/// the null.
///
/// # Errors
/// [`DictionaryError::Width`] for a transcoder to another width, [`DictionaryError::Setting`] when `active` is no possible number.
pub fn random_like(
    dictionary: &Dictionary,
    active: usize,
    seed: Seed,
) -> Result<Dictionary, DictionaryError> {
    let (features, width) = (dictionary.features(), dictionary.target_width());
    let written = directions(features, width, seed);
    let parts = Parts {
        rule: Rule::TopK { k: active },
        decoder: transposed(&written),
        encoder: written,
        encoder_bias: Tensor::zeros([features]),
        bias: dictionary.bias().clone(),
        centred: true,
    };
    Dictionary::new(parts, dictionary.place().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;
    use crate::{Evaluation, Place, Rows};

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
        let random = random_like(&other, 3, Seed(7)).unwrap();
        assert_eq!((random.features(), random.bias()), (50, other.bias()));
        let mut found = Evaluation::new(&random);
        found.add(&random, &Rows::of(numbers(&[500, 20], 5)), &[0; 500]).unwrap();
        assert!(found.active(&[0]) <= 3.0 && found.explained_variance(&[0]) < 0.6);
        assert_ne!(random, random_like(&other, 3, Seed(8)).unwrap());
        assert!(random_like(&other, 51, Seed(7)).is_err());
    }
}
