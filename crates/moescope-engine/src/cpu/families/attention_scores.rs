//! Scores of queries and keys: scaled, capped, and minus infinity wherever a query does not see a key.

use std::ops::Range;

use crate::cpu::chunks::run;
use crate::cpu::matrix::{Matrix, MatrixMut};
use crate::cpu::product::product;
use crate::{AttentionLayout, AttentionRule};

/// Queries of a block: small enough to skip most of what is not seen, large enough for the product.
const BLOCK: usize = 64;

/// Blocks of queries, each with the keys that any of them sees.
fn blocks(rule: AttentionRule) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let positions = rule.layout.positions;
    (0..positions).step_by(BLOCK).map(move |first| {
        let last = (first + BLOCK).min(positions);
        (first..last, rule.seen(first).start..last)
    })
}

/// One head's columns of one sequence in a token matrix with `heads` heads: `[position, head_dim]`.
fn head(data: &[f32], layout: AttentionLayout, heads: usize, sequence: usize, head: usize) -> Matrix<'_> {
    let (size, positions) = (layout.head_dim, layout.positions);
    Matrix::new(data, layout.tokens(), heads * size)
        .window(sequence * positions..(sequence + 1) * positions, head * size..(head + 1) * size)
}

pub(crate) fn forward(q: &[f32], k: &[f32], rule: AttentionRule, out: &mut [f32]) {
    let layout = rule.layout;
    let square = (layout.positions * layout.positions).max(1);
    let tasks: Vec<_> = out.chunks_mut(square).enumerate().collect();
    run(tasks, |(task, out)| {
        let (sequence, number) = (task / layout.heads, task % layout.heads);
        let queries = head(q, layout, layout.heads, sequence, number);
        let keys = head(k, layout, layout.key_value_heads, sequence, number / layout.group());
        out.fill(f32::NEG_INFINITY);
        score(queries, keys, rule, out);
        for (query, row) in out.chunks_exact_mut(layout.positions).enumerate() {
            row[query + 1..].fill(f32::NEG_INFINITY);
            let seen = rule.seen(query);
            row[..seen.start].fill(f32::NEG_INFINITY);
            if let Some(cap) = rule.cap {
                row[seen].iter_mut().for_each(|score| *score = cap * libm::tanhf(*score / cap));
            }
        }
    });
}

/// Scaled products of one head, `[query, key]`; keys that no query of a block sees are left as they are.
fn score(queries: Matrix<'_>, keys: Matrix<'_>, rule: AttentionRule, out: &mut [f32]) {
    let layout = rule.layout;
    let mut out = MatrixMut::new(out, layout.positions, layout.positions);
    for (block, seen) in blocks(rule) {
        let left = queries.window(block.clone(), 0..layout.head_dim);
        let right = keys.window(seen.clone(), 0..layout.head_dim).transposed();
        product(out.window(block, seen), left, right, rule.scale, false);
    }
}

/// The gradient of a key sums over the query heads of its group inside one task, in order.
pub(crate) fn backward(
    (q, k): (&[f32], &[f32]),
    gradient: &mut [f32],
    rule: AttentionRule,
    q_gradient: &mut [f32],
    k_gradient: &mut [f32],
) {
    let layout = rule.layout;
    let group = layout.group() * layout.positions * layout.positions;
    let tiles = |data, heads: usize| {
        let width = layout.key_value_heads * heads * layout.head_dim;
        MatrixMut::new(data, layout.tokens(), width).tiles(layout.positions, heads * layout.head_dim)
    };
    let outputs = tiles(q_gradient, layout.group()).into_iter().zip(tiles(k_gradient, 1));
    let tasks: Vec<_> = gradient.chunks_mut(group.max(1)).zip(outputs).enumerate().collect();
    run(tasks, |(task, (gradient, outputs))| {
        let (sequence, shared) = (task / layout.key_value_heads, task % layout.key_value_heads);
        group_backward((q, k), gradient, rule, (sequence, shared), outputs);
    });
}

/// All heads that share one key head, in one sequence.
fn group_backward(
    (q, k): (&[f32], &[f32]),
    gradient: &mut [f32],
    rule: AttentionRule,
    (sequence, shared): (usize, usize),
    (mut q_gradient, mut k_gradient): (MatrixMut<'_>, MatrixMut<'_>),
) {
    let (layout, all) = (rule.layout, 0..rule.layout.head_dim);
    let keys = head(k, layout, layout.key_value_heads, sequence, shared);
    (0..layout.positions).for_each(|row| k_gradient.row(row).fill(0.0));
    for (member, gradient) in gradient.chunks_exact_mut(layout.positions * layout.positions).enumerate() {
        let queries = head(q, layout, layout.heads, sequence, shared * layout.group() + member);
        uncap(queries, keys, rule, gradient);
        let columns = member * layout.head_dim..(member + 1) * layout.head_dim;
        let gradient = Matrix::new(gradient, layout.positions, layout.positions);
        for (block, seen) in blocks(rule) {
            let scores = gradient.window(block.clone(), seen.clone());
            let out = q_gradient.window(block.clone(), columns.clone());
            product(out, scores, keys.window(seen.clone(), all.clone()), rule.scale, false);
            let out = k_gradient.window(seen, all.clone());
            product(out, scores.transposed(), queries.window(block, all.clone()), rule.scale, true);
        }
    }
}

/// From the gradient of capped scores to that of plain ones, in place, and zero for keys that are not seen. The scores are worked
/// out again, which is cheaper than keeping them.
fn uncap(queries: Matrix<'_>, keys: Matrix<'_>, rule: AttentionRule, gradient: &mut [f32]) {
    let positions = rule.layout.positions;
    let plain = rule.cap.map(|cap| {
        let mut plain = vec![0.0; positions * positions];
        score(queries, keys, rule, &mut plain);
        (cap, plain)
    });
    for (query, row) in gradient.chunks_exact_mut(positions).enumerate() {
        let seen = rule.seen(query);
        row[..seen.start].fill(0.0);
        row[seen.end..].fill(0.0);
        let Some((cap, plain)) = &plain else { continue };
        for (gradient, score) in row[seen.clone()].iter_mut().zip(&plain[query * positions..][seen]) {
            let bend = libm::tanhf(score / cap);
            *gradient *= 1.0 - bend * bend;
        }
    }
}
