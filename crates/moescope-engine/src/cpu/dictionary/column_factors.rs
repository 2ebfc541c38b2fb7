//! Columns with a factor each.

use crate::cpu::chunks::{each, rows_per_piece};
use crate::cpu::vector::vectorised;

pub(crate) fn scale(x: &[f32], factors: &[f32], out: &mut [f32]) {
    let columns = factors.len().max(1);
    each(out, rows_per_piece(columns) * columns, |start, out| {
        let x = &x[start..][..out.len()];
        for (x, out) in x.chunks_exact(columns).zip(out.chunks_exact_mut(columns)) {
            scale_row(x, factors, out);
        }
    });
}

vectorised! {
    fn scale_row<'a>(x: &'a [f32], factors: &'a [f32], out: &'a mut [f32]) {
        for ((out, &x), &factor) in out.iter_mut().zip(x).zip(factors) {
            *out = x * factor;
        }
    }
}
