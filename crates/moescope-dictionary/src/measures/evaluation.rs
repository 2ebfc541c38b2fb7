//! Sums over tokens, by document, from which what is explained and how sparse it is are read.

use moescope_engine::Tensor;

use crate::{Dictionary, DictionaryError, Rows};

/// What a dictionary does on rows that it did not learn from, summed for each independent unit: a document.
///
/// - **Shape:** rows are added batch by batch; each names its unit, `units[row]`.
/// - **Null:** of what is explained, the same dictionary on [Gaussian rows](crate::gaussian_like) of the same mean and
///   covariance, and a [random dictionary](crate::random_like) as sparse. The measures say their own.
/// - **Invariance:** the order of rows changes sums to rounding alone, and so does turning the basis of rows and dictionary
///   together.
/// - **Does not show:** whether the model uses what is explained; see [`loss_recovered`](crate::loss_recovered).
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// By unit.
    sums: Vec<UnitSums>,
    /// By feature: rows in which it was active.
    fired: Vec<u64>,
    width: usize,
}

/// Sums over the rows of one unit. Rows are taken less the dictionary's bias, so that sums of squares keep their digits.
#[derive(Clone, Debug, Default, PartialEq)]
struct UnitSums {
    rows: u64,
    /// `Σ |y|²`.
    squares: f64,
    /// `Σ y`, `[target]`.
    sum: Vec<f64>,
    /// `Σ |y - written|²`.
    errors: f64,
    /// Active features.
    active: u64,
}

impl Evaluation {
    /// Nothing added yet.
    pub fn new(dictionary: &Dictionary) -> Evaluation {
        let (fired, width) = (vec![0; dictionary.features()], dictionary.target_width());
        Evaluation { sums: Vec::new(), fired, width }
    }

    /// Adds rows; `units[row]` is the number of the document that a row is of.
    ///
    /// # Errors
    /// [`DictionaryError::Width`] for rows of other widths or as many units as there are not rows.
    pub fn add(
        &mut self,
        dictionary: &Dictionary,
        rows: &Rows,
        units: &[u32],
    ) -> Result<(), DictionaryError> {
        let (features, written) = dictionary.reconstruct(rows)?;
        self.add_written(dictionary, rows, &features, &written, units)
    }

    /// As [`add`](Self::add), with features and what they write at hand.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_written(
        &mut self,
        dictionary: &Dictionary,
        rows: &Rows,
        features: &Tensor,
        written: &Tensor,
        units: &[u32],
    ) -> Result<(), DictionaryError> {
        rows.require_widths(dictionary.input_width(), self.width)?;
        if units.len() != rows.len() {
            let (found, wanted) = (units.len(), rows.len());
            return Err(DictionaryError::Width { what: "the list of units", found, wanted });
        }
        let wanted = rows.wanted().data().chunks_exact(self.width);
        let pairs = wanted.zip(written.data().chunks_exact(self.width));
        for (((wanted, written), features), unit) in
            pairs.zip(features.data().chunks_exact(self.fired.len())).zip(units)
        {
            let unit = *unit as usize;
            if self.sums.len() <= unit {
                self.sums.resize_with(unit + 1, UnitSums::default);
            }
            self.sums[unit].add(wanted, written, dictionary.bias().data());
            for (feature, fired) in features.iter().zip(&mut self.fired) {
                let active = u64::from(*feature > 0.0);
                *fired += active;
                self.sums[unit].active += active;
            }
        }
        Ok(())
    }

    /// Units that have rows: what a bootstrap draws from.
    pub fn units(&self) -> Vec<usize> {
        (0..self.sums.len()).filter(|unit| self.sums[*unit].rows > 0).collect()
    }

    /// Rows of all units.
    pub fn rows(&self) -> u64 {
        self.sums.iter().map(|sums| sums.rows).sum()
    }

    /// Share of the variance of rows that is explained: `1 - Σ |y - written|² / Σ |y - mean|²`, over the named units; a unit
    /// that is named twice counts twice.
    ///
    /// - **Unit and range:** share, 1 at most; below 0 where the mean of the rows would be nearer. Not a number without variance.
    /// - **Null:** see [`Evaluation`]. The mean alone explains 0.
    /// - **Does not show:** which part of the variance: a few columns of great variance can make up all of it.
    /// - **Source:** 1 - FVU (fraction of variance unexplained), as in SAEBench (Karvonen et al. 2025).
    pub fn explained_variance(&self, units: &[usize]) -> f64 {
        let (mut rows, mut squares, mut errors) = (0u64, 0.0, 0.0);
        let mut sum = vec![0.0; self.width];
        for unit in units {
            let of = &self.sums[*unit];
            rows += of.rows;
            squares += of.squares;
            errors += of.errors;
            sum.iter_mut().zip(&of.sum).for_each(|(sum, x)| *sum += x);
        }
        let about_mean = squares - sum.iter().map(|sum| sum * sum).sum::<f64>() / rows as f64;
        1.0 - errors / about_mean
    }

    /// Active features of a row on average, over the named units: L0.
    ///
    /// - **Unit and range:** features, from 0 to all of them.
    /// - **Null:** that of the training's aim; no null of its own.
    /// - **Does not show:** how strongly they are active.
    pub fn active(&self, units: &[usize]) -> f64 {
        let of =
            |pick: fn(&UnitSums) -> u64| units.iter().map(|unit| pick(&self.sums[*unit])).sum::<u64>() as f64;
        of(|sums| sums.active) / of(|sums| sums.rows)
    }

    /// Share of rows in which each feature is active: its density.
    ///
    /// - **Shape:** `[feature]`.
    /// - **Unit and range:** share of rows, from 0 to 1. Below one over the number of rows nothing can be seen.
    /// - **Null:** `active / features` for every feature, if all were alike.
    pub fn densities(&self) -> Vec<f64> {
        let rows = self.rows() as f64;
        self.fired.iter().map(|fired| *fired as f64 / rows).collect()
    }

    /// Share of the features that are active in no row.
    ///
    /// - **Unit and range:** share of features, from 0 to 1. A feature more rare than one in so many rows looks dead.
    /// - **Null:** 0: every feature of a dictionary that is used to the full is active somewhere.
    pub fn dead_share(&self) -> f64 {
        self.fired.iter().filter(|fired| **fired == 0).count() as f64 / self.fired.len() as f64
    }
}

impl UnitSums {
    fn add(&mut self, wanted: &[f32], written: &[f32], bias: &[f32]) {
        self.rows += 1;
        self.sum.resize(wanted.len(), 0.0);
        for (((wanted, written), bias), sum) in wanted.iter().zip(written).zip(bias).zip(&mut self.sum) {
            let y = f64::from(*wanted) - f64::from(*bias);
            *sum += y;
            self.squares += y * y;
            self.errors += (f64::from(*wanted) - f64::from(*written)).powi(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{numbers, turn};
    use crate::{Parts, Place, Rule};

    fn dictionary(seed: u64) -> Dictionary {
        let decoder = numbers(&[4, 6], seed);
        let parts = Parts {
            rule: Rule::TopK { k: 2 },
            encoder: crate::dictionary::transposed(&decoder),
            encoder_bias: numbers(&[6], seed + 1),
            decoder,
            bias: numbers(&[4], seed + 2),
            centred: true,
        };
        Dictionary::new(parts, Place::default()).unwrap()
    }

    #[test]
    fn measures_by_hand() {
        let parts = Parts {
            rule: Rule::Relu,
            encoder: Tensor::new([2, 1], vec![1.0, -1.0]).unwrap(),
            encoder_bias: Tensor::new([2], vec![-1.0, -100.0]).unwrap(),
            decoder: Tensor::new([1, 2], vec![1.0, -1.0]).unwrap(),
            bias: Tensor::zeros([1]),
            centred: true,
        };
        let dictionary = Dictionary::new(parts, Place::default()).unwrap();
        let mut found = Evaluation::new(&dictionary);
        // Rows 0, 3 | 6: written 0, 2 | 5; errors 0, 1 | 1; mean 3, variance 9 + 0 + 9.
        let rows = Rows::of(Tensor::new([3, 1], vec![0.0, 3.0, 6.0]).unwrap());
        found.add(&dictionary, &rows, &[0, 0, 2]).unwrap();
        assert_eq!((found.units(), found.rows()), (vec![0, 2], 3));
        assert!((found.explained_variance(&[0, 2]) - (1.0 - 2.0 / 18.0)).abs() < 1e-9);
        // The first unit alone: mean 1.5, variance 4.5, error 1; twice it changes nothing.
        assert!((found.explained_variance(&[0]) - (1.0 - 1.0 / 4.5)).abs() < 1e-9);
        assert!((found.explained_variance(&[0, 0]) - (1.0 - 1.0 / 4.5)).abs() < 1e-9);
        assert!((found.active(&[0, 2]) - 2.0 / 3.0).abs() < 1e-9 && found.active(&[2]) == 1.0);
        assert_eq!((found.densities(), found.dead_share()), (vec![2.0 / 3.0, 0.0], 0.5));
        assert!(found.add(&dictionary, &rows, &[0]).is_err());
    }

    #[test]
    fn the_order_of_rows_and_batches_changes_nothing_but_rounding() {
        let dictionary = dictionary(1);
        let x = numbers(&[50, 4], 9);
        let units: Vec<u32> = (0..50).map(|row| row % 3).collect();
        let mut whole = Evaluation::new(&dictionary);
        whole.add(&dictionary, &Rows::of(x.clone()), &units).unwrap();
        let mut parts = Evaluation::new(&dictionary);
        for row in (0..50).rev() {
            let one = Tensor::new([1, 4], x.data()[row * 4..][..4].to_vec()).unwrap();
            parts.add(&dictionary, &Rows::of(one), &units[row..=row]).unwrap();
        }
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        near(whole.explained_variance(&[0, 1, 2]), parts.explained_variance(&[0, 1, 2]));
        near(whole.active(&[0, 1, 2]), parts.active(&[0, 1, 2]));
        assert_eq!(whole.densities(), parts.densities());
    }

    #[test]
    fn a_turned_basis_gives_the_same_measures() {
        let (dictionary, x) = (dictionary(3), numbers(&[200, 4], 8));
        let turned = Dictionary {
            encoder: turn(&dictionary.encoder),
            decoder: crate::dictionary::transposed(&turn(&dictionary.directions())),
            bias: turn(&Tensor::new([1, 4], dictionary.bias.data().to_vec()).unwrap()),
            ..dictionary.clone()
        };
        let turned = Dictionary { bias: Tensor::new([4], turned.bias.data().to_vec()).unwrap(), ..turned };
        let units = vec![0; 200];
        let [mut plain, mut other] = [Evaluation::new(&dictionary), Evaluation::new(&turned)];
        plain.add(&dictionary, &Rows::of(x.clone()), &units).unwrap();
        other.add(&turned, &Rows::of(turn(&x)), &units).unwrap();
        assert!((plain.explained_variance(&[0]) - other.explained_variance(&[0])).abs() < 1e-4);
        assert!((plain.active(&[0]) - other.active(&[0])).abs() < 0.02);
    }
}
