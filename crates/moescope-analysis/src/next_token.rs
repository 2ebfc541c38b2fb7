//! What is predicted after each token, and how far an edit moves it.

use moescope_base::{HookPoint, Observation, Site};
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
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    order.truncate(count);
    order
}

/// Logits minus others of the same tokens.
pub(crate) fn less(logits: &[f32], others: &[f32]) -> Vec<f32> {
    logits.iter().zip(others).map(|(logit, other)| logit - other).collect()
}

/// Id of the token with the largest of these logits, of which there is at least one; of equals the lower id.
pub(crate) fn likeliest(logits: &[f32]) -> u32 {
    let better = |best: (u32, f32), next: (u32, f32)| if next.1 > best.1 { next } else { best };
    (0..).zip(logits.iter().copied()).reduce(better).expect("a vocabulary has a token").0
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

/// KL of the distribution of `edited` logits from that of `free` ones: Σ p (ln p − ln q), nats.
fn divergence(free: &[f32], edited: &[f32]) -> f64 {
    let (above_free, above_edited) = (log_sum(free), log_sum(edited));
    let pairs =
        free.iter().zip(edited).map(|(f, e)| (f64::from(*f) - above_free, f64::from(*e) - above_edited));
    // An impossible token adds nothing, and rounding must not make a divergence negative.
    pairs.map(|(p, q)| if p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) }).sum::<f64>().max(0.0)
}

/// Logarithm of the sum of the exponentials.
fn log_sum(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + logits.iter().map(|logit| (f64::from(*logit) - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::Tokens;

    #[test]
    fn a_divergence_by_hand() {
        // From (1/2, 1/2) to (1/4, 3/4).
        let wanted = 0.5 * (2f64).ln() + 0.5 * (2.0_f64 / 3.0).ln();
        assert!((divergence(&[0.0, 0.0], &[0.0, 3f32.ln()]) - wanted).abs() < 1e-7);
        assert_eq!(divergence(&[1.0, 2.0, -5.0], &[1.0, 2.0, -5.0]), 0.0);
        assert!(divergence(&[1.0, 2.0], &[8.0, 9.0]).abs() < 1e-9, "a shift of all changes nothing");
        assert_eq!(divergence(&[0.0, f32::NEG_INFINITY], &[0.0, f32::NEG_INFINITY]), 0.0);
    }

    #[test]
    fn of_equals_the_lower_id_is_the_likeliest() {
        assert_eq!((likeliest(&[1.0, 3.0, 3.0]), likeliest(&[0.0; 4])), (1, 0));
        assert_eq!(most_probable(&[1.0, 3.0, 3.0], 2), [1, 2]);
    }

    #[test]
    fn nothing_is_predicted_across_a_border() {
        let tokens = Tokens::new(vec![0; 8], 2, 4).unwrap();
        let sample = Sample::new(tokens, vec![5, 5, 6, 6, 7, 7, 7, 7]).unwrap();
        assert_eq!(predicted(&sample), [(0, 5), (2, 6), (4, 7), (5, 7), (6, 7)]);
    }
}
