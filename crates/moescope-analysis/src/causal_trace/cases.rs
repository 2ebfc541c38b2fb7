//! Subjects on which predictions depend, and the noise that disturbs them.

use moescope_base::{Edit, HookPoint, Observation, Request, Seed, Site, Subject, TokenSelection, ValueEdit};
use moescope_engine::log_total;

use super::Reach;
use crate::matrix::normal;
use crate::next_token::logits_point;
use crate::recorded::real;
use crate::{AnalysisError, Sample};

/// Tokens of a subject, at most.
const SPAN: usize = 3;
/// Noise, in standard deviations of the entries of all embeddings.
const NOISE: f64 = 3.0;
/// Probability that noise must take for a case to be traced.
const LEAST: f64 = 0.01;

/// One prediction and what it depends on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Case {
    pub(super) document: u32,
    /// Tokens of the subject, as `batch * positions + pos`, ascending; the last is where vectors are restored.
    pub(super) span: Vec<usize>,
    /// Token after which the prediction is read.
    pub(super) reader: usize,
    /// The model's most probable next token there.
    pub(super) target: usize,
    /// Its probability.
    pub(super) probability: f64,
}

/// In each sequence, of several subjects the one whose disturbance takes most: of the prediction after it, and of a later one.
pub(super) fn find(
    subject: &mut dyn Subject,
    sample: &Sample,
    clean: &Observation,
    candidates: usize,
    seed: Seed,
) -> Result<[(Reach, Vec<Case>); 2], AnalysisError> {
    let (batch, positions) = (sample.tokens().batch(), sample.tokens().positions());
    let vocab = subject.shape().vocab;
    let logits = real(clean, logits_point())?;
    let targets: Vec<(usize, f64)> = logits
        .chunks_exact(vocab)
        .map(|row| {
            let top = (0..vocab).fold(0, |top, token| if row[token] > row[top] { token } else { top });
            (top, probability(row, top))
        })
        .collect();
    let mut best: [Vec<Option<(f64, Case)>>; 2] = [vec![None; batch], vec![None; batch]];
    let count = candidates.min(positions);
    for candidate in (0..count).map(|at| (2 * at + 1) * positions / (2 * count)) {
        let spans: Vec<Vec<usize>> =
            (0..batch).map(|sequence| span(sample.documents(), sequence * positions, candidate)).collect();
        let edit = noise(clean, &spans.concat(), seed.child("search").index(candidate as u64))?;
        let seen = subject.run(&Request {
            record: &[logits_point()],
            edits: &[edit],
            ..Request::of(sample.tokens())
        })?;
        let disturbed = real(&seen, logits_point())?;
        for (sequence, span) in spans.into_iter().enumerate() {
            let own = sequence * positions + candidate;
            let document = sample.documents()[own];
            let readers =
                (own..(sequence + 1) * positions).filter(|row| sample.documents()[*row] == document);
            for reader in readers {
                let (target, probability) = targets[reader];
                let drop =
                    probability - self::probability(&disturbed[reader * vocab..(reader + 1) * vocab], target);
                let place = &mut best[usize::from(reader > own)][sequence];
                if drop >= LEAST && place.as_ref().is_none_or(|(most, _)| drop > *most) {
                    *place = Some((drop, Case { document, span: span.clone(), reader, target, probability }));
                }
            }
        }
    }
    let [own, later] = best.map(|found| found.into_iter().flatten().map(|(_, case)| case).collect());
    Ok([(Reach::Own, own), (Reach::Later, later)])
}

/// The tokens of a subject that ends at a position, within one document.
fn span(documents: &[u32], sequence: usize, last: usize) -> Vec<usize> {
    let last = sequence + last;
    (sequence.max((last + 1).saturating_sub(SPAN))..=last)
        .filter(|row| documents[*row] == documents[last])
        .collect()
}

/// Adds noise to the embeddings of some tokens, ascending.
pub(super) fn noise(clean: &Observation, rows: &[usize], seed: Seed) -> Result<Edit, AnalysisError> {
    let at = HookPoint::global(Site::Embed);
    let embedded = real(clean, at)?;
    let width = clean.values[&at].columns();
    let mean = embedded.iter().map(|x| f64::from(*x)).sum::<f64>() / embedded.len() as f64;
    let square = embedded.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / embedded.len() as f64;
    let size = NOISE * square.sqrt();
    let noisy = |row: &usize| {
        let mut rng = seed.index(*row as u64).rng();
        let vector = &embedded[row * width..(row + 1) * width];
        vector.iter().map(|x| x + (size * normal(&mut rng)) as f32).collect::<Vec<f32>>()
    };
    let tokens = TokenSelection::Rows(rows.iter().map(|row| *row as u32).collect());
    Ok(Edit::Value { at, tokens, change: ValueEdit::Patch { rows: rows.iter().flat_map(noisy).collect() } })
}

/// Probability of a token from the logits of one position.
pub(super) fn probability(logits: &[f32], token: usize) -> f64 {
    (f64::from(logits[token]) - log_total(logits)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_stays_in_its_sequence_and_document() {
        let documents = [1, 1, 1, 2, 2, 2, 2, 2];
        assert_eq!(span(&documents, 0, 2), [0, 1, 2]);
        assert_eq!(span(&documents, 0, 3), [3]);
        assert_eq!(span(&documents, 4, 0), [4]);
        assert_eq!(span(&documents, 4, 3), [5, 6, 7]);
    }

    #[test]
    fn a_probability_by_hand() {
        assert!((probability(&[0.0, 3f32.ln(), 0.0], 1) - 0.6).abs() < 1e-6);
    }
}
