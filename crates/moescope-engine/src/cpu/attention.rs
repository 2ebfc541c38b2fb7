//! Causal attention: one task for each sequence and key-value head, in blocks of queries that stop at the diagonal.

use std::ops::Range;

use super::chunks::run;
use super::matrix::{Matrix, MatrixMut};
use super::product::product;
use super::vector::{dot, exp_in_place, largest, vectorised};
use crate::{AttentionLayout, MixReach};

/// Queries of a block: small enough to skip most of the future, large enough for the product, and whole tiles of it.
pub(super) const BLOCK: usize = 48;

/// What a task sees of its sequence.
///
/// One key-value head with the query heads that share it; `shared` is its number.
pub(super) struct Heads {
    layout: AttentionLayout,
    sequence: usize,
    shared: usize,
}

impl Heads {
    /// The task of this index: sequences outside, key-value heads inside.
    pub(super) fn new(layout: AttentionLayout, task: usize) -> Self {
        let (sequence, shared) = (task / layout.key_value_heads, task % layout.key_value_heads);
        Self { layout, sequence, shared }
    }

    /// Token rows of the sequence.
    fn tokens(&self) -> Range<usize> {
        self.sequence * self.layout.positions..(self.sequence + 1) * self.layout.positions
    }

    /// Head `head` of a token matrix with `heads` heads: `[position, head_dim]`.
    fn head<'a>(&self, data: &'a [f32], heads: usize, head: usize) -> Matrix<'a> {
        let size = self.layout.head_dim;
        Matrix::new(data, self.layout.tokens(), heads * size)
            .window(self.tokens(), head * size..(head + 1) * size)
    }

    /// The query head that is number `member` of this group.
    pub(super) fn query_head<'a>(&self, data: &'a [f32], member: usize) -> Matrix<'a> {
        self.head(data, self.layout.heads, self.shared * self.layout.group() + member)
    }

    /// The key-value head of this group: `[position, head_dim]`.
    pub(super) fn shared_head<'a>(&self, data: &'a [f32]) -> Matrix<'a> {
        self.head(data, self.layout.key_value_heads, self.shared)
    }

    /// This group's patterns: `[member * query, key]`.
    fn patterns<'a>(&self, data: &'a [f32]) -> Matrix<'a> {
        let length = self.layout.group() * self.layout.positions;
        let task = self.sequence * self.layout.key_value_heads + self.shared;
        let rows = self.layout.tokens() * self.layout.heads;
        Matrix::new(data, rows, self.layout.positions)
            .window(task * length..(task + 1) * length, 0..self.layout.positions)
    }
}

/// Blocks of queries, each with the number of keys that it sees.
pub(super) fn blocks(positions: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
    (0..positions).step_by(BLOCK).map(move |first| {
        let last = (first + BLOCK).min(positions);
        (first..last, last)
    })
}

/// The same queries further down, where those of another head of the group lie.
fn shift(range: &Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

/// Cuts `[batch, head, query, key]` into one matrix for each task: `[member * query, key]`.
fn pattern_tasks(data: &mut [f32], layout: AttentionLayout) -> Vec<MatrixMut<'_>> {
    let rows = layout.tokens() * layout.heads;
    MatrixMut::new(data, rows, layout.positions).tiles(layout.group() * layout.positions, layout.positions)
}

/// Cuts a token matrix into one matrix for each task, with `heads` heads of a token in each.
pub(super) fn token_tasks(data: &mut [f32], layout: AttentionLayout, heads: usize) -> Vec<MatrixMut<'_>> {
    let width = layout.key_value_heads * heads * layout.head_dim;
    MatrixMut::new(data, layout.tokens(), width).tiles(layout.positions, heads * layout.head_dim)
}

/// Scores of a block of queries as one product, then a softmax for each query over the keys that it may see.
pub(super) fn attention_pattern(q: &[f32], k: &[f32], layout: AttentionLayout, out: &mut [f32]) {
    let scale = layout.scale();
    let tasks: Vec<_> = pattern_tasks(out, layout).into_iter().enumerate().collect();
    run(tasks, |(task, mut out)| {
        let heads = Heads::new(layout, task);
        let keys = heads.shared_head(k);
        for member in 0..layout.group() {
            let queries = heads.query_head(q, member);
            for (block, seen) in blocks(layout.positions) {
                let rows = shift(&block, member * layout.positions);
                let left = queries.window(block.clone(), 0..layout.head_dim);
                let right = keys.window(0..seen, 0..layout.head_dim).transposed();
                product(out.window(rows.clone(), 0..seen), left, right, scale, false);
                for (query, row) in block.zip(rows) {
                    normalise_row(out.row(row), query + 1);
                }
            }
        }
    });
}

/// Entries that a softmax over `seen` of `all` entries works on: whole vectors.
pub(super) fn softmax_width(seen: usize, all: usize) -> usize {
    const WHOLE: usize = 32;
    seen.next_multiple_of(WHOLE).min(all)
}

/// Softmax of the first `seen` entries, in place; zeros after.
///
/// A few entries of the future go through the exponential as minus infinity and come out as zero: whole vectors are faster
/// than a remainder number by number.
pub(super) fn normalise_row(row: &mut [f32], seen: usize) {
    let padded = softmax_width(seen, row.len());
    row[seen..padded].fill(f32::NEG_INFINITY);
    row[padded..].fill(0.0);
    softmax_in_place(&mut row[..padded]);
}

vectorised! {
    /// The largest entry is taken off first, so that no exponential overflows.
    fn softmax_in_place<'a>(row: &'a mut [f32]) {
        let highest = largest(row);
        let scale = 1.0 / exp_in_place(row, highest);
        for entry in row {
            *entry *= scale;
        }
    }
}

/// `gradient` becomes that of the scores; then two products, with the keys and with the queries.
///
/// The gradient of a key sums over the query heads of its group inside one task, in order.
pub(super) fn attention_pattern_backward(
    (q, k): (&[f32], &[f32]),
    pattern: &[f32],
    gradient: &mut [f32],
    layout: AttentionLayout,
    q_gradient: &mut [f32],
    k_gradient: &mut [f32],
) {
    let scale = layout.scale();
    let gradients = pattern_tasks(gradient, layout).into_iter();
    let outputs =
        token_tasks(q_gradient, layout, layout.group()).into_iter().zip(token_tasks(k_gradient, layout, 1));
    let tasks: Vec<_> = gradients.zip(outputs).enumerate().collect();
    run(tasks, |(task, (mut gradient, (mut q_gradient, mut k_gradient)))| {
        let heads = Heads::new(layout, task);
        let (patterns, keys) = (heads.patterns(pattern), heads.shared_head(k));
        clear(&mut k_gradient);
        for member in 0..layout.group() {
            let queries = heads.query_head(q, member);
            let columns = member * layout.head_dim..(member + 1) * layout.head_dim;
            for (block, seen) in blocks(layout.positions) {
                let rows = shift(&block, member * layout.positions);
                for row in rows.clone() {
                    softmax_gradient(&patterns.row(row)[..seen], &mut gradient.row(row)[..seen], scale);
                }
                let scores = gradient.window(rows, 0..seen);
                let all = 0..layout.head_dim;
                let out = q_gradient.window(block.clone(), columns.clone());
                product(out, scores.read(), keys.window(0..seen, all.clone()), 1.0, false);
                let out = k_gradient.window(0..seen, all.clone());
                product(out, scores.read().transposed(), queries.window(block, all), 1.0, true);
            }
        }
    });
}

vectorised! {
    /// From the gradient of a pattern row to that of its scores, in place; zero wherever the pattern is.
    pub(super) fn softmax_gradient<'a>(pattern: &'a [f32], gradient: &'a mut [f32], scale: f32) {
        let mean = dot(pattern, gradient);
        for (gradient, &pattern) in gradient.iter_mut().zip(pattern) {
            *gradient = scale * pattern * (*gradient - mean);
        }
    }
}

/// Zeros, where products will be added.
fn clear(matrix: &mut MatrixMut<'_>) {
    for row in 0..matrix.rows() {
        matrix.row(row).fill(0.0);
    }
}

/// One product for each block of queries; a causal one stops at the last key that any of them sees.
pub(super) fn attention_mix(
    pattern: &[f32],
    v: &[f32],
    layout: AttentionLayout,
    causal: bool,
    out: &mut [f32],
) {
    let tasks: Vec<_> = token_tasks(out, layout, layout.group()).into_iter().enumerate().collect();
    run(tasks, |(task, mut out)| {
        let heads = Heads::new(layout, task);
        let (patterns, values) = (heads.patterns(pattern), heads.shared_head(v));
        for member in 0..layout.group() {
            let columns = member * layout.head_dim..(member + 1) * layout.head_dim;
            for (block, seen) in blocks(layout.positions) {
                let seen = if causal { seen } else { layout.positions };
                let left = patterns.window(shift(&block, member * layout.positions), 0..seen);
                let right = values.window(0..seen, 0..layout.head_dim);
                product(out.window(block, columns.clone()), left, right, 1.0, false);
            }
        }
    });
}

/// Either gradient alone or both, as they are wanted.
pub(super) fn attention_mix_backward(
    (pattern, v): (&[f32], &[f32]),
    gradient: &[f32],
    layout: AttentionLayout,
    reach: MixReach,
    pattern_gradient: Option<&mut [f32]>,
    v_gradient: Option<&mut [f32]>,
) {
    if let Some(out) = pattern_gradient {
        mix_backward_pattern(v, gradient, layout, reach, out);
    }
    if let Some(out) = v_gradient {
        mix_backward_values(pattern, gradient, layout, reach, out);
    }
}

/// `gradient · vᵀ`. Keys up to the diagonal block and keys after it are separate products, so that the former have the same
/// bits whether or not someone looks at the latter.
fn mix_backward_pattern(
    v: &[f32],
    gradient: &[f32],
    layout: AttentionLayout,
    reach: MixReach,
    out: &mut [f32],
) {
    let tasks: Vec<_> = pattern_tasks(out, layout).into_iter().enumerate().collect();
    run(tasks, |(task, mut out)| {
        let heads = Heads::new(layout, task);
        let values = heads.shared_head(v);
        for member in 0..layout.group() {
            let upstream = heads.query_head(gradient, member);
            for (block, seen) in blocks(layout.positions) {
                let rows = shift(&block, member * layout.positions);
                let left = upstream.window(block.clone(), 0..layout.head_dim);
                let past = values.window(0..seen, 0..layout.head_dim).transposed();
                product(out.window(rows.clone(), 0..seen), left, past, 1.0, false);
                if reach.full && seen < layout.positions {
                    let future = values.window(seen..layout.positions, 0..layout.head_dim).transposed();
                    product(out.window(rows, seen..layout.positions), left, future, 1.0, false);
                } else if !reach.full {
                    rows.for_each(|row| out.row(row)[seen..].fill(0.0));
                }
            }
        }
    });
}

/// `patternᵀ · gradient`, summed over the query heads of a group in order.
fn mix_backward_values(
    pattern: &[f32],
    gradient: &[f32],
    layout: AttentionLayout,
    reach: MixReach,
    out: &mut [f32],
) {
    let tasks: Vec<_> = token_tasks(out, layout, 1).into_iter().enumerate().collect();
    run(tasks, |(task, mut out)| {
        let heads = Heads::new(layout, task);
        let patterns = heads.patterns(pattern);
        clear(&mut out);
        for member in 0..layout.group() {
            let upstream = heads.query_head(gradient, member);
            for (block, seen) in blocks(layout.positions) {
                let seen = if reach.causal { seen } else { layout.positions };
                let weights = patterns.window(shift(&block, member * layout.positions), 0..seen).transposed();
                let right = upstream.window(block, 0..layout.head_dim);
                product(out.window(0..seen, 0..layout.head_dim), weights, right, 1.0, true);
            }
        }
    });
}
