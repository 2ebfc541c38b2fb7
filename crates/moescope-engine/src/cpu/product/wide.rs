//! Products on machines with AVX-512: which tile comes when, and where its two sides lie.
//!
//! The inner axis is cut at multiples of [`STEPS`], the columns into blocks whose panels stay in the L2 cache. A number of the
//! result is the sum of its cuts in order, so its bits depend on its row and its column alone.
#![allow(unsafe_code)]

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use super::kernel::{
    COLUMNS, Columns, Even, Left, Named, Panel, ROWS, Rows, Span, Target, Walk, put_rows, put_turned, tile,
};
use super::pack::{STRIP, StepRows};
use super::panels::{LINE, Panels, Room, STEPS};
use super::{LeftSide, Out, RightSide, Sizes, Steps, pack};
use crate::cpu::matrix::Matrix;

/// Numbers of packed panels at a time, half an L2 cache.
const PACKED: usize = 128 << 10;
/// Rows from which on a right side whose rows are contiguous is worth packing.
const WORTH_PACKING: usize = 96;
/// Cache lines of each of the next rows that are called for with each panel.
const FIRST_LINES: usize = 2;
/// Strips that are packed at a time.
const GROUP: usize = 16;
/// Whether this machine can.
pub(super) fn available() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
}

/// `out = left · right`, or added; the right side may have been packed before.
///
/// # Safety
/// The machine has AVX-512F; the sides and the target have the sizes that `sizes` says, names name rows that there are, and panels
/// hold this right side.
pub(super) unsafe fn multiply(
    out: &Out<'_>,
    left: LeftSide<'_>,
    (right, panels): (RightSide<'_>, Option<&Panels>),
    sizes: Sizes,
) {
    // Rows that are named may be named twice, and sums of several cuts are rounded once before they are added.
    let whole = out.turned || out.names.is_some() && sizes.inner > STEPS;
    let cut = if whole { sizes.inner } else { STEPS };
    let block = (PACKED / cut.min(sizes.inner)).max(COLUMNS) / COLUMNS * COLUMNS;
    // A left side that is packed would be packed anew for each block.
    let block = match (left, panels) {
        (LeftSide::ByStep(..), Some(_)) => sizes.columns,
        (LeftSide::ByStep(..), None) => 2 * block,
        _ => block,
    };
    let (mut room, mut strips) = (Room::default(), Room::default());
    for first in (0..sizes.columns).step_by(block) {
        let columns = (sizes.columns - first).min(block);
        for start in (0..sizes.inner).step_by(cut) {
            let steps = (sizes.inner - start).min(cut);
            let right = match panels {
                Some(panels) => Laid::Packed(panels.at(start, first)),
                // SAFETY: steps and columns lie inside the right side.
                None => unsafe { lay_out(&mut room, right, (start, steps), (first, columns), sizes.rows) },
            };
            let add = out.add || start > 0;
            let part = Part { out, left, right, start, steps, first, columns, add, whole };
            // SAFETY: as the caller promises.
            unsafe { part.run(sizes.rows, &mut strips) };
        }
    }
    room.give_back();
    strips.give_back();
}

/// Where the right side of some steps and columns lies.
#[derive(Clone, Copy)]
enum Laid<'a> {
    /// In panels of so many steps.
    Packed(*const f32),
    /// In its own rows, `stride` apart.
    Even(*const f32, usize),
    /// In rows of its own that are named.
    Named(*const f32, usize, &'a [u32]),
}

/// Packs the right side, or leaves it where it is if that is good enough for so many rows.
///
/// # Safety
/// As for [`multiply`].
unsafe fn lay_out<'a>(
    room: &mut Room,
    right: RightSide<'a>,
    (start, steps): (usize, usize),
    (first, columns): (usize, usize),
    rows: usize,
) -> Laid<'a> {
    if let RightSide::ByStep(matrix, Steps { names, factors: None }) = right
        && rows < WORTH_PACKING
    {
        let skipped = if names.is_some() { 0 } else { start };
        let source = matrix.pointer.wrapping_add(skipped * matrix.row_stride + first);
        return match names {
            None => Laid::Even(source, matrix.row_stride),
            Some(names) => Laid::Named(source, matrix.row_stride, &names[start..start + steps]),
        };
    }
    let panels = room.take(steps * columns.next_multiple_of(COLUMNS));
    // SAFETY: the rectangle lies inside the right side, and there is room for it.
    unsafe { pack::right(right, (start, steps), (first, columns), panels) };
    Laid::Packed(panels)
}

/// Rows that come next: so many lines of each.
#[derive(Clone, Copy, Default)]
struct Next<'a> {
    rows: &'a [*const f32],
    /// Cache lines of each.
    lines: usize,
}

impl Next<'_> {
    /// Calls for one of `parts` equal parts: all at once would keep the loads of a tile waiting.
    fn call(&self, part: usize, parts: usize) {
        let lines = self.rows.len() * self.lines;
        for line in part * lines / parts..(part + 1) * lines / parts {
            call(self.rows[line / self.lines].wrapping_add(line % self.lines * LINE));
        }
    }
}

/// Calls for the line of this number, into the L2 cache.
fn call(place: *const f32) {
    // SAFETY: a hint, which no address harms.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(place.cast()) };
}

/// Some steps and columns of a product.
struct Part<'a> {
    out: &'a Out<'a>,
    left: LeftSide<'a>,
    right: Laid<'a>,
    start: usize,
    steps: usize,
    first: usize,
    columns: usize,
    add: bool,
    /// All steps at once, summed aside in cuts and added to the target at the end.
    whole: bool,
}

impl Part<'_> {
    /// All tiles.
    ///
    /// # Safety
    /// As for [`multiply`].
    unsafe fn run(&self, rows: usize, strips: &mut Room) {
        // SAFETY: as the caller promises.
        unsafe {
            match self.left {
                LeftSide::ByRow(matrix, names) => self.by_row(matrix, names, rows),
                LeftSide::ByStep(matrix, steps) => self.by_step(matrix, steps, rows, strips),
            }
        }
    }

    /// Strip after strip, each with all panels: its rows are then in the L1 cache from the second panel on. Rows that a tile has
    /// beyond the last are read from that one and never written.
    ///
    /// # Safety
    /// As for [`multiply`].
    unsafe fn by_row(&self, matrix: Matrix<'_>, names: Option<&[u32]>, rows: usize) {
        let row_at = |row: usize| {
            let row = row.min(rows - 1);
            let row = names.map_or(row, |names| names[row] as usize);
            matrix.pointer.wrapping_add(row * matrix.row_stride + self.start)
        };
        for row in (0..rows).step_by(ROWS) {
            let next: [*const f32; ROWS] = std::array::from_fn(|place| row_at(row + ROWS + place));
            // The first lines of a row at least: the processor sees by itself how it goes on.
            let lines = self.steps.div_ceil(LINE).min(FIRST_LINES * self.columns.div_ceil(COLUMNS));
            let next = Next { rows: &next, lines };
            let all = (0, self.columns);
            // SAFETY: rows and columns lie inside.
            unsafe {
                match rows - row {
                    9.. => self.strip(
                        Rows::<ROWS>(std::array::from_fn(|at| row_at(row + at))),
                        (row, rows),
                        all,
                        next,
                    ),
                    5..=8 => self.strip(
                        Rows::<8>(std::array::from_fn(|at| row_at(row + at))),
                        (row, rows),
                        all,
                        next,
                    ),
                    2..=4 => self.strip(
                        Rows::<4>(std::array::from_fn(|at| row_at(row + at))),
                        (row, rows),
                        all,
                        next,
                    ),
                    _ => self.strip(Rows::<1>([row_at(row)]), (row, rows), all, next),
                }
            }
        }
    }

    /// Groups of strips are packed, then take panel after panel, which stays in the L1 cache for as long.
    ///
    /// # Safety
    /// As for [`multiply`].
    unsafe fn by_step(&self, matrix: Matrix<'_>, steps: Steps<'_>, rows: usize, strips: &mut Room) {
        let packed = strips.take(GROUP * self.steps * STRIP);
        for start in (0..rows).step_by(GROUP * ROWS) {
            let end = rows.min(start + GROUP * ROWS);
            let left = StepRows::new(matrix, steps, (self.start, self.steps), start);
            // SAFETY: rows, steps and names lie inside the left side.
            unsafe { pack::strips(left, (self.steps, end - start), packed) };
            for first in (0..self.columns).step_by(COLUMNS) {
                let columns = (first, (first + COLUMNS).min(self.columns));
                for (index, row) in (start..end).step_by(ROWS).enumerate() {
                    let start = packed.wrapping_add(index * self.steps * STRIP).cast_const();
                    let left = Columns(Even { start, stride: STRIP });
                    let (rows, next) = ((row, end), Next::default());
                    // SAFETY: rows and columns lie inside, and the strip was packed.
                    unsafe {
                        match end - row {
                            9.. => self.strip::<ROWS, _>(left, rows, columns, next),
                            5..=8 => self.strip::<8, _>(left, rows, columns, next),
                            2..=4 => self.strip::<4, _>(left, rows, columns, next),
                            _ => self.strip::<1, _>(left, rows, columns, next),
                        }
                    }
                }
            }
        }
    }

    /// Where these rows go.
    fn target<const R: usize>(&self, row: usize, used: usize) -> Target<R> {
        let out = self.out;
        if out.turned {
            let first = out.pointer.wrapping_add(self.first * out.stride + row);
            return Target { rows: [first; R], used, factors: [out.factor; R], add: self.add };
        }
        if out.names.is_none() && out.factors.is_none() && used == R {
            let first = out.pointer.wrapping_add(row * out.stride + self.first);
            let rows = std::array::from_fn(|at| first.wrapping_add(at * out.stride));
            return Target { rows, used, factors: [out.factor; R], add: self.add };
        }
        let place = |at: usize| {
            let row = row + at.min(used - 1);
            let row = out.names.map_or(row, |names| names[row] as usize);
            out.pointer.wrapping_add(row * out.stride + self.first)
        };
        let factor = |at: usize| match out.factors {
            Some(factors) => out.factor * factors[row + at.min(used - 1)],
            None => out.factor,
        };
        let (rows, factors) = (std::array::from_fn(place), std::array::from_fn(factor));
        Target { rows, used, factors, add: self.add }
    }

    /// Rows from `row` on in columns from the first to the second, while the next rows are called for.
    ///
    /// # Safety
    /// As for [`multiply`].
    unsafe fn strip<const R: usize, L: Left<R>>(
        &self,
        left: L,
        (row, rows): (usize, usize),
        (first, end): (usize, usize),
        next: Next<'_>,
    ) {
        let target = &self.target::<R>(row, (rows - row).min(R));
        let panels = (end - first).div_ceil(COLUMNS);
        for (panel, first) in (first..end).step_by(COLUMNS).enumerate() {
            let span = Span { first, count: (end - first).min(COLUMNS) };
            next.call(panel, panels);
            // SAFETY: the columns lie inside the right side.
            unsafe {
                match self.right {
                    Laid::Packed(start) => {
                        let start = start.wrapping_add(first * self.steps);
                        self.tile::<R, true, _, _>(left, Panel { start }, (target, span));
                    }
                    Laid::Even(start, stride) => {
                        let right = Even { start: start.wrapping_add(first), stride };
                        self.unpacked(left, right, (target, span));
                    }
                    Laid::Named(start, stride, names) => {
                        let (start, names) = (start.wrapping_add(first), names.as_ptr());
                        self.unpacked(left, Named { start, stride, names }, (target, span));
                    }
                }
            }
        }
    }

    /// A tile whose right side was not packed: its last vector may not be full.
    ///
    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn unpacked<const R: usize, L: Left<R>, W: Walk>(
        &self,
        left: L,
        right: W,
        out: (&Target<R>, Span),
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            if out.1.count.is_multiple_of(COLUMNS / 2) {
                self.tile::<R, true, L, W>(left, right, out);
            } else {
                self.tile::<R, false, L, W>(left, right, out);
            }
        }
    }

    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn tile<const R: usize, const F: bool, L: Left<R>, W: Walk>(
        &self,
        left: L,
        right: W,
        out: (&Target<R>, Span),
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            if self.whole {
                let turned = self.out.turned.then_some(self.out.stride);
                sum_aside::<R, F, L, W>(left, right, self.steps, out, turned);
            } else {
                by_width::<R, F, L, W>(left, right, self.steps, out);
            }
        }
    }
}

/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn by_width<const R: usize, const F: bool, L: Left<R>, W: Walk>(
    left: L,
    right: W,
    steps: usize,
    out: (&Target<R>, Span),
) {
    // SAFETY: as the caller promises.
    unsafe {
        if out.1.count <= COLUMNS / 2 {
            tile::<R, 1, F, L, W>(left, right, steps, out);
        } else {
            tile::<R, 2, F, L, W>(left, right, steps, out);
        }
    }
}

/// Sums cuts of the inner axis in a buffer first, so that a row is added to its target once; `turned` is the distance of the target's
/// columns if they are to become its rows.
///
/// # Safety
/// As for [`tile`].
unsafe fn sum_aside<const R: usize, const F: bool, L: Left<R>, W: Walk>(
    left: L,
    right: W,
    steps: usize,
    (target, span): (&Target<R>, Span),
    turned: Option<usize>,
) {
    let mut sums = [[0.0; COLUMNS]; R];
    let rows = sums.each_mut().map(|row| row.as_mut_ptr());
    let columns = Span { first: 0, ..span };
    for start in (0..steps).step_by(STEPS) {
        let aside = Target { rows, factors: [1.0; R], add: start > 0, ..*target };
        // SAFETY: the cut lies inside both sides; the buffer's rows are as wide as the widest tile.
        unsafe {
            let (left, right) = (left.skip(start), right.skip(start));
            by_width::<R, F, L, W>(left, right, (steps - start).min(STEPS), (&aside, columns));
        }
    }
    // SAFETY: the rows are the target's.
    unsafe {
        match turned {
            None => put_rows(&sums, target, span),
            Some(stride) => put_turned(&sums, target, span, stride),
        }
    }
}
