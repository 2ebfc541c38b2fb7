//! The strongest entries of a whole batch.

use crate::cpu::chunks::{PIECE, each};

/// Keeps `count` entries of largest magnitude, zeros never; of equals, those that come first.
pub(crate) fn forward(x: &[f32], count: usize, out: &mut [f32]) {
    let mut magnitudes: Vec<f32> = x.iter().filter(|x| **x != 0.0).map(|x| x.abs()).collect();
    if magnitudes.len() <= count {
        return out.copy_from_slice(x);
    }
    let weakest = match count {
        0 => f32::INFINITY,
        _ => *magnitudes.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1,
    };
    let above = x.iter().filter(|x| x.abs() > weakest).count();
    let mut equals = count.saturating_sub(above);
    for (out, &x) in out.iter_mut().zip(x) {
        let equal = x.abs() == weakest && equals > 0;
        equals -= usize::from(equal);
        *out = if equal || x.abs() > weakest { x } else { 0.0 };
    }
}

/// Lets a gradient through where the result is not zero.
pub(crate) fn backward(y: &[f32], gradient: &mut [f32]) {
    each(gradient, PIECE, |start, gradient| {
        for (gradient, &y) in gradient.iter_mut().zip(&y[start..]) {
            *gradient = if y == 0.0 { 0.0 } else { *gradient };
        }
    });
}
