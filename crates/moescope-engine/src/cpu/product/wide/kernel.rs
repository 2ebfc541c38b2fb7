//! The innermost loops: a few rows of a result in registers while the inner axis runs by.
//!
//! A tile has up to [`ROWS`](super::ROWS) rows and [`COLUMNS`] columns. Each of its numbers is one chain of fused products in the order of
//! the inner axis, whatever else is in the tile.
#![allow(unsafe_code)]

use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};

use super::ahead::{Ahead, CALL_STEPS};
use super::{
    LANES, Mask, TOGETHER, Vector, fused, lanes, load, load_masked, splat, store, store_masked, turn_square,
    zero,
};

/// Columns of the widest tile.
pub(super) const COLUMNS: usize = 2 * LANES;

/// Repeats a block for each row of a tile, written out: an array whose places are all constants lies in registers, which a loop that
/// the compiler may or may not unroll does not promise.
macro_rules! each_row {
    ($row:ident < $rows:ident: $body:block) => {
        each_row!($row < $rows, 0 1 2 3 4 5 6 7 8 9 10 11: $body)
    };
    ($row:ident < $rows:ident, $($number:literal)+: $body:block) => {
        $(if $number < $rows {
            let $row: usize = $number;
            $body
        })+
    };
}

/// Rows of a matrix, one for each step of the inner axis.
pub(super) trait Walk: Copy {
    /// Whether a row goes on beyond a tile, so that its next numbers can be called for while these are used.
    const GOES_ON: bool;

    /// Where step `step` begins.
    ///
    /// # Safety
    /// There is such a step.
    unsafe fn at(self, step: usize) -> *const f32;

    /// From step `steps` on.
    fn skip(self, steps: usize) -> Self;
}

/// A packed panel: steps of [`COLUMNS`] numbers, zeros past the last column.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    pub(super) start: *const f32,
}

impl Walk for Panel {
    const GOES_ON: bool = false;

    // SAFETY: asks what the trait asks.
    #[inline(always)]
    unsafe fn at(self, step: usize) -> *const f32 {
        // SAFETY: as the caller promises.
        unsafe { self.start.add(step * COLUMNS) }
    }

    #[inline(always)]
    fn skip(self, steps: usize) -> Self {
        Self { start: self.start.wrapping_add(steps * COLUMNS) }
    }
}

/// Steps that follow each other.
#[derive(Clone, Copy)]
pub(super) struct Even {
    pub(super) start: *const f32,
    pub(super) stride: usize,
}

/// Steps that a list names.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) start: *const f32,
    pub(super) stride: usize,
    pub(super) names: *const u32,
}

impl Walk for Even {
    const GOES_ON: bool = true;

    // SAFETY: asks what the trait asks.
    #[inline(always)]
    unsafe fn at(self, step: usize) -> *const f32 {
        // SAFETY: as the caller promises.
        unsafe { self.start.add(step * self.stride) }
    }

    #[inline(always)]
    fn skip(self, steps: usize) -> Self {
        Self { start: self.start.wrapping_add(steps * self.stride), ..self }
    }
}

impl Walk for Named {
    const GOES_ON: bool = true;

    // SAFETY: asks what the trait asks.
    #[inline(always)]
    unsafe fn at(self, step: usize) -> *const f32 {
        // SAFETY: there is a name for each step, and the row that it names.
        unsafe { self.start.add(*self.names.add(step) as usize * self.stride) }
    }

    #[inline(always)]
    fn skip(self, steps: usize) -> Self {
        Self { names: self.names.wrapping_add(steps), ..self }
    }
}

/// Entries of the left side.
pub(super) trait Left<const R: usize>: Copy {
    /// Entry of row `row` at step `step`.
    ///
    /// # Safety
    /// Both lie inside the matrix.
    unsafe fn entry(&self, row: usize, step: usize) -> f32;

    /// From step `steps` on.
    fn skip(self, steps: usize) -> Self;
}

/// A left side whose rows are contiguous, wherever each of them is.
#[derive(Clone, Copy)]
pub(super) struct Rows<const R: usize>(pub(super) [*const f32; R]);

/// A left side that was packed, or whose columns are contiguous: rows lie side by side, step after step.
#[derive(Clone, Copy)]
pub(super) struct Columns<W>(pub(super) W);

impl<const R: usize> Left<R> for Rows<R> {
    // SAFETY: asks what the trait asks.
    #[inline(always)]
    unsafe fn entry(&self, row: usize, step: usize) -> f32 {
        // SAFETY: as the caller promises.
        unsafe { *self.0[row].add(step) }
    }

    #[inline(always)]
    fn skip(self, steps: usize) -> Self {
        Self(self.0.map(|row| row.wrapping_add(steps)))
    }
}

impl<const R: usize, W: Walk> Left<R> for Columns<W> {
    // SAFETY: asks what the trait asks.
    #[inline(always)]
    unsafe fn entry(&self, row: usize, step: usize) -> f32 {
        // SAFETY: as the caller promises.
        unsafe { *self.0.at(step).add(row) }
    }

    #[inline(always)]
    fn skip(self, steps: usize) -> Self {
        Self(self.0.skip(steps))
    }
}

/// Where the sums of some rows go.
#[derive(Clone, Copy)]
pub(super) struct Target<const R: usize> {
    /// Where each row begins; those from `used` on are not written.
    pub(super) rows: [*mut f32; R],
    pub(super) used: usize,
    /// Multiplies the sums of each row.
    pub(super) factors: [f32; R],
    /// Whether they are added to what is there.
    pub(super) add: bool,
}

/// Columns of a tile: where they begin in the target's rows, and how many there are.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) first: usize,
    pub(super) count: usize,
}

on_machine! {
    /// One tile over `inner` steps, with `V` vectors a row, which are full, or filled up with zeros, if `F`.
    ///
    /// A masked load costs the ports of the products some time.
    ///
    /// # Safety
    /// The machine can; `R` rows and `columns <= V * LANES` columns of `inner` steps lie inside the left and the right side, and
    /// the target's rows have `columns` numbers that nobody else uses.
    pub(super) unsafe fn tile<const R: usize, const V: usize, const F: bool, L: Left<R>, W: Walk>(
        left: L,
        right: W,
        inner: usize,
        (target, span): (&Target<R>, Span),
        ahead: [&Ahead<'_>; 2],
    ) {
        let mut masks = [lanes(0); V];
        for (vector, mask_of) in masks.iter_mut().enumerate() {
            *mask_of = lanes(span.count.saturating_sub(vector * LANES));
        }
        // The sums take a while; until then the lines that they go to have come, and belong to this core.
        for row in target.rows {
            for vector in 0..V {
                _mm_prefetch::<_MM_HINT_ET0>(row.wrapping_add(span.first + vector * LANES).cast());
            }
        }
        let mut sums = [[zero(); V]; R];
        let mut step = 0;
        while step < inner {
            ahead.iter().for_each(|ahead| ahead.call());
            let end = inner.min(step + CALL_STEPS);
            while step + TOGETHER <= end {
                // SAFETY: all of these steps lie inside.
                unsafe { add_steps::<R, V, TOGETHER, F, L, W>(&mut sums, left, right, step, masks) };
                step += TOGETHER;
            }
            if step == end {
                continue;
            }
            // SAFETY: the last step lies inside.
            unsafe { add_steps::<R, V, 1, F, L, W>(&mut sums, left, right, step, masks) };
            step += 1;
        }
        // SAFETY: the rows are the target's.
        unsafe { put(&sums, target, span, masks) };
    }
}

/// Adds the products of `S` steps.
///
/// # Safety
/// As for [`tile`], for the steps from `step` on.
#[inline(always)]
unsafe fn add_steps<const R: usize, const V: usize, const S: usize, const F: bool, L: Left<R>, W: Walk>(
    sums: &mut [[Vector; V]; R],
    left: L,
    right: W,
    step: usize,
    masks: [Mask; V],
) {
    // SAFETY: the machine can.
    let mut columns = [[unsafe { zero() }; V]; S];
    for (s, columns) in columns.iter_mut().enumerate() {
        for (v, column) in columns.iter_mut().enumerate() {
            // SAFETY: the row lies inside the right side, and lanes past its end are masked.
            *column = unsafe {
                let place = right.at(step + s).wrapping_add(v * LANES);
                if W::GOES_ON {
                    _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(V * LANES).cast());
                }
                if F { load(place) } else { load_masked(masks[v], place) }
            };
        }
    }
    each_row!(r < R: {
        for (s, columns) in columns.iter().enumerate() {
            // SAFETY: the entry lies inside the left side.
            let entry = unsafe { splat(left.entry(r, step + s)) };
            for (sum, column) in sums[r].iter_mut().zip(columns) {
                // SAFETY: the machine can.
                *sum = unsafe { fused(entry, *column, *sum) };
            }
        }
    });
}

/// Writes or adds the sums: whole tiles without masks, which take their time.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn put<const R: usize, const V: usize>(
    sums: &[[Vector; V]; R],
    target: &Target<R>,
    Span { first, count }: Span,
    masks: [Mask; V],
) {
    let whole = target.used == R && count == V * LANES;
    // SAFETY: as the caller promises; a whole tile has all rows and lanes.
    unsafe {
        match (whole, target.add) {
            (true, false) => put_whole::<R, V, false>(sums, target, first),
            (true, true) => put_whole::<R, V, true>(sums, target, first),
            (false, _) => {
                // A copy: sums whose address is known would have to live in memory during the products too.
                let sums = *sums;
                put_masked(&sums, target, first, masks);
            }
        }
    }
}

/// # Safety
/// As for [`tile`], with all rows used and all lanes inside.
#[inline(always)]
unsafe fn put_whole<const R: usize, const V: usize, const ADD: bool>(
    sums: &[[Vector; V]; R],
    target: &Target<R>,
    first: usize,
) {
    each_row!(r < R: {
        // SAFETY: the machine can.
        let factor = unsafe { splat(target.factors[r]) };
        for (v, sum) in sums[r].iter().enumerate() {
            let place = target.rows[r].wrapping_add(first + v * LANES);
            // SAFETY: the row is the target's.
            unsafe {
                let before = if ADD { load(place) } else { zero() };
                store(place, fused(factor, *sum, before));
            }
        }
    });
}

on_machine! {
    /// # Safety
    /// As for [`tile`].
    #[inline(never)]
    unsafe fn put_masked<const R: usize, const V: usize>(
        sums: &[[Vector; V]; R],
        target: &Target<R>,
        first: usize,
        masks: [Mask; V],
    ) {
        for (r, sums) in sums.iter().enumerate().take(target.used) {
            let factor = splat(target.factors[r]);
            for (v, sum) in sums.iter().enumerate() {
                let place = target.rows[r].wrapping_add(first + v * LANES);
                // SAFETY: the row is the target's, and lanes past its columns are masked.
                unsafe {
                    let before = load_masked(if target.add { masks[v] } else { lanes(0) }, place);
                    store_masked(place, masks[v], fused(factor, *sum, before));
                }
            }
        }
    }
}

on_machine! {
    /// `target += factor * sums`, or written; `sums` has [`COLUMNS`] numbers a row, and its columns are rows of the target, `stride` apart.
    ///
    /// # Safety
    /// As for [`tile`], for a target that has its rows and columns exchanged.
    pub(super) unsafe fn put_turned<const R: usize>(
        sums: &[[f32; COLUMNS]; R],
        target: &Target<R>,
        span: Span,
        stride: usize,
    ) {
        let (factor, mask) = (splat(target.factors[0]), lanes(target.used));
        for first in (0..span.count).step_by(LANES) {
            let mut square = [zero(); LANES];
            for (row, vector) in sums.iter().zip(&mut square) {
                // SAFETY: each half of a row has as many numbers as a vector.
                *vector = unsafe { load(row.as_ptr().add(first)) };
            }
            turn_square(&mut square);
            for (column, sum) in (first..span.count).zip(square) {
                let place = target.rows[0].wrapping_add((span.first + column) * stride);
                // SAFETY: the column is a row of the target, and lanes past its rows are masked.
                unsafe {
                    let before = load_masked(if target.add { mask } else { lanes(0) }, place);
                    store_masked(place, mask, fused(factor, sum, before));
                }
            }
        }
    }
}
