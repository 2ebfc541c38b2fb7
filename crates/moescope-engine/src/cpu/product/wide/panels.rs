//! Where packed sides lie: a buffer for one product, or all panels of a right side for the products of many rows.
#![allow(unsafe_code)]

use super::kernel::COLUMNS;
use super::{RightSide, pack};
use crate::cpu::chunks::run;
use crate::memory;

/// Steps of the inner axis between two visits to the result: a panel of them fills two thirds of an L1 cache.
pub(super) const STEPS: usize = 256;
/// Columns that a task packs.
const TASK_COLUMNS: usize = 8 * COLUMNS;
/// Numbers of the shortest buffer, so that most are of one length and blocks are found again.
const SHORTEST: usize = 128 << 10;
/// Numbers of a cache line.
pub(super) const LINE: usize = 16;

/// A buffer for what is packed, taken when there is something to pack.
#[derive(Default)]
pub(super) struct Room {
    buffer: Option<Vec<f32>>,
}

impl Room {
    /// Room for so many numbers, from a cache line on. What was there before is lost.
    pub(super) fn take(&mut self, numbers: usize) -> *mut f32 {
        self.slice(numbers).as_mut_ptr()
    }

    fn slice(&mut self, numbers: usize) -> &mut [f32] {
        let wanted = numbers + LINE;
        if self.buffer.as_ref().is_none_or(|buffer| buffer.len() < wanted) {
            self.give_back();
            self.buffer = Some(memory::take(wanted.max(SHORTEST + LINE)));
        }
        let buffer = self.buffer.as_mut().expect("a buffer was taken");
        let skipped = buffer.as_ptr().align_offset(LINE * size_of::<f32>());
        &mut buffer[skipped..][..numbers]
    }

    /// For the next product.
    pub(super) fn give_back(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            memory::give_back(buffer);
        }
    }
}

/// All panels of a right side: cut after cut of [`STEPS`] steps, panel after panel in each.
pub(in super::super) struct Panels {
    room: Room,
    start: *const f32,
    inner: usize,
    /// Columns, filled up to whole panels.
    columns: usize,
}

// SAFETY: nobody writes to the panels after they were made.
unsafe impl Sync for Panels {}

impl Panels {
    /// Packs a right side of `inner` steps and `columns` columns.
    ///
    /// # Safety
    /// The machine can; the side has these sizes, and names name rows that there are.
    pub(in super::super) unsafe fn new(right: RightSide<'_>, inner: usize, columns: usize) -> Self {
        let padded = columns.next_multiple_of(COLUMNS);
        let mut room = Room::default();
        let panels = room.slice(inner * padded);
        let start = panels.as_ptr();
        let mut tasks = Vec::new();
        for (cut, slab) in panels.chunks_mut(STEPS * padded).enumerate() {
            let (start, steps) = (cut * STEPS, slab.len() / padded);
            for (index, part) in slab.chunks_mut(steps * TASK_COLUMNS).enumerate() {
                let first = index * TASK_COLUMNS;
                tasks.push(((start, steps), (first, (columns - first).min(TASK_COLUMNS)), part));
            }
        }
        run(tasks, |(steps, columns, part)| {
            // SAFETY: the rectangle lies inside the right side, and the part has room for its panels.
            unsafe { pack::right(right, steps, columns, part.as_mut_ptr()) };
        });
        Self { room, start, inner, columns: padded }
    }

    /// The panels from column `first` on, a multiple of a panel's, in the cut that begins at step `start`.
    pub(super) fn at(&self, start: usize, first: usize) -> *const f32 {
        let steps = (self.inner - start).min(STEPS);
        self.start.wrapping_add(start * self.columns + first * steps)
    }
}

impl Drop for Panels {
    fn drop(&mut self) {
        self.room.give_back();
    }
}
