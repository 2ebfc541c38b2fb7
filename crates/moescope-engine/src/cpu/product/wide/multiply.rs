//! Products by our own kernels: which tile comes when, and where its two sides lie.
//!
//! The inner axis is cut at multiples of [`STEPS`], the columns into blocks whose panels stay in the L2 cache. A number of the
//! result is the sum of its cuts in order, so its bits depend on its row and its column alone.
#![allow(unsafe_code)]

use super::ahead::{Ahead, Region};
use super::kernel::{COLUMNS, Columns, Even, Left, Named, Panel, Rows, Span, Target, Walk, put_turned, tile};
use super::pack::{STRIP, StepRows};
use super::panels::{Panels, Room, STEPS};
use super::portable::add_rows;
use super::visits::{GROUP, Visit, Visits, first_left, first_right, stays};
use super::{LeftSide, Operands, Out, ROWS, RightSide, Sizes, Steps, pack};
use crate::cpu::matrix::Matrix;
use crate::memory;

/// Rows of a product that are kept aside at a time, about.
const ASIDE: usize = 384;

/// `out = left · right`, or added; the right side may have been packed before. Meanwhile the sides of the product that comes next
/// are called for.
///
/// # Safety
/// The machine can; the sides and the target have the sizes that `sizes` says, names name rows that there are, and panels
/// hold this right side.
pub(in super::super) unsafe fn multiply(
    out: &Out<'_>,
    left: LeftSide<'_>,
    (right, panels): (RightSide<'_>, Option<&Panels>),
    sizes: Sizes,
    next: Option<&Operands<'_>>,
) {
    // Rows that are named may be named twice, and sums of several cuts are rounded once before they are added.
    if let Some(names) = out.names
        && sizes.inner > STEPS
        && !out.turned
    {
        // SAFETY: as the caller promises.
        return unsafe { multiply_aside((out, names), left, right, sizes, next) };
    }
    let visits = Visits::new(left, panels.is_some(), sizes, out.turned);
    let (mut room, mut strips) = (Room::default(), Room::default());
    let (mut index, mut coming) = (0, visits.get(0));
    while let Some(visit) = coming {
        index += 1;
        coming = visits.get(index);
        let Visit { start, steps, first, columns } = visit;
        let right_at = match panels {
            Some(panels) => Laid::Packed(panels.at(start, first)),
            // SAFETY: steps and columns lie inside the right side.
            None => unsafe { lay_out(&mut room, right, (start, steps), (first, columns), sizes.rows) },
        };
        let ahead = match (coming, panels) {
            (Some(coming), None) => coming.right_region(right, sizes.rows),
            (Some(_), Some(_)) => None,
            (None, _) => next.and_then(first_right),
        };
        let next_left = match coming {
            Some(coming) => coming.left_region(left, sizes.rows),
            None => next.and_then(first_left),
        };
        let add = out.add || start > 0;
        let tiles = sizes.rows.div_ceil(ROWS) * columns.div_ceil(COLUMNS);
        let ahead = Ahead::new(ahead, tiles, steps);
        let part = Part { out, left, right: right_at, visit, add, ahead, next_left };
        // SAFETY: as the caller promises.
        unsafe { part.run(sizes.rows, &mut strips) };
    }
    room.give_back();
    strips.give_back();
}

/// A product whose rows are added to named ones: some rows of it at a time, in a buffer.
///
/// # Safety
/// As for [`multiply`].
unsafe fn multiply_aside(
    (out, names): (&Out<'_>, &[u32]),
    left: LeftSide<'_>,
    right: RightSide<'_>,
    sizes: Sizes,
    next: Option<&Operands<'_>>,
) {
    let count = sizes.rows.div_ceil(ASIDE).max(1);
    let height = sizes.rows.div_ceil(count).next_multiple_of(ROWS);
    let mut results = memory::take(height.min(sizes.rows) * sizes.columns);
    for start in (0..sizes.rows).step_by(height) {
        let rows = start..(start + height).min(sizes.rows);
        let results = &mut results[..rows.len() * sizes.columns];
        let part = Sizes { rows: rows.len(), ..sizes };
        let next = if rows.end == sizes.rows { next } else { None };
        // SAFETY: as the caller promises; the buffer has room for these rows.
        unsafe {
            multiply(&Out::new(results, sizes.columns), left.rows(rows.clone()), (right, None), part, next);
        }
        let factors = out.factors.map(|factors| &factors[rows.clone()]);
        add_rows(&Out { factors, ..*out }, &names[rows], results, sizes.columns);
    }
    memory::give_back(results);
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
    if let RightSide::ByStep(matrix, Steps { names, .. }) = right
        && stays(right, rows)
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

/// Some steps and columns of a product.
struct Part<'a> {
    out: &'a Out<'a>,
    left: LeftSide<'a>,
    right: Laid<'a>,
    visit: Visit,
    add: bool,
    /// Of the right side that is packed next.
    ahead: Ahead<'a>,
    /// Strips that are packed next.
    next_left: Option<Region<'a>>,
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
            matrix.pointer.wrapping_add(row * matrix.row_stride + self.visit.start)
        };
        for row in (0..rows).step_by(ROWS) {
            let next: [*const f32; ROWS] = std::array::from_fn(|place| row_at(row + ROWS + place));
            let next = match row + ROWS < rows {
                true => Some(Region::at(&next, self.visit.first_lines())),
                false => self.next_left,
            };
            let next = Ahead::new(next, self.visit.columns.div_ceil(COLUMNS), self.visit.steps);
            let next = [&next, &self.ahead];
            let all = (0, self.visit.columns);
            // SAFETY: rows and columns lie inside.
            unsafe {
                by_height!(rows - row, R => {
                    let left = Rows::<R>(std::array::from_fn(|at| row_at(row + at)));
                    self.strip(left, (row, rows), all, next)
                });
            }
        }
    }

    /// Groups of strips are packed, then take panel after panel, which stays in the L1 cache for as long.
    ///
    /// # Safety
    /// As for [`multiply`].
    unsafe fn by_step(&self, matrix: Matrix<'_>, steps: Steps<'_>, rows: usize, strips: &mut Room) {
        let packed = strips.take(GROUP * self.visit.steps * STRIP);
        for start in (0..rows).step_by(GROUP * ROWS) {
            let end = rows.min(start + GROUP * ROWS);
            let left = StepRows::new(matrix, steps, (self.visit.start, self.visit.steps), start);
            // SAFETY: rows, steps and names lie inside the left side.
            unsafe { pack::strips(left, (self.visit.steps, end - start), packed) };
            let coming = self.visit.group_region(self.left, end, rows).or(self.next_left);
            let tiles = (end - start).div_ceil(ROWS) * self.visit.columns.div_ceil(COLUMNS);
            let next_group = Ahead::new(coming, tiles, self.visit.steps);
            for first in (0..self.visit.columns).step_by(COLUMNS) {
                let columns = (first, (first + COLUMNS).min(self.visit.columns));
                let next = [&next_group, &self.ahead];
                for (index, row) in (start..end).step_by(ROWS).enumerate() {
                    let start = packed.wrapping_add(index * self.visit.steps * STRIP).cast_const();
                    let left = Columns(Even { start, stride: STRIP });
                    let rows = (row, end);
                    // SAFETY: rows and columns lie inside, and the strip was packed.
                    unsafe {
                        by_height!(end - row, R => self.strip::<R, _>(left, rows, columns, next));
                    }
                }
            }
        }
    }

    /// Where these rows go.
    fn target<const R: usize>(&self, row: usize, used: usize) -> Target<R> {
        let out = self.out;
        if out.turned {
            let first = out.pointer.wrapping_add(self.visit.first * out.stride + row);
            return Target { rows: [first; R], used, factors: [out.factor; R], add: self.add };
        }
        if out.names.is_none() && out.factors.is_none() && used == R {
            let first = out.pointer.wrapping_add(row * out.stride + self.visit.first);
            let rows = std::array::from_fn(|at| first.wrapping_add(at * out.stride));
            return Target { rows, used, factors: [out.factor; R], add: self.add };
        }
        let place = |at: usize| {
            let row = row + at.min(used - 1);
            let row = out.names.map_or(row, |names| names[row] as usize);
            out.pointer.wrapping_add(row * out.stride + self.visit.first)
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
        next: [&Ahead<'_>; 2],
    ) {
        let target = &self.target::<R>(row, (rows - row).min(R));
        for first in (first..end).step_by(COLUMNS) {
            let span = Span { first, count: (end - first).min(COLUMNS) };
            // SAFETY: the columns lie inside the right side.
            unsafe {
                match self.right {
                    Laid::Packed(start) => {
                        let start = start.wrapping_add(first * self.visit.steps);
                        self.tile::<R, true, _, _>(left, Panel { start }, (target, span), next);
                    }
                    Laid::Even(start, stride) => {
                        let right = Even { start: start.wrapping_add(first), stride };
                        self.unpacked(left, right, (target, span), next);
                    }
                    Laid::Named(start, stride, names) => {
                        let (start, names) = (start.wrapping_add(first), names.as_ptr());
                        self.unpacked(left, Named { start, stride, names }, (target, span), next);
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
        next: [&Ahead<'_>; 2],
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            if out.1.count.is_multiple_of(COLUMNS / 2) {
                self.tile::<R, true, L, W>(left, right, out, next);
            } else {
                self.tile::<R, false, L, W>(left, right, out, next);
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
        next: [&Ahead<'_>; 2],
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            if self.out.turned {
                sum_aside::<R, F, L, W>(left, right, self.visit.steps, (out, self.out.stride), next);
            } else {
                by_width::<R, F, L, W>(left, right, self.visit.steps, out, next);
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
    ahead: [&Ahead<'_>; 2],
) {
    // SAFETY: as the caller promises.
    unsafe {
        if out.1.count <= COLUMNS / 2 {
            tile::<R, 1, F, L, W>(left, right, steps, out, ahead);
        } else {
            tile::<R, 2, F, L, W>(left, right, steps, out, ahead);
        }
    }
}

/// Sums cuts of the inner axis in a buffer first; then columns become rows of the target, `stride` apart.
///
/// # Safety
/// As for [`tile`].
unsafe fn sum_aside<const R: usize, const F: bool, L: Left<R>, W: Walk>(
    left: L,
    right: W,
    steps: usize,
    ((target, span), stride): ((&Target<R>, Span), usize),
    ahead: [&Ahead<'_>; 2],
) {
    let mut sums = [[0.0; COLUMNS]; R];
    let rows = sums.each_mut().map(|row| row.as_mut_ptr());
    let columns = Span { first: 0, ..span };
    for start in (0..steps).step_by(STEPS) {
        let aside = Target { rows, factors: [1.0; R], add: start > 0, ..*target };
        // SAFETY: the cut lies inside both sides; the buffer's rows are as wide as the widest tile.
        unsafe {
            let (left, right) = (left.skip(start), right.skip(start));
            by_width::<R, F, L, W>(left, right, (steps - start).min(STEPS), (&aside, columns), ahead);
        }
    }
    // SAFETY: the rows are the target's.
    unsafe { put_turned(&sums, target, span, stride) };
}
