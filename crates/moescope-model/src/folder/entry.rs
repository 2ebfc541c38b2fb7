//! One tensor as Hugging Face folders have it, made from whatever the files hold.

use moescope_weights::{TensorView, Weights};

use crate::ModelError;

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

    /// The numbers, or those of one index of the slowest axis, into room for exactly so many. All are finite.
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
            (Stored::Whole(name), None) => view(weights, name).read_into(out)?,
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
        let first = row.map_or(0, |row| row * out.len());
        Ok(view(weights, name).require_finite(first, out)?)
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
