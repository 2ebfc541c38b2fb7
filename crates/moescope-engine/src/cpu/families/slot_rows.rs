//! Slot rows in the order of tokens and slots, and back.

use crate::cpu::chunks::{each, rows_per_piece};

/// Copies the named rows, each of `width` numbers, one after the other.
pub(crate) fn permute(from: &[f32], names: &[u32], out: &mut [f32]) {
    let width = (out.len() / names.len().max(1)).max(1);
    each(out, rows_per_piece(width) * width, |start, out| {
        for (out, &row) in out.chunks_exact_mut(width).zip(&names[start / width..]) {
            out.copy_from_slice(&from[row as usize * width..][..width]);
        }
    });
}
