//! What is predicted after each token, and how far an edit moves it.

use moescope_base::{HookPoint, Observation, Site, Subject};
use moescope_engine::{divergence, log_total};
use rayon::prelude::*;

use crate::{AnalysisError, Sample, check};

pub(crate) fn logits_point() -> HookPoint {
    HookPoint::global(Site::Logits)
}

/// Tokens after which another of the same document and sequence stands, with their document.
pub(crate) fn predicted(sample: &Sample) -> Vec<(usize, u32)> {
    let positions = sample.tokens().positions();
    let documents = sample.documents();
    let followed =
        |row: &usize| !(row + 1).is_multiple_of(positions) && documents[*row] == documents[row + 1];
    (0..documents.len()).filter(followed).map(|row| (row, documents[row])).collect()
}

/// Ids of the tokens with the largest logits, the largest first; of equals the lower id.
pub(crate) fn most_probable(logits: &[f32], count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let larger_first = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    // Sorting a whole vocabulary for a few tokens would take far longer than finding them.
    if (1..order.len()).contains(&count) {
        order.select_nth_unstable_by(count - 1, larger_first);
        order.truncate(count);
    }
    order.sort_unstable_by(larger_first);
    order.truncate(count);
    order
}

/// Logits minus others of the same tokens.
pub(crate) fn less(logits: &[f32], others: &[f32]) -> Vec<f32> {
    logits.iter().zip(others).map(|(logit, other)| logit - other).collect()
}

/// The stream that predictions are read from.
pub(crate) fn last_stream(subject: &dyn Subject) -> HookPoint {
    HookPoint::block(Site::ResidPost, subject.shape().layers() - 1)
}

/// Place of the largest logit; of equals the lower.
pub(crate) fn first_of_largest(logits: &[f32]) -> u32 {
    let larger = |best: usize, at: usize| if logits[at] > logits[best] { at } else { best };
    (1..logits.len()).fold(0, larger) as u32
}

/// The most probable token of one row of logits, of equals the first, and its probability.
pub(crate) fn surest(logits: &[f32]) -> (u32, f64) {
    let token = first_of_largest(logits);
    (token, (f64::from(logits[token as usize]) - log_total(logits)).exp())
}

/// Loss after the token of a row.
pub(crate) fn loss_at(sample: &Sample, seen: &Observation, row: usize) -> f64 {
    let positions = sample.tokens().positions();
    f64::from(seen.loss[row / positions * (positions - 1) + row % positions])
}

/// Divergence of the edited next-token distribution from the free one after each row, nats.
pub(crate) fn divergences(
    free: &Observation,
    edited: &Observation,
    rows: &[(usize, u32)],
) -> Result<Vec<f64>, AnalysisError> {
    let logits = |seen: &'_ Observation| {
        let value = seen.values.get(&logits_point()).cloned();
        value.ok_or(AnalysisError::NotRecorded { point: logits_point() })
    };
    let (free, edited) = (logits(free)?, logits(edited)?);
    let vocab = free.columns();
    let (free, edited) = (free.real().unwrap_or(&[]), edited.real().unwrap_or(&[]));
    check::same_length("divergence", "logits under the edit", edited.len(), free.len())?;
    let at = |row: usize| row * vocab..(row + 1) * vocab;
    Ok(rows.par_iter().map(|(row, _)| divergence(&free[at(*row)], &edited[at(*row)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Tokens;

    #[test]
    fn a_probability_by_hand() {
        let (token, probability) = surest(&[0.0, 3f32.ln(), f32::NEG_INFINITY]);
        assert_eq!(token, 1);
        assert!((probability - 0.75).abs() < 1e-6);
        assert_eq!(surest(&[5.0]), (0, 1.0));
    }

    #[test]
    fn of_equal_logits_the_lower_id_is_first() {
        assert_eq!(first_of_largest(&[1.0, 3.0, 3.0, -1.0]), 1);
    }

    #[test]
    fn nothing_is_predicted_across_a_border() {
        let tokens = Tokens::new(vec![0; 8], 2, 4).unwrap();
        let sample = Sample::new(tokens, vec![5, 5, 6, 6, 7, 7, 7, 7]).unwrap();
        assert_eq!(predicted(&sample), [(0, 5), (2, 6), (4, 7), (5, 7), (6, 7)]);
    }
}
