//! Whether there is room: for the passes, for other models, and for weights in the place of the model's own.

use std::path::Path;

use moescope_analysis::instrument::Instrument;
use moescope_base::{HookPoint, SubjectShape};
use moescope_model::{Way, Work};

use super::Outcome;
use super::needs::{replaced, scrambled, without_room};
use crate::failure::Failure;
use crate::memory::{MemoryArgs, usual_sequences};

/// What the passes of all instruments have in common.
pub(super) struct Passes<'a> {
    pub(super) memory: &'a MemoryArgs,
    /// Files of the model.
    pub(super) path: &'a Path,
    /// Windows of the text.
    pub(super) windows: usize,
    /// Tokens of a window.
    pub(super) positions: usize,
    /// Values that are looked at.
    pub(super) record: &'a [HookPoint],
    /// Bytes that instruments keep.
    pub(super) kept: u64,
    pub(super) threads: usize,
}

/// What there is room for.
pub(super) struct Room {
    /// Sequences in one pass.
    pub(super) sequences: usize,
    /// Bytes that stand beside the model and what is kept.
    pub(super) beside: u64,
    /// Whether the matrices of all blocks may stand there a second time.
    pub(super) for_weights: bool,
    /// Instruments whose weights have no room.
    pub(super) left_out: Vec<Outcome>,
}

impl<'a> Passes<'a> {
    /// Passes of so many sequences with so many bytes beside.
    pub(super) fn work(&self, batch: usize, beside: u64) -> Work<'a> {
        Work {
            batch,
            positions: self.positions,
            record: self.record,
            edits: &[],
            gradients: false,
            kept: self.kept + beside,
            threads: self.threads,
        }
    }

    fn fitting(&self, beside: u64) -> Result<usize, Failure> {
        let usual = usual_sequences(self.positions);
        self.memory.sequences(self.path, self.windows, usual, |batch| self.work(batch, beside))
    }

    fn way(&self, beside: u64) -> Option<Way> {
        self.memory.way(self.path, &self.work(1, beside))
    }

    /// Finds room beside other models, which take `take` bytes; of `all` instruments those stay that fit.
    ///
    /// # Errors
    /// If what was asked for does not fit.
    pub(super) fn room(
        &self,
        instruments: &mut Vec<&'static dyn Instrument>,
        shape: &SubjectShape,
        take: u64,
        all: bool,
    ) -> Result<Room, Failure> {
        let (own, both) = (replaced(instruments, shape), scrambled(instruments, shape));
        // A null is not worth a model that no longer stays in memory.
        let for_weights = match (self.way(take + own), self.way(take + own.max(both))) {
            (Some(without), Some(with)) => without == with,
            _ => false,
        };
        let weights = if for_weights { own.max(both) } else { own };
        match self.fitting(take + weights) {
            Ok(sequences) => {
                Ok(Room { sequences, beside: take + weights, for_weights, left_out: Vec::new() })
            }
            Err(_) if all && weights > 0 => {
                let left_out = without_room(instruments, weights);
                Ok(Room { sequences: self.fitting(take)?, beside: take, for_weights: false, left_out })
            }
            Err(failure) => Err(failure),
        }
    }
}
