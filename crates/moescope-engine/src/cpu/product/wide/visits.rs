//! How a product is cut, and what each part of it reads first, so that it can be called for while the one before is computed.

use super::ahead::Region;
use super::kernel::COLUMNS;
use super::panels::{LINE, STEPS};
use super::{LeftSide, Operands, ROWS, RightSide, Sizes, Steps};

/// Numbers of packed panels at a time, a quarter of an L2 cache: as much again is on its way for the next. Four times as many where the left side is
/// packed, too.
const PACKED: usize = 64 << 10;
/// Rows from which on a right side whose rows are contiguous is worth packing.
const WORTH_PACKING: usize = 96;
/// Cache lines of each of the next rows that are called for with each panel.
const FIRST_LINES: usize = 2;
/// Strips that are packed at a time.
pub(super) const GROUP: usize = 16;

/// Some steps of the inner axis and some columns of a result: what is packed at a time.
#[derive(Clone, Copy)]
pub(super) struct Visit {
    pub(super) start: usize,
    pub(super) steps: usize,
    pub(super) first: usize,
    pub(super) columns: usize,
}

impl Visit {
    /// What it packs of a right side.
    pub(super) fn right_region<'a>(&self, right: RightSide<'a>, rows: usize) -> Option<Region<'a>> {
        let packs = !stays(right, rows);
        packs.then(|| Region::of_right(right, (self.start, self.steps), (self.first, self.columns)))
    }

    /// What it reads first of a left side: a group of strips that it packs, or the first strip.
    pub(super) fn left_region<'a>(&self, left: LeftSide<'a>, rows: usize) -> Option<Region<'a>> {
        match left {
            LeftSide::ByStep(..) => self.group_region(left, 0, rows),
            LeftSide::ByRow(matrix, names) => {
                let steps = (self.start, self.first_lines() * LINE);
                Some(Region::of_steps(matrix, Steps { names, factors: None }, (0, rows.min(ROWS)), steps))
            }
        }
    }

    /// Cache lines of each of the next rows that are called for: the first ones at least, since the processor sees by itself how a
    /// row goes on.
    pub(super) fn first_lines(&self) -> usize {
        self.steps.div_ceil(LINE).min(FIRST_LINES * self.columns.div_ceil(COLUMNS))
    }

    /// The group of strips that begins at this row.
    pub(super) fn group_region<'a>(&self, left: LeftSide<'a>, row: usize, rows: usize) -> Option<Region<'a>> {
        match left {
            LeftSide::ByStep(matrix, steps) if row < rows => {
                let columns = (row, (rows - row).min(GROUP * ROWS));
                Some(Region::of_steps(matrix, steps, (self.start, self.steps), columns))
            }
            _ => None,
        }
    }
}

/// How a product is cut: blocks of columns, and in each the cuts of the inner axis.
pub(super) struct Visits {
    sizes: Sizes,
    /// Columns of a block.
    block: usize,
    /// Steps of a cut.
    cut: usize,
}

impl Visits {
    /// One cut for a result that is turned over.
    pub(super) fn new(left: LeftSide<'_>, prepared: bool, sizes: Sizes, turned: bool) -> Self {
        let cut = if turned { sizes.inner.max(1) } else { STEPS };
        let block = (PACKED / cut.min(sizes.inner.max(1))).max(COLUMNS) / COLUMNS * COLUMNS;
        // A left side that is packed would be packed anew for each block.
        let block = match (left, prepared) {
            (LeftSide::ByStep(..), true) => sizes.columns,
            (LeftSide::ByStep(..), false) => 4 * block,
            _ => block,
        };
        Self { sizes, block, cut }
    }

    /// The visit of this number, if there is one.
    pub(super) fn get(&self, index: usize) -> Option<Visit> {
        let cuts = self.sizes.inner.div_ceil(self.cut).max(1);
        let (first, start) = (index / cuts * self.block, index % cuts * self.cut);
        (first < self.sizes.columns).then(|| Visit {
            start,
            steps: (self.sizes.inner - start).min(self.cut),
            first,
            columns: (self.sizes.columns - first).min(self.block),
        })
    }
}

/// The visit that begins a product.
fn first_visit(of: &Operands<'_>) -> Option<Visit> {
    Visits::new(of.left, false, of.sizes, false).get(0)
}

/// What a product packs first of its right side.
pub(super) fn first_right<'a>(of: &Operands<'a>) -> Option<Region<'a>> {
    first_visit(of)?.right_region(of.right?, of.sizes.rows)
}

/// What a product reads first of its left side.
pub(super) fn first_left<'a>(of: &Operands<'a>) -> Option<Region<'a>> {
    first_visit(of)?.left_region(of.left, of.sizes.rows)
}

/// Whether a right side is read where it lies.
pub(super) fn stays(right: RightSide<'_>, rows: usize) -> bool {
    matches!(right, RightSide::ByStep(_, Steps { factors: None, .. })) && rows < WORTH_PACKING
}
