//! One tensor as Hugging Face folders have it, made from whatever the files hold.

use std::ops::Range;

use moescope_weights::{TensorView, Weights};
use rayon::prelude::*;

use crate::ModelError;

/// Numbers that one task decodes: what lies in the mapped file besides is released before more of it is looked at, so this
/// bounds what the file takes of memory.
const PIECE: usize = 1 << 20;

/// One tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Lengths of the axes, slowest first.
    pub(crate) shape: Vec<usize>,
    pub(crate) stored: Stored,
}

/// Where its numbers are and in which order. Names are those of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// All numbers of a tensor, in its order.
    Whole(String),
    /// One index of the slowest axis of a tensor: an expert out of all.
    Row(String, usize),
    /// The rows of each head are stored as pairs `(i, i + half)`, one pair after the other, which is how rotary embedding over
    /// neighbours wants them; here the first halves come first.
    Pairs {
        /// Tensor of the files.
        name: String,
        /// Heads that its rows are of.
        heads: usize,
    },
    /// Two tensors `[expert, output, input]` as one, `[expert, input, output of both by turns]`; a bias has no input.
    ByTurns {
        /// Comes first.
        even: String,
        /// Comes second.
        odd: String,
    },
    /// A tensor `[expert, output, input]` as `[expert, input, output]`.
    Transposed(String),
}

impl Entry {
    /// The tensor of the files under its own name.
    pub(crate) fn whole(weights: &Weights, name: &str) -> Entry {
        Entry { shape: view(weights, name).shape().into(), stored: Stored::Whole(name.into()) }
    }

    /// Whether the rows of this tensor are rows of one tensor of the files, in its order.
    pub(crate) fn is_plain(&self, weights: &Weights) -> bool {
        matches!(&self.stored, Stored::Whole(name) if view(weights, name).shape() == self.shape)
    }

    /// Some rows of a [plain](Entry::is_plain) matrix, into room for exactly so many. All are finite.
    pub(crate) fn read_rows(
        &self,
        weights: &Weights,
        rows: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        let Stored::Whole(name) = &self.stored else {
            unreachable!("only rows of plain tensors are asked for")
        };
        read_pieces(view(weights, name), rows, out)
    }

    /// The numbers, or those of one index of the slowest axis, into room for exactly so many. All are finite.
    ///
    /// What was read of the files is no memory of this program afterwards.
    pub(crate) fn read(
        &self,
        weights: &Weights,
        row: Option<usize>,
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        let name = match &self.stored {
            Stored::Whole(name) | Stored::Row(name, _) | Stored::Transposed(name) => name,
            Stored::Pairs { name, .. } | Stored::ByTurns { even: name, .. } => name,
        };
        match (&self.stored, row) {
            (Stored::Whole(name), None) => {
                let tensor = view(weights, name);
                return read_pieces(tensor, 0..tensor.shape().first().copied().unwrap_or(1), out);
            }
            (Stored::Whole(name), Some(_)) if view(weights, name).shape() == self.shape => {
                read_rows(view(weights, name), row, out)?;
            }
            (Stored::Row(name, expert), None) => view(weights, name).read_rows(*expert..expert + 1, out)?,
            (Stored::Pairs { name, heads }, None) => {
                let stored = view(weights, name).read()?;
                let row = stored.len() / self.shape[0].max(1);
                first_halves_first(&stored, *heads, row, out);
            }
            (Stored::Whole(_) | Stored::Row(..) | Stored::Pairs { .. }, Some(row)) => {
                let mut whole = vec![0.0; self.shape.iter().product()];
                self.read(weights, None, &mut whole)?;
                out.copy_from_slice(&whole[row * out.len()..(row + 1) * out.len()]);
            }
            (Stored::ByTurns { even, odd }, _) => {
                for (turn, name) in [even, odd].into_iter().enumerate() {
                    self.read_transposed(weights, name, row, (2, turn), out)?;
                }
            }
            (Stored::Transposed(name), _) => self.read_transposed(weights, name, row, (1, 0), out)?,
        }
        self.release(weights, row);
        let first = row.map_or(0, |row| row * out.len());
        Ok(view(weights, name).require_finite(first, out)?)
    }

    /// Lets the system take back what was read of the files.
    fn release(&self, weights: &Weights, row: Option<usize>) {
        let rows = row.map_or(0..usize::MAX, |row| row..row + 1);
        match &self.stored {
            Stored::Row(name, expert) => view(weights, name).release(*expert..expert + 1),
            Stored::Whole(name) | Stored::Transposed(name) => view(weights, name).release(rows),
            Stored::Pairs { name, .. } => view(weights, name).release(0..usize::MAX),
            Stored::ByTurns { even, odd } => {
                view(weights, even).release(rows.clone());
                view(weights, odd).release(rows);
            }
        }
    }

    /// Writes a tensor `[expert, output, input]` as `[expert, input, output]`, every output `turns` places after the one before,
    /// beginning at `turn`.
    fn read_transposed(
        &self,
        weights: &Weights,
        name: &str,
        row: Option<usize>,
        (turns, turn): (usize, usize),
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        let mut stored = vec![0.0; out.len() / turns];
        read_rows(view(weights, name), row, &mut stored)?;
        let across = *self.shape.last().expect("a tensor of experts has axes");
        let (inputs, outputs) = (if self.shape.len() == 3 { self.shape[1] } else { 1 }, across / turns);
        let experts = stored.chunks_exact(inputs * outputs).zip(out.chunks_exact_mut(inputs * across));
        for (stored, out) in experts {
            for (output, weights) in stored.chunks_exact(inputs).enumerate() {
                for (input, weight) in weights.iter().enumerate() {
                    out[input * across + output * turns + turn] = *weight;
                }
            }
        }
        Ok(())
    }
}

/// Rows of a tensor, a piece of them for each task; the first of all complaints is returned, whichever task comes to its own first.
fn read_pieces(tensor: TensorView<'_>, rows: Range<usize>, out: &mut [f32]) -> Result<(), ModelError> {
    if tensor.shape().len() < 2 || out.is_empty() {
        tensor.read_into(out)?;
        return Ok(tensor.require_finite(0, out)?);
    }
    let row = out.len() / rows.len();
    let together = (PIECE / row).max(1);
    let read = |(piece, out): (usize, &mut [f32])| {
        let first = rows.start + piece * together;
        let rows = first..first + out.len() / row;
        tensor.read_rows(rows.clone(), out)?;
        tensor.release(rows);
        Ok(tensor.require_finite(first * row, out)?)
    };
    let outcomes: Vec<Result<(), ModelError>> =
        out.par_chunks_mut(together * row).enumerate().map(read).collect();
    outcomes.into_iter().collect()
}

/// All rows, or one.
fn read_rows(tensor: TensorView<'_>, row: Option<usize>, out: &mut [f32]) -> Result<(), ModelError> {
    match row {
        None => tensor.read_into(out)?,
        Some(row) => tensor.read_rows(row..row + 1, out)?,
    }
    Ok(())
}

/// A tensor that an entry leads to.
fn view<'w>(weights: &'w Weights, stored: &str) -> TensorView<'w> {
    weights.get(stored).expect("entries are made from the names of the weights")
}

/// Rows of heads from pairs `(i, i + half)` to first halves before second halves; `row` numbers each.
fn first_halves_first(stored: &[f32], heads: usize, row: usize, out: &mut [f32]) {
    let half = stored.len() / (heads * row * 2).max(1);
    for (place, out) in out.chunks_exact_mut(row.max(1)).enumerate() {
        let (head, within) = (place / (2 * half), place % (2 * half));
        let from = head * 2 * half + within % half * 2 + within / half;
        out.copy_from_slice(&stored[from * row..(from + 1) * row]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_taken_apart_head_by_head() {
        // Two heads of four rows of one number: the pairs are (0, 2) and (1, 3).
        let stored = [0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0];
        let mut out = [0.0; 8];
        first_halves_first(&stored, 2, 1, &mut out);
        assert_eq!(out, [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]);
    }
}
