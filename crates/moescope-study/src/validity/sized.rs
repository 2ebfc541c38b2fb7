//! Experts whose weights have sizes or ranks of their own.

use moescope_base::Seed;
use rand::seq::SliceRandom;

use super::hand::{EXPERTS, Hand, LAYERS, normal};

/// Experts each of which is a fifth larger than the next, in an order that is drawn for each layer.
pub(super) fn graded(mut hand: Hand, seed: Seed) -> Hand {
    for layer in 0..LAYERS {
        let mut grades: Vec<i32> = (0..EXPERTS as i32).collect();
        grades.shuffle(&mut seed.child("grades").index(layer as u64).rng());
        for (expert, grade) in grades.into_iter().enumerate() {
            let factor = 1.2_f32.powi(grade);
            hand.each_matrix(layer, expert, |matrix, _| matrix.iter_mut().for_each(|x| *x *= factor));
        }
    }
    hand
}

/// Expert 3 of each layer as products of two random directions on either side, of the norm that its matrices had.
pub(super) fn narrow(mut hand: Hand, seed: Seed) -> Hand {
    for layer in 0..LAYERS {
        let mut rng = seed.child("directions").index(layer as u64).rng();
        hand.each_matrix(layer, 3, |matrix, columns| {
            let norm = |matrix: &[f32]| matrix.iter().map(|x| x * x).sum::<f32>().sqrt();
            let before = norm(matrix);
            let mut draw = |count: usize| (0..count).map(|_| normal(&mut rng)).collect::<Vec<f32>>();
            let (left, right) = (draw(2 * matrix.len() / columns), draw(2 * columns));
            for (row, numbers) in matrix.chunks_exact_mut(columns).enumerate() {
                for (column, number) in numbers.iter_mut().enumerate() {
                    *number = left[2 * row] * right[2 * column] + left[2 * row + 1] * right[2 * column + 1];
                }
            }
            let factor = before / norm(matrix);
            matrix.iter_mut().for_each(|x| *x *= factor);
        });
    }
    hand
}
