//! Weights rounded to a few bits, and noise of the same size.

use moescope_base::{Seed, WeightMatrix};

use crate::AnalysisError;
use crate::matrix::normal;

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Those of a row, which are what one output is read with.
    Row,
    /// So many neighbours of a row; the last group of a row may be shorter.
    Of(usize),
}

impl Grouping {
    /// Both that are tried.
    pub const ALL: [Grouping; 2] = [Grouping::Row, Grouping::Of(32)];

    /// Its name in tables.
    pub fn name(self) -> String {
        match self {
            Grouping::Row => "row".into(),
            Grouping::Of(count) => format!("group of {count}"),
        }
    }

    /// Weights that share a scale in a row of so many.
    fn length(self, columns: usize) -> usize {
        match self {
            Grouping::Row => columns,
            Grouping::Of(count) => count.clamp(1, columns),
        }
    }
}

/// The matrix with each group rounded to `2^bits − 1` even levels, the outermost at the largest size in it (absmax, symmetric).
///
/// Two bits leave −1, 0 and 1 times that size. Rounding is to the nearest, of halves away from zero. This is the arithmetic of Q8_0 of
/// llama.cpp with scales in full precision; formats with an offset or scales of scales lose less at few bits.
///
/// # Errors
/// If the rounded numbers make no matrix, which they do.
pub fn round(matrix: &WeightMatrix, bits: u32, grouping: Grouping) -> Result<WeightMatrix, AnalysisError> {
    let levels = f64::from((1_u32 << (bits.clamp(2, 16) - 1)) - 1);
    let mut data = matrix.data().to_vec();
    let length = grouping.length(matrix.columns());
    for row in data.chunks_exact_mut(matrix.columns()) {
        for group in row.chunks_mut(length) {
            let largest = group.iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max);
            if largest > 0.0 {
                let step = largest / levels;
                group.iter_mut().for_each(|x| *x = ((f64::from(*x) / step).round() * step) as f32);
            }
        }
    }
    Ok(WeightMatrix::new(matrix.columns(), data)?)
}

/// The matrix with a change of every row that is as long as that to the rounded one, in a random direction.
///
/// Whatever rounding does beyond this noise, it does by the directions in which it moves weights.
pub(super) fn noised(
    matrix: &WeightMatrix,
    rounded: &WeightMatrix,
    seed: Seed,
) -> Result<WeightMatrix, AnalysisError> {
    let mut data = matrix.data().to_vec();
    let rows = data.chunks_exact_mut(matrix.columns()).zip(rounded.data().chunks_exact(matrix.columns()));
    for (number, (row, rounded)) in rows.enumerate() {
        let error: f64 = row.iter().zip(rounded).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        if error > 0.0 {
            let mut rng = seed.index(number as u64).rng();
            let drawn: Vec<f64> = row.iter().map(|_| normal(&mut rng)).collect();
            let factor = (error / drawn.iter().map(|x| x * x).sum::<f64>()).sqrt();
            row.iter_mut().zip(drawn).for_each(|(x, drawn)| *x += (factor * drawn) as f32);
        }
    }
    Ok(WeightMatrix::new(matrix.columns(), data)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted_parameters::gaussian;
    use proptest::prelude::*;

    fn matrix(columns: usize, data: &[f32]) -> WeightMatrix {
        WeightMatrix::new(columns, data.to_vec()).unwrap()
    }

    #[test]
    fn rows_and_groups_by_hand() {
        let whole = matrix(4, &[1.0, 0.4, -0.6, 0.1, 0.0, 0.0, 0.0, 0.0]);
        // Three levels of 1; in groups of two, of 1 and of 0.6.
        assert_eq!(
            round(&whole, 2, Grouping::Row).unwrap().data(),
            [1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        );
        let grouped = round(&whole, 2, Grouping::Of(2)).unwrap();
        assert_eq!(grouped.data()[..4], [1.0, 0.0, -0.6, 0.0]);
        // Seven levels: a step of a third.
        let third = round(&whole, 3, Grouping::Row).unwrap();
        let wanted = [1.0, 1.0 / 3.0, -2.0 / 3.0, 0.0];
        assert!(third.data().iter().zip(wanted).all(|(x, wanted)| (x - wanted).abs() < 1e-6));
    }

    #[test]
    fn noise_is_as_long_as_the_rounding_and_zero_where_nothing_is_rounded() {
        let whole = gaussian(6, 40, &mut Seed(1).rng());
        let rounded = round(&whole, 3, Grouping::Row).unwrap();
        let noised = noised(&whole, &rounded, Seed(2)).unwrap();
        let length = |other: &WeightMatrix, row: usize| {
            let pairs = whole.row(row).iter().zip(other.row(row));
            pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
        };
        assert!((0..6).all(|row| (length(&noised, row) / length(&rounded, row) - 1.0).abs() < 1e-4));
        assert_eq!(super::noised(&whole, &whole, Seed(3)).unwrap(), whole);
    }

    proptest! {
        #[test]
        fn no_weight_moves_by_more_than_half_a_step_and_levels_are_kept(seed in any::<u64>(), bits in 2u32..9, grouped in any::<bool>()) {
            let whole = gaussian(3, 64, &mut Seed(seed).rng());
            let grouping = if grouped { Grouping::Of(32) } else { Grouping::Row };
            let rounded = round(&whole, bits, grouping).unwrap();
            let length = grouping.length(64);
            for (group, near) in whole.data().chunks(length).zip(rounded.data().chunks(length)) {
                let largest = group.iter().map(|x| x.abs()).fold(0.0, f32::max);
                let half = 0.5 * largest / ((1 << (bits - 1)) - 1) as f32;
                prop_assert!(group.iter().zip(near).all(|(a, b)| (a - b).abs() <= half * 1.0001));
            }
            let again = round(&rounded, bits, grouping).unwrap();
            prop_assert!(rounded.data().iter().zip(again.data()).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }
}
