//! Numbers for tests.

use moescope_base::Seed;
use moescope_engine::Tensor;

use crate::draws::normal;

/// Normal numbers, the same for the same seed.
pub(crate) fn numbers(shape: &[usize], seed: u64) -> Tensor {
    let mut draws = Seed(seed).rng();
    let data = (0..shape.iter().product()).map(|_| normal(&mut draws) as f32).collect();
    Tensor::new(shape, data).unwrap()
}

/// Rows of four numbers in a turned basis: a turn in each of two planes, and the planes exchanged.
pub(crate) fn turn(x: &Tensor) -> Tensor {
    assert_eq!(x.columns(), 4, "rows of four numbers");
    let (sin, cos) = 0.7f32.sin_cos();
    let row = |row: &[f32]| {
        let [a, b, c, d] = [row[0], row[1], row[2], row[3]];
        [cos * c - sin * d, sin * c + cos * d, cos * a + sin * b, cos * b - sin * a]
    };
    Tensor::new(x.shape(), x.data().chunks(4).flat_map(row).collect()).unwrap()
}
