//! Rows of a stream in another order.

use moescope_base::Seed;
use moescope_engine::Tensor;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{ActivationStream, DictionaryError, Rows};

/// Holds some rows of a stream and gives them in random order, so that a step does not learn from one document alone.
///
/// It is filled up before each draw, so memory does not grow with the stream.
pub(crate) struct Mixing<'s> {
    source: &'s mut dyn ActivationStream,
    /// Rows to hold.
    capacity: usize,
    /// Widths of input and target once the first rows have come; `None` for a target that is the input.
    widths: Option<(usize, Option<usize>)>,
    input: Vec<f32>,
    target: Vec<f32>,
    /// Rows that came and had no room, and which of them is next.
    waiting: Option<(Rows, usize)>,
    ended: bool,
    draws: ChaCha8Rng,
}

impl<'s> Mixing<'s> {
    pub(crate) fn new(source: &'s mut dyn ActivationStream, capacity: usize, seed: Seed) -> Mixing<'s> {
        let (input, target) = (Vec::new(), Vec::new());
        let (waiting, ended, draws) = (None, false, seed.rng());
        Mixing { source, capacity, widths: None, input, target, waiting, ended, draws }
    }

    /// Rows that are held.
    pub(crate) fn held(&self) -> usize {
        self.widths.map_or(0, |(input, _)| self.input.len() / input.max(1))
    }

    /// Takes from the source until as many rows are held as there is room for, or the source has no more. What came and has no
    /// room waits, so that the number of rows that come at once decides nothing.
    pub(crate) fn fill(&mut self) -> Result<(), DictionaryError> {
        while self.held() < self.capacity {
            if self.waiting.is_none() && !self.ended {
                self.waiting =
                    self.source.next_rows().map_err(DictionaryError::Source)?.map(|rows| (rows, 0));
                self.ended = self.waiting.is_none();
            }
            match self.waiting.take() {
                None => break,
                Some((rows, from)) => self.take(rows, from)?,
            }
        }
        Ok(())
    }

    /// Takes rows from a place on, as far as there is room.
    fn take(&mut self, rows: Rows, from: usize) -> Result<(), DictionaryError> {
        let found = (rows.input.columns(), rows.target.as_ref().map(Tensor::columns));
        let (input, target) = *self.widths.get_or_insert(found);
        rows.require_widths(input, target.unwrap_or(input))?;
        let to = rows.len().min(from + self.capacity - self.held());
        self.input.extend_from_slice(&rows.input.data()[from * input..to * input]);
        if let (Some(wanted), Some(width)) = (&rows.target, target) {
            self.target.extend_from_slice(&wanted.data()[from * width..to * width]);
        }
        self.waiting = (to < rows.len()).then_some((rows, to));
        Ok(())
    }

    /// What is held, in the order in which it came but for what was drawn.
    pub(crate) fn look(&self) -> Option<Rows> {
        let (width, target) = self.widths?;
        let tensor = |data: &[f32], width: usize| {
            Tensor::new([data.len() / width.max(1), width], data.to_vec()).expect("whole rows are held")
        };
        let target = target.map(|width| tensor(&self.target, width));
        Some(Rows { input: tensor(&self.input, width), target })
    }

    /// Draws so many rows without return, fewer if there are no more; `None` when there are none.
    pub(crate) fn draw(&mut self, count: usize) -> Result<Option<Rows>, DictionaryError> {
        self.fill()?;
        let Some((width, target)) = self.widths else { return Ok(None) };
        let count = count.min(self.held());
        if count == 0 {
            return Ok(None);
        }
        let mut drawn = (Vec::with_capacity(count * width), Vec::new());
        for _ in 0..count {
            let row = self.draws.random_range(0..self.held());
            remove_row(&mut self.input, row, width, &mut drawn.0);
            if let Some(width) = target {
                remove_row(&mut self.target, row, width, &mut drawn.1);
            }
        }
        let target = target.map(|width| Tensor::new([count, width], drawn.1)).transpose()?;
        Ok(Some(Rows { input: Tensor::new([count, width], drawn.0)?, target }))
    }
}

/// Moves a row out; the last one takes its place.
fn remove_row(from: &mut Vec<f32>, row: usize, width: usize, into: &mut Vec<f32>) {
    into.extend_from_slice(&from[row * width..][..width]);
    let last = from.len() - width;
    from.copy_within(last.., row * width);
    from.truncate(last);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceError;

    /// Rows `[n, -n]` with the target `[10 n]`, so many at a time.
    fn counting(rows: usize, at_once: usize) -> impl FnMut() -> Result<Option<Rows>, SourceError> {
        let mut next = 0;
        move || {
            let numbers: Vec<f32> = (next..rows.min(next + at_once)).map(|n| n as f32).collect();
            next += numbers.len();
            let input: Vec<f32> = numbers.iter().flat_map(|n| [*n, -n]).collect();
            let target = numbers.iter().map(|n| 10.0 * n).collect();
            Ok((!numbers.is_empty()).then(|| Rows {
                input: Tensor::new([numbers.len(), 2], input).unwrap(),
                target: Some(Tensor::new([numbers.len(), 1], target).unwrap()),
            }))
        }
    }

    #[test]
    fn every_row_comes_once_with_its_target_in_an_order_that_the_seed_decides() {
        let drawn = |seed: u64, at_once: usize| {
            let mut source = counting(50, at_once);
            let mut mixing = Mixing::new(&mut source, 20, Seed(seed));
            let mut all = Vec::new();
            while let Some(rows) = mixing.draw(8).unwrap() {
                assert!(mixing.held() <= 20);
                for (input, target) in rows.input.data().chunks(2).zip(rows.wanted().data()) {
                    assert_eq!((input[1], *target), (-input[0], 10.0 * input[0]));
                    all.push(input[0] as usize);
                }
            }
            all
        };
        let first = drawn(1, 3);
        assert!([1, 7, 50].iter().all(|at_once| drawn(1, *at_once) == first), "rows at once decide nothing");
        assert_ne!(first, drawn(2, 3));
        assert_ne!(first, (0..50).collect::<Vec<_>>());
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn rows_of_another_width_and_a_failing_source_are_errors() {
        let mut width = 2;
        let mut source = || {
            width += 1;
            Ok(Some(Rows::of(Tensor::zeros([2, width]))))
        };
        assert!(matches!(Mixing::new(&mut source, 9, Seed(1)).fill(), Err(DictionaryError::Width { .. })));
        let mut source = || Err("the disk is gone".into());
        let message = Mixing::new(&mut source, 9, Seed(1)).fill().unwrap_err().to_string();
        assert!(message.contains("the disk is gone"), "{message}");
    }
}
