//! Biases of rows, and of the slot rows of experts; their gradients are sums of rows.

use crate::RoutePlan;
use crate::cpu::chunks::{each, rows_per_piece, sum_partials};
use crate::cpu::vector::{add_scaled, vectorised};
use crate::memory;

pub(crate) fn add(x: &[f32], bias: &[f32], out: &mut [f32]) {
    let columns = bias.len().max(1);
    each(out, rows_per_piece(columns) * columns, |start, out| {
        let x = &x[start..][..out.len()];
        for (x, out) in x.chunks_exact(columns).zip(out.chunks_exact_mut(columns)) {
            sum_row(x, bias, out);
        }
    });
}

vectorised! {
    fn sum_row<'a>(x: &'a [f32], bias: &'a [f32], out: &'a mut [f32]) {
        for ((out, &x), &bias) in out.iter_mut().zip(x).zip(bias) {
            *out = x + bias;
        }
    }
}

/// Pieces of rows are summed on their own, then in order.
pub(crate) fn sum_rows(gradient: &[f32], out: &mut [f32]) {
    let columns = out.len().max(1);
    let length = rows_per_piece(columns) * columns;
    let mut partials = memory::take(gradient.len().div_ceil(length) * columns); // [piece, column]
    each(&mut partials, columns, |start, partial| {
        let first = start / columns * length;
        sum_piece(&gradient[first..gradient.len().min(first + length)], partial);
    });
    sum_partials(&partials, out);
    memory::give_back(partials);
}

vectorised! {
    fn sum_piece<'a>(rows: &'a [f32], out: &'a mut [f32]) {
        out.fill(0.0);
        for row in rows.chunks_exact(out.len()) {
            add_scaled(out, row, 1.0);
        }
    }
}

/// One expert after the other: its slot rows lie side by side.
pub(crate) fn add_by_expert(rows: &[f32], bias: &[f32], plan: &RoutePlan, out: &mut [f32]) {
    let columns = bias.len() / plan.experts();
    for expert in 0..plan.experts() {
        let range = plan.offsets()[expert] * columns..plan.offsets()[expert + 1] * columns;
        add(&rows[range.clone()], &bias[expert * columns..(expert + 1) * columns], &mut out[range]);
    }
}

pub(crate) fn sum_by_expert(gradient: &[f32], plan: &RoutePlan, out: &mut [f32]) {
    let columns = out.len() / plan.experts();
    for (expert, out) in out.chunks_exact_mut(columns.max(1)).enumerate() {
        sum_rows(&gradient[plan.offsets()[expert] * columns..plan.offsets()[expert + 1] * columns], out);
    }
}
