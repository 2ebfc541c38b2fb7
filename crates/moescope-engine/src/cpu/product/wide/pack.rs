//! The right side of a product, laid out in the order in which tiles read it.
//!
//! A panel holds [`COLUMNS`] columns: step after step, the columns side by side, zeros for columns that there are not. It begins
//! at a cache line, so that no vector of it crosses one.
#![allow(unsafe_code)]

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use super::kernel::COLUMNS;
use super::panels::LINE;
use super::{LANES, ROWS, RightSide, Steps, lanes, load_masked, mul, splat, store, turn_square, zero};
use crate::cpu::matrix::Matrix;

/// Some steps of a side that lies step by step, from some column on.
#[derive(Clone, Copy)]
pub(super) struct StepRows<'a> {
    source: *const f32,
    stride: usize,
    steps: Steps<'a>,
}

impl<'a> StepRows<'a> {
    /// `count` steps from `start` on.
    pub(super) fn new(
        matrix: Matrix<'_>,
        steps: Steps<'a>,
        (start, count): (usize, usize),
        column: usize,
    ) -> Self {
        let names = steps.names.map(|names| &names[start..start + count]);
        let factors = steps.factors.map(|factors| &factors[start..start + count]);
        let skipped = if names.is_some() { 0 } else { start };
        let source = matrix.pointer.wrapping_add(skipped * matrix.row_stride + column);
        Self { source, stride: matrix.row_stride, steps: Steps { names, factors } }
    }

    /// Where a step begins.
    #[inline(always)]
    pub(super) fn at(&self, step: usize) -> *const f32 {
        let row = self.steps.names.map_or(step, |names| names[step] as usize);
        self.source.wrapping_add(row * self.stride)
    }

    #[inline(always)]
    fn factor(&self, step: usize) -> f32 {
        self.steps.factors.map_or(1.0, |factors| factors[step])
    }
}

/// Packs the steps from `start` on of the columns from `first` on.
///
/// # Safety
/// The machine can; the rectangle lies inside the right side, names name rows that there are, and `panels` has room for
/// `steps` rows of all panels.
pub(super) unsafe fn right(
    right: RightSide<'_>,
    (start, steps): (usize, usize),
    (first, columns): (usize, usize),
    panels: *mut f32,
) {
    match right {
        RightSide::ByStep(matrix, named) => {
            let rows = StepRows::new(matrix, named, (start, steps), first);
            // SAFETY: as the caller promises.
            unsafe { copy(rows, (steps, columns), panels) };
        }
        RightSide::ByColumn(matrix) => {
            let source = matrix.pointer.wrapping_add(first * matrix.row_stride + start);
            // SAFETY: as above.
            unsafe { turn(source, matrix.row_stride, (steps, columns), panels) };
        }
    }
}

on_machine! {
    /// Copies rows `[step, column]` into panels, each times its factor.
    ///
    /// # Safety
    /// The machine can; there are `steps` steps of `columns` numbers, and `panels` has room
    /// for `steps` rows of all panels.
    unsafe fn copy(rows: StepRows<'_>, (steps, columns): (usize, usize), panels: *mut f32) {
        for step in 0..steps {
            let (row, factor) = (rows.at(step), splat(rows.factor(step)));
            for (panel, first) in (0..columns).step_by(COLUMNS).enumerate() {
                for half in 0..2 {
                    let place = first + half * LANES;
                    let mask = lanes(columns.saturating_sub(place));
                    // SAFETY: lanes past the last column are masked; the panel has room for the whole row.
                    unsafe {
                        let to = panels.add((panel * steps + step) * COLUMNS + half * LANES);
                        let numbers = load_masked(mask, row.wrapping_add(place));
                        store(to, mul(numbers, factor));
                    }
                }
            }
        }
    }
}

/// Numbers from one step of a strip to the next.
pub(super) const STRIP: usize = LANES;

/// Steps that are called for ahead: they are far apart, where the processor does not see them come.
const AHEAD: usize = 6;

/// Calls for a step of a left side, if there is such a one.
#[inline(always)]
fn call_step(left: StepRows<'_>, (step, steps): (usize, usize), rows: usize) {
    if step < steps {
        let from = left.at(step);
        for first in (0..rows).step_by(LINE) {
            // SAFETY: a hint, which no address harms.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(first).cast()) };
        }
    }
}

on_machine! {
    /// Copies rows `[step, row]` of a left side, each times its factor, into strips: [`ROWS`] rows side by side, step after step, zeros
    /// beside them.
    ///
    /// All strips at once, so that what is far apart is visited once.
    ///
    /// # Safety
    /// As for [`copy`], with room for `steps` steps of all strips.
    pub(super) unsafe fn strips(left: StepRows<'_>, (steps, rows): (usize, usize), strips: *mut f32) {
        for step in 0..steps {
            let (from, factor) = (left.at(step), splat(left.factor(step)));
            call_step(left, (step + AHEAD, steps), rows);
            for (strip, first) in (0..rows).step_by(ROWS).enumerate() {
                let mask = lanes((rows - first).min(ROWS));
                // SAFETY: lanes past the rows are masked, and a step has room for a vector.
                unsafe {
                    let to = strips.add((strip * steps + step) * STRIP);
                    let numbers = load_masked(mask, from.wrapping_add(first));
                    store(to, mul(numbers, factor));
                }
            }
        }
    }
}

on_machine! {
    /// Turns rows `[column, step]` that are `stride` apart over into panels.
    ///
    /// # Safety
    /// As for [`copy`], with `columns` rows of `steps` numbers.
    unsafe fn turn(source: *const f32, stride: usize, (steps, columns): (usize, usize), panels: *mut f32) {
        for (half, first) in (0..columns.next_multiple_of(COLUMNS)).step_by(LANES).enumerate() {
            let (panel, side) = (half / 2, half % 2);
            for start in (0..steps).step_by(LANES) {
                let mut square = [zero(); LANES];
                let mask = lanes(steps - start);
                for (row, vector) in square.iter_mut().enumerate() {
                    if first + row < columns {
                        // SAFETY: the row is one of `columns`, and lanes past its end are masked.
                        *vector =
                            unsafe { load_masked(mask, source.add((first + row) * stride + start)) };
                    }
                }
                turn_square(&mut square);
                for (row, vector) in square.iter().enumerate().take(steps - start) {
                    // SAFETY: the panel has room for every step.
                    unsafe {
                        let to = panels.add((panel * steps + start + row) * COLUMNS + side * LANES);
                        store(to, *vector);
                    }
                }
            }
        }
    }
}
