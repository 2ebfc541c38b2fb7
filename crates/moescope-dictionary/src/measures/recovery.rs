//! Whether directions are found again.

use moescope_engine::{Mode, Tape, Tensor};

use crate::DictionaryError;
use crate::training::direction;

/// Cosine from which on a direction counts as found.
pub const FOUND: f64 = 0.9;

/// How near the directions of one dictionary come to those of another, or to the planted ones.
///
/// - **Shape:** one number for each wanted direction, their mean, and the share that is found.
/// - **Unit and range:** cosine, from -1 to 1; share, from 0 to 1.
/// - **Null:** the same of as many random directions; it is far above zero where the width is small or directions are many.
///   Two dictionaries learned from Gaussian rows find no more of each other.
/// - **Does not show:** whether a direction found by both means anything; nor features that one dictionary splits and the other
///   does not.
/// - **Source:** mean maximum cosine similarity of Sharkey, Braun and Millidge 2022, "Taking features out of superposition".
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// Largest cosine of each wanted direction with any of the others.
    pub cosines: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Share of them that is [`FOUND`] or more.
    pub found: f64,
}

/// Holds wanted directions, `[direction, width]`, against others of the same width, `[direction, width]`.
///
/// # Errors
/// [`DictionaryError::Width`] when the widths differ, [`DictionaryError::TooFew`] when either has no direction.
pub fn recovery(wanted: &Tensor, others: &Tensor) -> Result<Recovery, DictionaryError> {
    let width = wanted.columns();
    if others.columns() != width {
        let found = others.columns();
        return Err(DictionaryError::Width { what: "the other dictionary", found, wanted: width });
    }
    if wanted.is_empty() || others.is_empty() {
        return Err(DictionaryError::TooFew { found: 0, wanted: 1 });
    }
    let (wanted, others) = (at_length_one(wanted)?, at_length_one(others)?);
    let mut tape = Tape::new(Mode::Inference);
    let (wanted, others) = (tape.frozen(&wanted), tape.frozen(&others));
    let products = tape.linear(wanted, others)?; // [wanted, other]
    let products = tape.value(products);
    let largest = |row: &[f32]| f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let cosines: Vec<f64> = products.data().chunks_exact(products.columns()).map(largest).collect();
    let count = cosines.len() as f64;
    let mean = cosines.iter().sum::<f64>() / count;
    let found = cosines.iter().filter(|cosine| **cosine >= FOUND).count() as f64 / count;
    Ok(Recovery { cosines, mean, found })
}

fn at_length_one(x: &Tensor) -> Result<Tensor, DictionaryError> {
    let data = x.data().chunks_exact(x.columns().max(1)).flat_map(direction).collect();
    Ok(Tensor::new(x.shape(), data)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::directions;
    use moescope_base::Seed;

    #[test]
    fn cosines_by_hand() {
        let wanted = Tensor::new([2, 2], vec![1.0, 0.0, 0.0, 5.0]).unwrap();
        let others = Tensor::new([2, 2], vec![3.0, 4.0, -1.0, 0.0]).unwrap();
        let found = recovery(&wanted, &others).unwrap();
        let near = |(a, b): (&f64, f64)| (a - b).abs() < 1e-6;
        assert!(found.cosines.iter().zip([0.6, 0.8]).all(near));
        assert!((found.mean - 0.7).abs() < 1e-6 && found.found == 0.0);
        assert_eq!(recovery(&wanted, &wanted).unwrap().found, 1.0);
        assert!(recovery(&wanted, &Tensor::zeros([2, 3])).is_err());
        assert!(recovery(&wanted, &Tensor::zeros([0, 2])).is_err());
    }

    #[test]
    fn random_directions_are_not_found() {
        let [a, b] = [1, 2].map(|seed| directions(200, 64, Seed(seed)));
        let found = recovery(&a, &b).unwrap();
        assert!(found.found == 0.0 && found.mean < 0.5, "{}", found.mean);
    }

    #[test]
    fn the_order_of_directions_and_turning_both_change_nothing() {
        let (a, b) = (directions(20, 8, Seed(1)), directions(30, 8, Seed(2)));
        let before = recovery(&a, &b).unwrap();
        let turned = |x: &Tensor| {
            let data = x.data().chunks(8).flat_map(|row| row.iter().rev().map(|x| -x)).collect();
            Tensor::new(x.shape(), data).unwrap()
        };
        let reversed = |x: &Tensor| {
            let data = x.data().chunks(8).rev().flatten().copied().collect();
            Tensor::new(x.shape(), data).unwrap()
        };
        let after = recovery(&turned(&a), &reversed(&turned(&b))).unwrap();
        assert!(before.cosines.iter().zip(&after.cosines).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
