//! What a product needs next, called for while its tiles are computed: packing then finds its rows in the L2 cache.
#![allow(unsafe_code)]

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::cell::Cell;

use super::pack::StepRows;
use super::panels::LINE;
use super::{RightSide, Steps};
use crate::cpu::matrix::Matrix;

/// Steps of the inner axis between two calls of a tile.
pub(super) const CALL_STEPS: usize = 32;

/// Rows of numbers that will be read.
#[derive(Clone, Copy)]
pub(super) struct Region<'a> {
    rows: Places<'a>,
    count: usize,
    /// Cache lines of each.
    lines: usize,
}

/// Where rows begin.
#[derive(Clone, Copy)]
enum Places<'a> {
    Steps(StepRows<'a>),
    Each(&'a [*const f32]),
}

impl<'a> Region<'a> {
    /// So many lines from each of these places on.
    pub(super) fn at(places: &'a [*const f32], lines: usize) -> Self {
        Self { rows: Places::Each(places), count: places.len(), lines }
    }

    /// Columns from the first on, so many, of some steps of a side that lies step by step.
    pub(super) fn of_steps(
        matrix: Matrix<'_>,
        steps: Steps<'a>,
        (start, count): (usize, usize),
        (first, columns): (usize, usize),
    ) -> Self {
        let rows = StepRows::new(matrix, steps, (start, count), first);
        Self { rows: Places::Steps(rows), count, lines: columns.div_ceil(LINE) }
    }

    /// What of a right side is packed for these steps and columns.
    pub(super) fn of_right(
        right: RightSide<'a>,
        (start, steps): (usize, usize),
        (first, columns): (usize, usize),
    ) -> Self {
        match right {
            RightSide::ByStep(matrix, named) => {
                Self::of_steps(matrix, named, (start, steps), (first, columns))
            }
            RightSide::ByColumn(matrix) => {
                Self::of_steps(matrix, Steps::default(), (first, columns), (start, steps))
            }
        }
    }
}

/// A region that is called for bit by bit: all at once would keep the loads of a tile waiting.
#[derive(Default)]
pub(super) struct Ahead<'a> {
    region: Option<Region<'a>>,
    /// Lines at a time.
    each: usize,
    row: Cell<usize>,
    line: Cell<usize>,
}

impl<'a> Ahead<'a> {
    /// While so many tiles are computed over so many steps.
    pub(super) fn new(region: Option<Region<'a>>, tiles: usize, steps: usize) -> Self {
        let lines = region.map_or(0, |region| region.count * region.lines);
        let calls = tiles * steps.div_ceil(CALL_STEPS);
        Self { region, each: lines.div_ceil(calls.max(1)), ..Self::default() }
    }

    /// The next bit.
    #[inline(always)]
    pub(super) fn call(&self) {
        let Some(region) = &self.region else { return };
        let (mut row, mut line) = (self.row.get(), self.line.get());
        for _ in 0..self.each {
            if row == region.count {
                break;
            }
            let place = match region.rows {
                Places::Steps(rows) => rows.at(row),
                Places::Each(places) => places[row],
            };
            call(place.wrapping_add(line * LINE));
            line += 1;
            if line == region.lines {
                (row, line) = (row + 1, 0);
            }
        }
        self.row.set(row);
        self.line.set(line);
    }
}

/// Calls for the line of this number, into the L2 cache.
#[inline(always)]
fn call(place: *const f32) {
    // SAFETY: a hint, which no address harms.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(place.cast()) };
}
