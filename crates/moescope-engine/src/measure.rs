//! How fast this machine multiplies matrices: the yardstick for everything else.

use std::time::Instant;

use crate::LinearShape;
use crate::cpu::gemm_product;

/// Speed of a dense product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GemmRate {
    /// Of the fastest repetition, in 10⁹ floating-point operations per second.
    pub best: f64,
    /// Of the median repetition, in the same unit.
    pub median: f64,
}

/// Times `[m, k] · [k, n]` in `f32` through the `gemm` crate on one core; a product counts `2 m k n` operations.
///
/// Another's product, so that the yardstick stays where it is when our own kernels change.
/// The operands are warm after the first of `repetitions + 1` runs, which is not counted. What it does not show: the speed of
/// anything that is limited by memory.
pub fn gemm_rate(m: usize, k: usize, n: usize, repetitions: usize) -> GemmRate {
    let shape = LinearShape { rows: m, inputs: k, outputs: n };
    let numbers = |length: usize| (0..length).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect::<Vec<f32>>();
    let (x, weight, mut out) = (numbers(m * k), numbers(n * k), vec![0.0; m * n]);
    let mut once = || {
        let start = Instant::now();
        gemm_product(&x, &weight, shape, &mut out);
        2.0 * (m * k * n) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    once();
    let mut rates: Vec<f64> = (0..repetitions.max(1)).map(|_| once()).collect();
    rates.sort_by(f64::total_cmp);
    std::hint::black_box(&out);
    GemmRate { best: rates[rates.len() - 1], median: rates[rates.len() / 2] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_no_slower_than_the_median() {
        let rate = gemm_rate(16, 16, 16, 3);
        assert!(rate.best >= rate.median && rate.median > 0.0);
    }
}
