//! Rows with a factor each.

use crate::cpu::chunks::{each, rows_per_piece};
use crate::cpu::vector::{dot, vectorised};

pub(crate) fn scale(x: &[f32], factors: &[f32], out: &mut [f32]) {
    let columns = (x.len() / factors.len().max(1)).max(1);
    each(out, rows_per_piece(columns) * columns, |start, out| {
        let rows = x[start..].chunks_exact(columns).zip(out.chunks_exact_mut(columns));
        for ((x, out), &factor) in rows.zip(&factors[start / columns..]) {
            scale_row(x, factor, out);
        }
    });
}

vectorised! {
    fn scale_row<'a>(x: &'a [f32], factor: f32, out: &'a mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = factor * x;
        }
    }
}

pub(crate) fn products(a: &[f32], b: &[f32], out: &mut [f32]) {
    let columns = (a.len() / out.len().max(1)).max(1);
    each(out, rows_per_piece(columns), |start, out| {
        let rows = a[start * columns..].chunks_exact(columns).zip(b[start * columns..].chunks_exact(columns));
        for ((a, b), out) in rows.zip(out) {
            *out = row_product(a, b);
        }
    });
}

vectorised! {
    fn row_product<'a>(a: &'a [f32], b: &'a [f32]) -> f32 {
        dot(a, b)
    }
}
