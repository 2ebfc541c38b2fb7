//! Random rotations that are cheap to apply to wide vectors.

use moescope_base::Seed;
use rand::RngExt;
use rand::seq::SliceRandom;

/// Rounds of signs, order and Hadamard transform; three mix as a uniform rotation does for all practical purposes.
const ROUNDS: usize = 3;

/// A random orthogonal map of `width` dimensions that needs no matrix.
///
/// - **Shape:** vectors of `width` → vectors of `width`, lengths and angles kept.
/// - **Does not show:** an exactly uniform rotation; [`crate::matrix::random_rotation`] is one, and costs the cube of the width.
/// - **Source:** products of Hadamard matrices and random signs, Yu et al. 2016 (orthogonal random features).
pub(crate) struct Turn {
    rounds: Vec<(Vec<usize>, Vec<f32>)>,
}

impl Turn {
    /// The map of a seed.
    pub(crate) fn new(width: usize, seed: Seed) -> Turn {
        let round = |index: usize| {
            let mut rng = seed.index(index as u64).rng();
            let mut order: Vec<usize> = (0..width).collect();
            order.shuffle(&mut rng);
            (order, (0..width).map(|_| if rng.random::<bool>() { 1.0 } else { -1.0 }).collect())
        };
        Turn { rounds: (0..ROUNDS).map(round).collect() }
    }

    /// Every row of `rows[row, width]` turned; a row of zeros stays one.
    pub(crate) fn of_rows(&self, rows: &[f32]) -> Vec<f32> {
        let width = self.rounds[0].0.len();
        let mut turned = rows.to_vec();
        for row in turned.chunks_exact_mut(width).filter(|row| row.iter().any(|x| *x != 0.0)) {
            for (order, signs) in &self.rounds {
                let mixed: Vec<f32> = order.iter().zip(signs).map(|(from, sign)| sign * row[*from]).collect();
                row.copy_from_slice(&mixed);
                let size = 1 << width.ilog2();
                hadamard(&mut row[..size]);
                // What is left over is mixed with what has just been.
                if size < width {
                    hadamard(&mut row[width - size..]);
                }
            }
        }
        turned
    }
}

/// The Hadamard transform of a row whose length is a power of two; lengths are kept.
fn hadamard(row: &mut [f32]) {
    let size = row.len();
    let mut half = 1;
    while half < size {
        for block in row.chunks_exact_mut(2 * half) {
            let (first, second) = block.split_at_mut(half);
            for (a, b) in first.iter_mut().zip(second) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let length = (size as f32).sqrt().recip();
    row.iter_mut().for_each(|x| *x *= length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum()
    }

    #[test]
    fn a_transform_by_hand() {
        let mut row = [1.0, 3.0, 0.0, 2.0];
        hadamard(&mut row);
        assert_eq!(row, [3.0, -2.0, 1.0, 0.0]);
    }

    #[test]
    fn lengths_and_angles_stay_and_directions_are_spread_evenly() {
        let rows: Vec<f32> = (0..22).map(|i| ((i * i) as f32).sin()).collect();
        let turned = Turn::new(11, Seed(4)).of_rows(&rows);
        for (a, b) in [(0, 0), (0, 1), (1, 1)] {
            let at = |of: &[f32], row: usize| of[11 * row..11 * row + 11].to_vec();
            let (before, after) = (dot(&at(&rows, a), &at(&rows, b)), dot(&at(&turned, a), &at(&turned, b)));
            assert!((before - after).abs() < 1e-4);
        }
        // A fixed axis has, on average over seeds, an equal share of each axis of the image, whatever the width.
        for width in [8, 11, 15] {
            let axis: Vec<f32> = (0..width).map(|i| f32::from(u8::from(i == width - 1))).collect();
            let share = |seed| f64::from(Turn::new(width, Seed(seed)).of_rows(&axis)[width - 1].powi(2));
            let mean = (0..400).map(share).sum::<f64>() / 400.0;
            assert!((mean * width as f64 - 1.0).abs() < 0.3, "{width}: {mean}");
        }
        assert_eq!(Turn::new(11, Seed(4)).of_rows(&[0.0; 11]), [0.0; 11]);
    }
}
