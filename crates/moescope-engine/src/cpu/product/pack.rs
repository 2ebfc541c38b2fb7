//! The right side of a product, laid out in the order in which tiles read it.
//!
//! A panel holds [`COLUMNS`] columns: step after step, the columns side by side, zeros for columns that there are not. It begins
//! at a cache line, so that no vector of it crosses one.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512, __mmask16, _MM_HINT_T0, _mm_prefetch, _mm512_castpd_ps, _mm512_castps_pd, _mm512_maskz_loadu_ps,
    _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps,
    _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use super::kernel::{COLUMNS, ROWS};
use super::{RightSide, Steps};
use crate::cpu::matrix::Matrix;

/// Side of the squares that are turned over in registers.
const SQUARE: usize = 16;

/// A lane for each of `count` numbers.
fn lanes(count: usize) -> __mmask16 {
    ((1u32 << count.min(SQUARE)) - 1) as __mmask16
}

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
/// The machine has AVX-512F; the rectangle lies inside the right side, names name rows that there are, and `panels` has room for
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

/// Copies rows `[step, column]` into panels, each times its factor.
///
/// # Safety
/// The machine has AVX-512F; there are `steps` steps of `columns` numbers, and `panels` has room
/// for `steps` rows of all panels.
#[target_feature(enable = "avx512f")]
unsafe fn copy(rows: StepRows<'_>, (steps, columns): (usize, usize), panels: *mut f32) {
    for step in 0..steps {
        let (row, factor) = (rows.at(step), _mm512_set1_ps(rows.factor(step)));
        for (panel, first) in (0..columns).step_by(COLUMNS).enumerate() {
            for half in 0..2 {
                let place = first + half * SQUARE;
                let mask = lanes(columns.saturating_sub(place));
                // SAFETY: lanes past the last column are masked; the panel has room for the whole row.
                unsafe {
                    let to = panels.add((panel * steps + step) * COLUMNS + half * SQUARE);
                    let numbers = _mm512_maskz_loadu_ps(mask, row.wrapping_add(place));
                    _mm512_storeu_ps(to, _mm512_mul_ps(numbers, factor));
                }
            }
        }
    }
}

/// Numbers from one step of a strip to the next.
pub(super) const STRIP: usize = SQUARE;

/// Steps that are called for ahead: they are far apart, where the processor does not see them come.
const AHEAD: usize = 6;

/// Calls for a step of a left side, if there is such a one.
#[inline(always)]
fn call_step(left: StepRows<'_>, (step, steps): (usize, usize), rows: usize) {
    if step < steps {
        let from = left.at(step);
        for first in (0..rows).step_by(SQUARE) {
            // SAFETY: a hint, which no address harms.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(first).cast()) };
        }
    }
}

/// Copies rows `[step, row]` of a left side, each times its factor, into strips: [`ROWS`] rows side by side, step after step, zeros
/// beside them.
///
/// All strips at once, so that what is far apart is visited once.
///
/// # Safety
/// As for [`copy`], with room for `steps` steps of all strips.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn strips(left: StepRows<'_>, (steps, rows): (usize, usize), strips: *mut f32) {
    for step in 0..steps {
        let (from, factor) = (left.at(step), _mm512_set1_ps(left.factor(step)));
        call_step(left, (step + AHEAD, steps), rows);
        for (strip, first) in (0..rows).step_by(ROWS).enumerate() {
            let mask = lanes((rows - first).min(ROWS));
            // SAFETY: lanes past the rows are masked, and a step has room for a vector.
            unsafe {
                let to = strips.add((strip * steps + step) * STRIP);
                let numbers = _mm512_maskz_loadu_ps(mask, from.wrapping_add(first));
                _mm512_storeu_ps(to, _mm512_mul_ps(numbers, factor));
            }
        }
    }
}

/// Turns rows `[column, step]` that are `stride` apart over into panels.
///
/// # Safety
/// As for [`copy`], with `columns` rows of `steps` numbers.
#[target_feature(enable = "avx512f")]
unsafe fn turn(source: *const f32, stride: usize, (steps, columns): (usize, usize), panels: *mut f32) {
    for (half, first) in (0..columns.next_multiple_of(COLUMNS)).step_by(SQUARE).enumerate() {
        let (panel, side) = (half / 2, half % 2);
        for start in (0..steps).step_by(SQUARE) {
            let mut square = [_mm512_setzero_ps(); SQUARE];
            let mask = lanes(steps - start);
            for (row, vector) in square.iter_mut().enumerate() {
                if first + row < columns {
                    // SAFETY: the row is one of `columns`, and lanes past its end are masked.
                    *vector =
                        unsafe { _mm512_maskz_loadu_ps(mask, source.add((first + row) * stride + start)) };
                }
            }
            turn_square(&mut square);
            for (row, vector) in square.iter().enumerate().take(steps - start) {
                // SAFETY: the panel has room for every step.
                unsafe {
                    let to = panels.add((panel * steps + start + row) * COLUMNS + side * SQUARE);
                    _mm512_storeu_ps(to, *vector);
                }
            }
        }
    }
}

/// Rows become columns: pairs of numbers, then of pairs, then of quarters of a vector change places.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn turn_square(square: &mut [__m512; SQUARE]) {
    let mut pairs = [_mm512_setzero_ps(); SQUARE];
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_ps(square[2 * i], square[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_ps(square[2 * i], square[2 * i + 1]);
    }
    // `fours[4 * i + j]`: rows `4 i..4 i + 4` of columns `j`, `j + 4`, `j + 8`, `j + 12`.
    let mut fours = [_mm512_setzero_ps(); SQUARE];
    for i in 0..4 {
        for j in 0..2 {
            let low = _mm512_castps_pd(pairs[4 * i + j]);
            let high = _mm512_castps_pd(pairs[4 * i + j + 2]);
            fours[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            fours[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    }
    for j in 0..4 {
        let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[j], fours[4 + j]);
        let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[j], fours[4 + j]);
        let low_after = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[8 + j], fours[12 + j]);
        let high_after = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[8 + j], fours[12 + j]);
        square[j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low, low_after);
        square[j + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low, low_after);
        square[j + 4] = _mm512_shuffle_f32x4::<0b10_00_10_00>(high, high_after);
        square[j + 12] = _mm512_shuffle_f32x4::<0b11_01_11_01>(high, high_after);
    }
}
