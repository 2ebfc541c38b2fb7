//! A rectifier that jumps at a threshold of each column, and how many entries lie above it.

use crate::cpu::chunks::{each, each_pair, rows_per_piece};
use crate::cpu::families::bias::sum_rows;
use crate::memory;

/// Whole rows of a piece, in numbers.
fn length(columns: usize) -> usize {
    rows_per_piece(columns) * columns
}

/// Whether an entry lies in the window around its threshold: the rectangle kernel of the straight-through estimate.
#[inline(always)]
fn near(x: f32, threshold: f32, bandwidth: f32) -> f32 {
    let place = (x - threshold) / bandwidth;
    if place > -0.5 && place < 0.5 { 1.0 } else { 0.0 }
}

pub(crate) fn forward(x: &[f32], thresholds: &[f32], out: &mut [f32]) {
    let columns = thresholds.len().max(1);
    each(out, length(columns), |start, out| {
        for ((out, &x), &threshold) in out.iter_mut().zip(&x[start..]).zip(thresholds.iter().cycle()) {
            *out = if x > threshold { x } else { 0.0 };
        }
    });
}

/// The gradient of `x` replaces `gradient`; that of the thresholds is a sum over rows.
pub(crate) fn backward(x: &[f32], thresholds: &[f32], bandwidth: f32, gradient: &mut [f32], out: &mut [f32]) {
    let columns = thresholds.len().max(1);
    let mut slopes = memory::take(x.len()); // [row, column]
    each_pair((gradient, length(columns)), (&mut slopes, length(columns)), |index, gradient, slopes| {
        let x = &x[index * length(columns)..];
        let entries = gradient.iter_mut().zip(slopes).zip(x).zip(thresholds.iter().cycle());
        for (((gradient, slope), &x), &threshold) in entries {
            *slope = -threshold / bandwidth * near(x, threshold, bandwidth) * *gradient;
            *gradient = if x > threshold { *gradient } else { 0.0 };
        }
    });
    sum_rows(&slopes, out);
    memory::give_back(slopes);
}

/// How many entries lie above their thresholds.
pub(crate) fn count(x: &[f32], thresholds: &[f32]) -> u64 {
    x.iter().zip(thresholds.iter().cycle()).filter(|(x, threshold)| x > threshold).count() as u64
}

/// The slope of the count at each threshold, times `factor`.
pub(crate) fn count_backward(x: &[f32], thresholds: &[f32], bandwidth: f32, factor: f32, out: &mut [f32]) {
    let columns = thresholds.len().max(1);
    let mut slopes = memory::take(x.len()); // [row, column]
    each(&mut slopes, length(columns), |start, slopes| {
        for ((slope, &x), &threshold) in slopes.iter_mut().zip(&x[start..]).zip(thresholds.iter().cycle()) {
            *slope = -factor / bandwidth * near(x, threshold, bandwidth);
        }
    });
    sum_rows(&slopes, out);
    memory::give_back(slopes);
}
