//! What is predicted after each token, and how far an edit moves it.

use moescope_base::{HookPoint, Observation, Request, Site, Subject, Tokens};
use moescope_trace::TokenTable;
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

/// Tokens whose logits are in memory at a time.
const ROWS_AT_ONCE: usize = 256;

/// The most probable next token after every token of a text, batch after batch; of equals the lower id.
///
/// One pass is made over each batch; nothing but the ids is kept.
///
/// # Errors
/// If the subject cannot answer or leaves the stream out.
pub(crate) fn predicted_ids(
    subject: &mut dyn Subject,
    batches: &[(Tokens, TokenTable)],
) -> Result<Vec<u32>, AnalysisError> {
    let point = last_stream(subject);
    let mut ids = Vec::new();
    for (tokens, _) in batches {
        let seen = subject.run(&Request { record: &[point], ..Request::of(tokens) })?;
        ids.extend(likeliest(subject, &seen)?);
    }
    Ok(ids)
}

/// The stream that predictions are read from.
pub(crate) fn last_stream(subject: &dyn Subject) -> HookPoint {
    HookPoint::block(Site::ResidPost, subject.shape().layers() - 1)
}

/// The most probable next token after every token of a pass that recorded the [`last_stream`].
///
/// The final norm and the unembedding read it some rows at a time, since logits of whole batches are far larger than anything else that is
/// looked at.
///
/// # Errors
/// If the stream was not recorded, or cannot be read.
pub(crate) fn likeliest(subject: &mut dyn Subject, seen: &Observation) -> Result<Vec<u32>, AnalysisError> {
    let (point, width, vocabulary) = (last_stream(subject), subject.shape().d_model, subject.shape().vocab);
    let stream = seen.values.get(&point).and_then(|value| value.real());
    let stream = stream.ok_or(AnalysisError::NotRecorded { point })?;
    let mut ids = Vec::new();
    for rows in stream.chunks(ROWS_AT_ONCE * width) {
        let logits = subject.unembed(rows)?;
        ids.extend(logits.par_chunks_exact(vocabulary).map(first_of_largest).collect::<Vec<u32>>());
    }
    Ok(ids)
}

/// Place of the largest logit; of equals the lower.
fn first_of_largest(logits: &[f32]) -> u32 {
    let larger = |best: usize, at: usize| if logits[at] > logits[best] { at } else { best };
    (1..logits.len()).fold(0, larger) as u32
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
pub(crate) fn divergence(free: &[f32], edited: &[f32]) -> f64 {
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
    use crate::planted_model::{VOCAB, batch, model, own_text};
    use moescope_model::ModelSubject;

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
    fn the_predicted_token_is_that_of_the_largest_logit_whatever_the_batches() {
        let planted = model(2, 3, |_, _| {});
        let samples = [own_text(&planted, 14, 1), own_text(&planted, 3, 2)];
        let batches: Vec<(Tokens, TokenTable)> = samples.iter().map(batch).collect();
        let mut subject = ModelSubject::new(planted);
        let ids = predicted_ids(&mut subject, &batches).unwrap();
        let mut wanted = Vec::new();
        for (tokens, _) in &batches {
            let seen = subject.run(&Request { record: &[logits_point()], ..Request::of(tokens) }).unwrap();
            let logits = seen.values[&logits_point()].real().unwrap();
            wanted.extend(logits.chunks_exact(VOCAB).map(|row| most_probable(row, 1)[0]));
        }
        assert_eq!((ids.len(), &ids), (17 * 24, &wanted), "more rows than are read at once");
        assert!(ids.iter().any(|id| *id != ids[0]));
        assert_eq!(first_of_largest(&[1.0, 3.0, 3.0, -1.0]), 1, "of equals the lower");
        assert!(predicted_ids(&mut subject, &[]).unwrap().is_empty());
    }

    #[test]
    fn nothing_is_predicted_across_a_border() {
        let tokens = Tokens::new(vec![0; 8], 2, 4).unwrap();
        let sample = Sample::new(tokens, vec![5, 5, 6, 6, 7, 7, 7, 7]).unwrap();
        assert_eq!(predicted(&sample), [(0, 5), (2, 6), (4, 7), (5, 7), (6, 7)]);
    }
}
