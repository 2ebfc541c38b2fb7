//! The rotary turn of part of each head.

use crate::cpu::chunks::{each, rows_per_piece};
use crate::{Rotary, RotaryPairs, RotaryPart};

pub(crate) fn forward(x: &[f32], rotary: &Rotary, part: RotaryPart, out: &mut [f32]) {
    let width = (part.heads * part.head_dim).max(1);
    each(out, rows_per_piece(width) * width, |start, out| {
        out.copy_from_slice(&x[start..][..out.len()]);
        turn_rows(out, start / width, rotary, part, 1.0);
    });
}

pub(crate) fn backward(rotary: &Rotary, part: RotaryPart, gradient: &mut [f32]) {
    let width = (part.heads * part.head_dim).max(1);
    each(gradient, rows_per_piece(width) * width, |start, gradient| {
        turn_rows(gradient, start / width, rotary, part, -1.0);
    });
}

/// Turns token rows from number `first` on, in place.
fn turn_rows(rows: &mut [f32], first: usize, rotary: &Rotary, part: RotaryPart, direction: f32) {
    let (width, half) = (part.heads * part.head_dim, rotary.head_dim() / 2);
    for (row, tokens) in (first..).zip(rows.chunks_exact_mut(width)) {
        let start = (row % part.positions) * half;
        let (cosine, sine) = (&rotary.cosine()[start..][..half], &rotary.sine()[start..][..half]);
        for head in tokens.chunks_exact_mut(part.head_dim) {
            turn(&mut head[part.start..part.start + 2 * half], cosine, sine, part.pairs, direction);
        }
    }
}

/// Turns the pairs of one part; `cosine` and `sine` have an entry for each pair.
fn turn(x: &mut [f32], cosine: &[f32], sine: &[f32], pairs: RotaryPairs, direction: f32) {
    for pair in 0..cosine.len() {
        let (first, second) = match pairs {
            RotaryPairs::Halves => (pair, pair + cosine.len()),
            RotaryPairs::Neighbours => (2 * pair, 2 * pair + 1),
        };
        let (a, b, sine) = (x[first], x[second], direction * sine[pair]);
        x[first] = a.mul_add(cosine[pair], -(b * sine));
        x[second] = b.mul_add(cosine[pair], a * sine);
    }
}
