//! A batch of task sequences and what is to be predicted in them.

use moescope_base::Tokens;

use crate::error::CorpusError;

/// The target of a position where nothing is to be predicted.
pub const IGNORE: u32 = u32::MAX;

/// Sequences of a task with their answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskBatch {
    tokens: Tokens,
    targets: Vec<u32>, // [batch, pos]
}

/// One sequence under construction: ids, and for each whether it is an answer.
#[derive(Default)]
pub(super) struct Sequence {
    ids: Vec<u32>,     // [pos]
    answer: Vec<bool>, // [pos]
}

impl Sequence {
    /// Adds a token that is given.
    pub(super) fn given(&mut self, id: usize) {
        self.ids.push(id as u32);
        self.answer.push(false);
    }

    /// Adds a token that is to be predicted from those before it.
    pub(super) fn answer(&mut self, id: usize) {
        self.ids.push(id as u32);
        self.answer.push(true);
    }

    /// For each position the id to predict next, or [`IGNORE`].
    fn targets(&self) -> impl Iterator<Item = u32> {
        let next = self.ids.iter().zip(&self.answer).skip(1);
        next.map(|(&id, &answer)| if answer { id } else { IGNORE }).chain([IGNORE])
    }
}

impl TaskBatch {
    pub(super) fn from_sequences(
        sequences: impl Iterator<Item = Sequence>,
        positions: usize,
    ) -> Result<Self, CorpusError> {
        let (mut ids, mut targets, mut batch) = (Vec::new(), Vec::new(), 0);
        for sequence in sequences {
            targets.extend(sequence.targets());
            ids.extend(sequence.ids);
            batch += 1;
        }
        let tokens = Tokens::new(ids, batch, positions).map_err(|_| CorpusError::TooLittle {
            what: "batch",
            found: batch,
            wanted: 1,
        })?;
        Ok(Self { tokens, targets })
    }

    /// The sequences, `ids[batch, pos]`.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The id to predict at each position (the one that follows it), or [`IGNORE`]; `[batch, pos]`.
    pub fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// Places in `[batch, pos]`, row-major, where an answer is to be predicted, each with the answer.
    pub fn answers(&self) -> impl Iterator<Item = (usize, u32)> {
        self.targets.iter().copied().enumerate().filter(|&(_, target)| target != IGNORE)
    }

    /// Share of answers predicted right, from 0 to 1.
    ///
    /// `predicted[batch, pos]` is the likeliest next id at each position; places without an answer
    /// do not count. Does not show how sure the model was.
    ///
    /// # Errors
    /// [`CorpusError::TooLittle`] when there are fewer predictions than positions.
    pub fn accuracy(&self, predicted: &[u32]) -> Result<f64, CorpusError> {
        if predicted.len() < self.targets.len() {
            let (found, wanted) = (predicted.len(), self.targets.len());
            return Err(CorpusError::TooLittle { what: "number of predictions", found, wanted });
        }
        let right = self.answers().filter(|&(place, target)| predicted[place] == target).count();
        Ok(right as f64 / self.answers().count() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> TaskBatch {
        let mut sequence = Sequence::default();
        sequence.given(4);
        sequence.answer(5);
        sequence.given(6);
        sequence.answer(7);
        TaskBatch::from_sequences([sequence].into_iter(), 4).unwrap()
    }

    #[test]
    fn a_target_stands_one_place_before_its_answer() {
        assert_eq!(batch().targets(), [5, IGNORE, 7, IGNORE]);
        assert_eq!(batch().answers().collect::<Vec<_>>(), [(0, 5), (2, 7)]);
    }

    #[test]
    fn accuracy_counts_answers_alone() {
        assert_eq!(batch().accuracy(&[5, 0, 0, 0]).unwrap(), 0.5);
        assert_eq!(batch().accuracy(&[5, 9, 7, 9]).unwrap(), 1.0);
        assert!(batch().accuracy(&[5]).is_err());
    }
}
