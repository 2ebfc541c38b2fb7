//! The numbers of a parameter, put together from wherever they lie.

use std::ops::Range;

use moescope_engine::Tensor;
use rayon::prelude::*;

use super::sources::{RowsOf, Source};
use super::tensors::Tensors;
use crate::ModelError;

/// The numbers of one parameter of this shape.
pub(super) fn gather(tensors: &Tensors, source: &Source, shape: &[usize]) -> Result<Tensor, ModelError> {
    let mut numbers = vec![0.0; shape.iter().product()];
    match source {
        Source::Whole(name) => tensors.read_into(name, &mut numbers)?,
        Source::Experts(names) => {
            let size = numbers.len() / names.len();
            for (name, expert) in names.iter().zip(numbers.chunks_exact_mut(size)) {
                tensors.read_into(name, expert)?;
            }
        }
        Source::Rows(rows) => gather_rows(tensors, rows, &mut numbers)?,
    }
    Ok(Tensor::new(shape, numbers)?)
}

/// Some rows of a matrix of this shape; the others are not looked at where the files allow it: see [`scratch`].
pub(super) fn gather_outputs(
    tensors: &Tensors,
    source: &Source,
    shape: &[usize],
    rows: Range<usize>,
) -> Result<Tensor, ModelError> {
    let columns = shape[1];
    let numbers = match source {
        Source::Whole(name) if tensors.is_plain(name) => {
            let mut numbers = vec![0.0; rows.len() * columns];
            tensors.read_rows(name, rows.clone(), &mut numbers)?;
            numbers
        }
        source => gather(tensors, source, shape)?.data()[rows.start * columns..rows.end * columns].to_vec(),
    };
    Ok(Tensor::new([rows.len(), columns], numbers)?)
}

/// Of a parameter `[expert, ...]` the matrices or biases of some experts. Those that are not `wanted` are not read and stay zeros.
pub(super) fn gather_experts(
    tensors: &Tensors,
    source: &Source,
    shape: &[usize],
    experts: Range<usize>,
    wanted: &(dyn Fn(usize) -> bool + Sync),
) -> Result<Tensor, ModelError> {
    let size: usize = shape[1..].iter().product();
    let mut numbers = vec![0.0; experts.len() * size];
    let each = (experts.clone()).zip(numbers.chunks_exact_mut(size)).filter(|(expert, _)| wanted(*expert));
    match source {
        // One after the other, because each takes memory besides.
        Source::Rows(rows) => {
            let leading = rows.leading.expect("a tensor of experts has an axis of experts");
            let stored: usize = tensors.get(&rows.name).map_or(0, |entry| entry.shape.iter().product());
            let mut one = vec![0.0; stored / leading];
            for (expert, out) in each {
                tensors.read_row(&rows.name, expert, &mut one)?;
                rows.pick(&one, out);
            }
        }
        Source::Whole(name) => {
            let all: Vec<_> = each.collect();
            let read = |(expert, out)| tensors.read_row(name, expert, out);
            all.into_par_iter().map(read).collect::<Vec<_>>().into_iter().collect::<Result<(), _>>()?;
        }
        Source::Experts(names) => {
            for (expert, out) in each {
                tensors.read_into(&names[expert], out)?;
            }
        }
    }
    let mut shape = shape.to_vec();
    shape[0] = experts.len();
    Ok(Tensor::new(shape, numbers)?)
}

/// Numbers that reading a parameter of this shape, or any part of it, holds at a time besides the result.
pub(super) fn scratch(tensors: &Tensors, source: &Source, shape: &[usize]) -> u64 {
    let whole = shape.iter().product::<usize>() as u64;
    match source {
        Source::Experts(_) => 0,
        Source::Whole(name) if tensors.is_plain(name) => 0,
        // The tensor as it is stored, and all of the result, of which a part is then copied.
        Source::Whole(_) => 2 * whole,
        Source::Rows(rows) => {
            let stored: usize = tensors.get(&rows.name).map_or(0, |entry| entry.shape.iter().product());
            match rows.leading {
                Some(experts) => 2 * (stored / experts) as u64,
                None => 2 * stored as u64 + whole,
            }
        }
    }
}

/// Rows of a tensor, expert by expert where there is an axis of experts, so that only one of them is held twice.
fn gather_rows(tensors: &Tensors, rows: &RowsOf, out: &mut [f32]) -> Result<(), ModelError> {
    let whole = out.len() / rows.own * rows.of;
    let stored: usize = tensors.get(&rows.name).map_or(0, |entry| entry.shape.iter().product());
    debug_assert_eq!(whole, stored, "the shape was checked");
    // A matrix or a bias of one expert, or all of the tensor where there are no experts.
    let leading = match rows.leading {
        Some(experts) => experts,
        None => {
            let mut all = vec![0.0; stored];
            tensors.read_into(&rows.name, &mut all)?;
            rows.pick(&all, out);
            return Ok(());
        }
    };
    let mut one = vec![0.0; stored / leading];
    for (expert, out) in out.chunks_exact_mut(out.len() / leading).enumerate() {
        tensors.read_row(&rows.name, expert, &mut one)?;
        rows.pick(&one, out);
    }
    Ok(())
}

impl RowsOf {
    /// Copies the rows of ours out of all rows of a matrix, or entries out of a vector.
    fn pick(&self, all: &[f32], out: &mut [f32]) {
        let columns = out.len() / (self.groups * self.own);
        let stored = self.groups * self.of;
        for (row, out) in out.chunks_exact_mut(columns).enumerate() {
            let place = row / self.own * self.of + self.start + row % self.own;
            match self.transposed {
                false => out.copy_from_slice(&all[place * columns..(place + 1) * columns]),
                true => {
                    for (column, out) in out.iter_mut().enumerate() {
                        *out = all[column * stored + place];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_picked_from_groups_and_columns() {
        let rows = |transposed, groups, of, start, own| RowsOf {
            name: String::new(),
            leading: None,
            transposed,
            groups,
            of,
            start,
            own,
        };
        let all: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut out = [0.0; 4];
        // Two groups of three rows of two numbers: the last of each.
        rows(false, 2, 3, 2, 1).pick(&all, &mut out);
        assert_eq!(out, [4.0, 5.0, 10.0, 11.0]);
        // The same as columns: row three is column two and column five of a matrix of two rows.
        rows(true, 2, 3, 2, 1).pick(&all, &mut out);
        assert_eq!(out, [2.0, 8.0, 5.0, 11.0]);
        // Entries of a vector by turns.
        rows(false, 4, 2, 1, 1).pick(&all[..8], &mut out);
        assert_eq!(out, [1.0, 3.0, 5.0, 7.0]);
    }
}
