//! Pairs of texts that differ in one token, and the prediction that this moves most.
//!
//! A text has no prompts that were written as pairs. A token of another sequence in the place of the own one is a corruption that the model knows how to read, which noise is not, and
//! it stands at one known place, so that all that differs later has come from there. Of several places in a sequence the one is taken that moves most: most exchanges move
//! nothing, and shares of nothing say nothing. What is measured is a deterministic function of both texts, so that choosing the largest does not inflate it; it does say
//! that the cases are those on which much depends.

use moescope_base::{Observation, Request, Subject, Tokens};

use super::Read;
use crate::next_token::{first_of_largest, logits_point};
use crate::{AnalysisError, Sample, recorded};

/// Change of the logit difference that an exchanged token must make, nats: the odds of the two tokens change by a factor of 1.6.
const LEAST: f64 = 0.5;
/// Tokens between the exchanged one and that after which a later prediction is read, at least.
const BETWEEN: usize = 2;

/// One prediction of a sequence, and the token that is exchanged before it. Tokens are told as `batch * positions + pos`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Case {
    pub(super) document: u32,
    /// The token that differs.
    pub(super) exchanged: usize,
    /// What stands there in the corrupted text.
    pub(super) id: u32,
    /// Token after which the prediction is read.
    pub(super) reader: usize,
    /// Most probable next token of the clean text and of the corrupted one; they differ.
    pub(super) answers: [usize; 2],
}

/// What became of the sequences that were tried.
///
/// - **Unit and range:** sequences, 0 or more; `cases` and the four counts of those left out sum to `sequences`.
/// - **Does not show:** how a prediction answers to other tokens than those of the next sequence at the same place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried {
    /// Which prediction was looked at.
    pub read: Read,
    /// Sequences that were tried.
    pub sequences: usize,
    /// Those in which an exchanged token changes what is predicted, and enough.
    pub cases: usize,
    /// Those in which no exchanged token changes which token is most probable.
    pub same: usize,
    /// Those in which one does, and moves the two logits by less than half a nat.
    pub little: usize,
    /// Those in which no token could be exchanged, or none stands far enough before another one.
    pub without: usize,
    /// Those that have no other beside them in their batch, from which a token and a foreign vector could come.
    pub alone: usize,
    /// Changes of the logit difference, nats, summed over cases.
    pub nats: f64,
}

impl Tried {
    /// Nothing was tried yet.
    pub(super) fn none(read: Read) -> Tried {
        Tried { read, sequences: 0, cases: 0, same: 0, little: 0, without: 0, alone: 0, nats: 0.0 }
    }

    /// Enters a sequence: the largest change of a prediction, if a token could be exchanged, and whether it makes a case.
    fn enter(&mut self, best: &Best) {
        self.sequences += 1;
        match best {
            Best { tried: false, .. } => self.without += 1,
            Best { found: None, .. } => self.same += 1,
            Best { found: Some((most, _)), .. } if *most < LEAST => self.little += 1,
            Best { found: Some((most, _)), .. } => {
                self.cases += 1;
                self.nats += most;
            }
        }
    }

    /// Enters a sequence that is alone in its batch.
    pub(super) fn enter_lone(&mut self) {
        self.sequences += 1;
        self.alone += 1;
    }

    /// Takes a case of this change back out, which is alone in its batch.
    fn leave_alone(&mut self, moved: f64) {
        self.cases -= 1;
        self.alone += 1;
        self.nats -= moved;
    }

    /// Change of the logit difference on average over cases, nats; no number (NaN) without a case.
    pub fn difference(&self) -> f64 {
        self.nats / self.cases as f64
    }
}

/// The exchange of a sequence that moves a prediction most.
#[derive(Clone, Debug, Default)]
struct Best {
    /// Whether any token could be exchanged.
    tried: bool,
    /// By how much the logit difference changes, and the case.
    found: Option<(f64, Case)>,
}

/// In each sequence, of several exchanges the one that moves most: of the prediction right after it, and of a later one.
///
/// One pass tries one place in all sequences at once, since sequences do not see each other.
///
/// # Errors
/// If the subject cannot answer, or logits were not recorded.
pub(super) fn find(
    subject: &mut dyn Subject,
    sample: &Sample,
    clean: &Observation,
    candidates: usize,
    tried: &mut [Tried; 2],
) -> Result<[Vec<Case>; 2], AnalysisError> {
    let (batch, positions) = (sample.tokens().batch(), sample.tokens().positions());
    let (logits, vocab) = (recorded::real(clean, logits_point())?, subject.shape().vocab);
    let expected: Vec<usize> =
        logits.chunks_exact(vocab).map(|logits| first_of_largest(logits) as usize).collect();
    let mut best = [vec![Best::default(); batch], vec![Best::default(); batch]];
    let count = candidates.min(positions);
    for place in (0..count).map(|at| (2 * at + 1) * positions / (2 * count)) {
        let exchanged: Vec<usize> = (0..batch)
            .map(|sequence| sequence * positions + place)
            .filter(|row| partners_token(sample.tokens(), *row) != sample.tokens().ids()[*row])
            .collect();
        let tokens = corrupted(sample.tokens(), &exchanged)?;
        let seen = subject.run(&Request::recording(&tokens, &[logits_point()]))?;
        let other = recorded::real(&seen, logits_point())?;
        for row in exchanged {
            let (sequence, document) = (row / positions, sample.documents()[row]);
            let own = (row..(sequence + 1) * positions).filter(|at| sample.documents()[*at] == document);
            let id = tokens.ids()[row];
            for reader in own.filter(|reader| *reader == row || *reader > row + BETWEEN) {
                let place = &mut best[usize::from(reader > row)][sequence];
                place.tried = true;
                let at = reader * vocab..(reader + 1) * vocab;
                let (logits, other) = (&logits[at.clone()], &other[at]);
                let answers = [expected[reader], first_of_largest(other) as usize];
                let moved = change(logits, other, answers);
                if answers[0] != answers[1] && place.found.as_ref().is_none_or(|(most, _)| moved > *most) {
                    place.found = Some((moved, Case { document, exchanged: row, id, reader, answers }));
                }
            }
        }
    }
    let [next, later] = tried;
    let [of_next, of_later] = best;
    Ok([enough(of_next, next), enough(of_later, later)])
}

/// The cases of a batch whose change is large enough, none if there is but one; all sequences are entered.
fn enough(best: Vec<Best>, tried: &mut Tried) -> Vec<Case> {
    best.iter().for_each(|best| tried.enter(best));
    let found = best.into_iter().filter_map(|best| best.found.filter(|(moved, _)| *moved >= LEAST));
    let mut found: Vec<(f64, Case)> = found.collect();
    if let [(moved, _)] = found[..] {
        tried.leave_alone(moved);
        found.clear();
    }
    found.into_iter().map(|(_, case)| case).collect()
}

/// The token that the next sequence of the batch has at the same place; the last has that of the first.
fn partners_token(tokens: &Tokens, row: usize) -> u32 {
    tokens.ids()[(row + tokens.positions()) % tokens.len()]
}

/// The same batch with some tokens exchanged for those of the next sequence.
pub(super) fn corrupted(tokens: &Tokens, exchanged: &[usize]) -> Result<Tokens, AnalysisError> {
    let mut ids = tokens.ids().to_vec();
    exchanged.iter().for_each(|row| ids[*row] = partners_token(tokens, *row));
    Ok(Tokens::new(ids, tokens.batch(), tokens.positions())?)
}

/// By how much the logit of the clean answer, less that of the corrupted one, falls.
fn change(clean: &[f32], corrupted: &[f32], [a, b]: [usize; 2]) -> f64 {
    let difference = |logits: &[f32]| f64::from(logits[a]) - f64::from(logits[b]);
    difference(clean) - difference(corrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_comes_from_the_next_sequence() {
        let tokens = Tokens::new(vec![1, 2, 3, 4, 5, 6], 3, 2).unwrap();
        assert_eq!(corrupted(&tokens, &[1, 4]).unwrap().ids(), [1, 4, 3, 4, 1, 6]);
        assert_eq!(corrupted(&tokens, &[]).unwrap(), tokens);
    }

    #[test]
    fn every_sequence_is_entered_once() {
        let case = Case { document: 0, exchanged: 0, id: 1, reader: 3, answers: [0, 1] };
        let of = |tried: bool, moved: Option<f64>| Best { tried, found: moved.map(|m| (m, case.clone())) };
        let mut tried = Tried::none(Read::Later);
        let all =
            [of(false, None), of(true, None), of(true, Some(0.4)), of(true, Some(0.5)), of(true, Some(3.0))];
        assert_eq!(enough(all.to_vec(), &mut tried).len(), 2);
        let counts =
            Tried { sequences: 5, cases: 2, same: 1, little: 1, without: 1, ..Tried::none(Read::Later) };
        assert_eq!(tried, Tried { nats: 3.5, ..counts });
        assert_eq!(tried.difference(), 1.75);
        // One case alone has no foreign vector.
        assert!(enough(vec![of(true, Some(2.0)), of(true, Some(0.1))], &mut tried).is_empty());
        let counts = Tried { sequences: 7, little: 2, alone: 1, ..counts };
        assert_eq!(tried, Tried { nats: 3.5, ..counts });
        assert!(Tried::none(Read::Next).difference().is_nan());
        assert_eq!(change(&[2.0, 0.5], &[0.0, 1.0], [0, 1]), 2.5);
    }
}
