//! Weights of two experts chosen one after the other.

use crate::cpu::chunks::{each, rows_per_piece};

/// The two choices of a token in the order in which they were made: by falling logit.
fn in_order(logits: &[f32], choices: &[u32]) -> [usize; 2] {
    let [a, b] = [choices[0] as usize, choices[1] as usize];
    let first = logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
    if first { [a, b] } else { [b, a] }
}

/// Which experts compete with the one that was chosen: those whose logit is not larger, nor smaller by more than the tolerance,
/// relative to the larger magnitude. `before` was chosen earlier and is out.
fn competes(logits: &[f32], expert: usize, chosen: usize, before: Option<usize>, tolerance: f32) -> bool {
    let (own, best) = (logits[expert], logits[chosen]);
    let scale = if own.abs() > best { own.abs() } else { best };
    let far = (best - own) / scale > 2.0 * tolerance;
    expert == chosen || (Some(expert) != before && own <= best && !far)
}

/// Softmax over the competitors, `[expert]`, zero elsewhere.
fn shares(logits: &[f32], chosen: usize, before: Option<usize>, tolerance: f32, out: &mut [f32]) {
    let mut total = 0.0;
    for (expert, out) in out.iter_mut().enumerate() {
        let open = competes(logits, expert, chosen, before, tolerance);
        *out = if open { libm::expf(logits[expert] - logits[chosen]) } else { 0.0 };
        total += *out;
    }
    out.iter_mut().for_each(|share| *share /= total);
}

/// Weights in the order of `choices`, `[token, 2]`.
pub(crate) fn forward(logits: &[f32], experts: usize, choices: &[u32], tolerance: f32, out: &mut [f32]) {
    each(out, 2 * rows_per_piece(experts), |start, out| {
        let mut row = vec![0.0; experts];
        for (token, out) in (start / 2..).zip(out.chunks_exact_mut(2)) {
            let logits = &logits[token * experts..][..experts];
            let choices = &choices[2 * token..][..2];
            let [first, second] = in_order(logits, choices);
            for (chosen, before) in [(first, None), (second, Some(first))] {
                shares(logits, chosen, before, tolerance, &mut row);
                let slot = usize::from(choices[0] as usize != chosen);
                out[slot] = row[chosen];
            }
        }
    });
}

/// `dl = g w (δ - share)` for each of the two; who competes is a constant.
pub(crate) fn backward(
    logits: &[f32],
    experts: usize,
    choices: &[u32],
    tolerance: f32,
    gradient: &[f32],
    out: &mut [f32],
) {
    let experts = experts.max(1);
    each(out, rows_per_piece(experts) * experts, |start, out| {
        let mut row = vec![0.0; experts];
        for (token, out) in (start / experts..).zip(out.chunks_exact_mut(experts)) {
            let logits = &logits[token * experts..][..experts];
            let choices = &choices[2 * token..][..2];
            let [first, second] = in_order(logits, choices);
            out.fill(0.0);
            for (chosen, before) in [(first, None), (second, Some(first))] {
                shares(logits, chosen, before, tolerance, &mut row);
                let slot = usize::from(choices[0] as usize != chosen);
                let pull = gradient[2 * token + slot] * row[chosen];
                out[chosen] += pull;
                out.iter_mut().zip(&row).for_each(|(out, share)| *out -= pull * share);
            }
        }
    });
}
