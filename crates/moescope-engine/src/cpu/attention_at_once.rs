//! Causal attention whose pattern is never stored: a block of it is made, used and forgotten.
//!
//! The same products and sums in the same order as in the two operations that keep the pattern, so the bits are the same. A task
//! copies its heads out of the token rows first; what it then works on stays in the L2 cache.

use super::attention::{BLOCK, Heads, blocks, normalise_row, softmax_gradient, softmax_width, token_tasks};
use super::chunks::run;
use super::matrix::{Matrix, MatrixMut};
use super::product::{Prepared, product};
use crate::AttentionShape;
use crate::memory;

/// A matrix in a buffer of the pool.
struct Local {
    data: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl Local {
    /// Entries that the caller writes.
    fn unfilled(rows: usize, columns: usize) -> Self {
        Self { data: memory::take(rows * columns), rows, columns }
    }

    fn zeros(rows: usize, columns: usize) -> Self {
        let mut local = Self::unfilled(rows, columns);
        local.data.fill(0.0);
        local
    }

    /// The rows of a matrix, side by side.
    fn copy(matrix: Matrix<'_>) -> Self {
        let mut local = Self::unfilled(matrix.rows, matrix.columns());
        for (row, out) in local.data.chunks_exact_mut(matrix.columns()).enumerate() {
            out.copy_from_slice(matrix.row(row));
        }
        local
    }

    fn read(&self) -> Matrix<'_> {
        Matrix::new(&self.data, self.rows, self.columns)
    }

    fn write(&mut self) -> MatrixMut<'_> {
        MatrixMut::new(&mut self.data, self.rows, self.columns)
    }

    /// Writes all rows to a matrix of the same size.
    fn put(&self, out: &mut MatrixMut<'_>) {
        for (row, data) in self.data.chunks_exact(self.columns).enumerate() {
            out.row(row).copy_from_slice(data);
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        memory::give_back(std::mem::take(&mut self.data));
    }
}

/// The pattern of queries from position `first` on over the first `seen` keys, in the rows of a buffer for all keys.
fn pattern_of(
    queries: Matrix<'_>,
    keys: &Prepared<'_>,
    (first, seen): (usize, usize),
    scale: f32,
    buffer: &mut MatrixMut<'_>,
) {
    let rows = queries.rows;
    keys.product_of_first(buffer.window(0..rows, 0..seen), queries, scale);
    // As wide as the softmax works on: its sum then has the same order as over a row for all keys.
    let wide = softmax_width(seen, buffer.columns());
    for row in 0..rows {
        normalise_row(&mut buffer.row(row)[..wide], first + row + 1);
    }
}

/// `softmax(q · kᵀ / sqrt(head_dim)) · v`, a block of queries at a time.
pub(super) fn attention(q: &[f32], k: &[f32], v: &[f32], shape: AttentionShape, out: &mut [f32]) {
    let (layout, values) = (shape.layout, shape.values());
    let scale = layout.scale();
    let tasks: Vec<_> = token_tasks(out, values, layout.group()).into_iter().enumerate().collect();
    run(tasks, |(task, mut out)| {
        let (heads, value_heads) = (Heads::new(layout, task), Heads::new(values, task));
        let (keys, values) = (heads.shared_head(k), Local::copy(value_heads.shared_head(v)));
        let keys = Prepared::new(keys.transposed());
        let mut pattern = Local::unfilled(BLOCK.min(layout.positions), layout.positions);
        for member in 0..layout.group() {
            let queries = heads.query_head(q, member);
            let columns = member * shape.value_dim..(member + 1) * shape.value_dim;
            for (block, seen) in blocks(layout.positions) {
                let mut buffer = pattern.write();
                let left = queries.window(block.clone(), 0..layout.head_dim);
                pattern_of(left, &keys, (block.start, seen), scale, &mut buffer);
                let weights = buffer.read().window(0..block.len(), 0..seen);
                let right = values.read().window(0..seen, 0..shape.value_dim);
                product(out.window(block, columns.clone()), weights, right, 1.0, false);
            }
        }
    });
}

/// Gradients of [`attention`]: of queries, keys and values, each written whole.
pub(super) fn attention_backward(
    (q, k, v): (&[f32], &[f32], &[f32]),
    gradient: &[f32],
    shape: AttentionShape,
    (q_gradient, k_gradient, v_gradient): (&mut [f32], &mut [f32], &mut [f32]),
) {
    let (layout, values) = (shape.layout, shape.values());
    let of_queries = token_tasks(q_gradient, layout, layout.group()).into_iter();
    let of_shared = token_tasks(k_gradient, layout, 1).into_iter().zip(token_tasks(v_gradient, values, 1));
    let tasks: Vec<_> = of_queries.zip(of_shared).enumerate().collect();
    run(tasks, |(task, (q_gradient, (mut k_gradient, mut v_gradient)))| {
        let (heads, value_heads) = (Heads::new(layout, task), Heads::new(values, task));
        let keys = Local::copy(heads.shared_head(k));
        let mut back = Back {
            shape,
            by_key: Prepared::new(heads.shared_head(k).transposed()),
            by_value: Prepared::new(value_heads.shared_head(v).transposed()),
            keys: keys.read(),
            k_gradient: Local::zeros(layout.positions, layout.head_dim),
            v_gradient: Local::zeros(layout.positions, shape.value_dim),
            q_gradient,
        };
        for member in 0..layout.group() {
            let queries = Local::copy(heads.query_head(q, member));
            let upstream = Local::copy(value_heads.query_head(gradient, member));
            back.member(member, queries.read(), upstream.read());
        }
        back.k_gradient.put(&mut k_gradient);
        back.v_gradient.put(&mut v_gradient);
    });
}

/// The way back of one task.
struct Back<'a> {
    shape: AttentionShape,
    by_key: Prepared<'a>,
    by_value: Prepared<'a>,
    keys: Matrix<'a>,
    q_gradient: MatrixMut<'a>,
    k_gradient: Local,
    v_gradient: Local,
}

impl Back<'_> {
    /// One query head: `queries[position, head_dim]` and the gradient of its mixture, `upstream[position, value_dim]`.
    fn member(&mut self, member: usize, queries: Matrix<'_>, upstream: Matrix<'_>) {
        let AttentionShape { layout, value_dim } = self.shape;
        let height = BLOCK.min(layout.positions);
        let (mut pattern, mut pulled) =
            (Local::unfilled(height, layout.positions), Local::unfilled(height, layout.positions));
        for (block, seen) in blocks(layout.positions) {
            let (mut pattern, mut pulled) = (pattern.write(), pulled.write());
            let mut scores = pulled.window(0..block.len(), 0..seen);
            let left = queries.window(block.clone(), 0..layout.head_dim);
            let from = upstream.window(block.clone(), 0..value_dim);
            pattern_of(left, &self.by_key, (block.start, seen), layout.scale(), &mut pattern);
            let weights = pattern.read().window(0..block.len(), 0..seen);
            self.by_value.product_of_first(scores.borrow(), from, 1.0);
            let out = self.v_gradient.write();
            add_turned(out, weights, from);
            for row in 0..block.len() {
                softmax_gradient(weights.row(row), scores.row(row), layout.scale());
            }
            let columns = member * layout.head_dim..(member + 1) * layout.head_dim;
            let keys = self.keys.window(0..seen, 0..layout.head_dim);
            product(self.q_gradient.window(block, columns), scores.read(), keys, 1.0, false);
            add_turned(self.k_gradient.write(), scores.read(), left);
        }
    }
}

/// `out[key, ...] += rowsᵀ · right` for the keys that the block has columns for.
fn add_turned(mut out: MatrixMut<'_>, rows: Matrix<'_>, right: Matrix<'_>) {
    let (seen, width) = (rows.columns(), right.columns());
    product(out.window(0..seen, 0..width), rows.transposed(), right, 1.0, true);
}
