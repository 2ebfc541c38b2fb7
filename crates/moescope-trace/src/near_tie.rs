//! How little it would take to choose other experts.

use std::collections::BTreeMap;

use moescope_base::{HookPoint, Site, Value, ValueData};

use crate::Export;

/// Relative rounding error of a number in bf16, half a unit in its last place.
///
/// A choice whose relative margin is smaller may differ where a router's logits pass through bf16.
pub const BF16_ERROR: f32 = 1.0 / 256.0;

/// Relative error of a logit in f32, taken as that of a sum of 4096 products: 2⁻²⁴ times their root.
///
/// A choice whose relative margin is smaller may differ between two programs that both compute in f32 and sum in another order.
pub const F32_ERROR: f32 = 1.0 / (1 << 18) as f32;

/// For each token the relative error of its router logits that would be enough to exchange the last chosen and the best refused
/// expert, `[token]`.
///
/// Let every logit be off by `e` times the largest magnitude among the token's logits. To first order the two change places where `e`
/// exceeds this number: `(l - l') / (2 max|logit|)` for a choice by logits, or by scores, which keep their order. Where the choice sees
/// a bias, too, it is the margin of what it sees over `max|logit|` times the sum of the two slopes `s (1 - s)` of the scores.
///
/// - **Unit and range:** share of the largest logit, from 0 (a tie). Not a number where the router does not score, where nothing is
///   refused, and where the choice is not that of the largest (committees, forced or replayed routes).
/// - **Does not show:** ties between groups of experts, where groups are chosen first; nor what a flip would change.
///
/// `None` when `values` lacks the logits, scores, selection scores or choices of the layer.
pub fn relative_margins(values: &BTreeMap<HookPoint, Value>, layer: usize) -> Option<Vec<f32>> {
    let value = |site| values.get(&HookPoint::block(site, layer));
    let real = |site| value(site).and_then(Value::real);
    let (logits, scores, select) =
        (real(Site::RouterLogits)?, real(Site::RouterScores)?, real(Site::RouterSelect)?);
    let chosen = value(Site::RouterIndices)?;
    let (experts, slots) = (value(Site::RouterSelect)?.columns(), chosen.columns());
    let rows = logits.chunks_exact(experts).zip(scores.chunks_exact(experts));
    let rows = rows.zip(select.chunks_exact(experts)).zip(chosen.integer()?.chunks_exact(slots));
    Some(
        rows.map(|(((logits, scores), select), chosen)| relative_margin(logits, scores, select, chosen))
            .collect(),
    )
}

/// The top-k margin of each token, `[token]`: what the choice sees of the last chosen expert less that of the best refused one.
///
/// - **Unit and range:** units of the selection scores (`mlp.router.hook_select`), from 0 for a tie; below 0 where the choice is not that of
///   the largest, as with forced or replayed routes. Not a number where nothing is refused or the router does not score.
/// - **Does not show:** ties between groups of experts, where groups are chosen first; how large an error of the logits would flip the
///   choice, which [`relative_margins`] tells.
///
/// `None` when `values` lacks selection scores or choices of the layer.
pub fn margins(values: &BTreeMap<HookPoint, Value>, layer: usize) -> Option<Vec<f32>> {
    let value = |site| values.get(&HookPoint::block(site, layer));
    let (select, chosen) = (value(Site::RouterSelect)?, value(Site::RouterIndices)?);
    let rows = select.real()?.chunks_exact(select.columns());
    let rows = rows.zip(chosen.integer()?.chunks_exact(chosen.columns()));
    Some(rows.map(|(select, chosen)| margin(chosen, select)).collect())
}

/// The margins of a layer as tensors beside its recorded values: `blocks.L.mlp.router.margin` and `relative_margin`, `[batch, pos]`.
///
/// None when `values` lacks what they are worked out from.
pub fn margin_exports(values: &BTreeMap<HookPoint, Value>, layer: usize) -> Vec<Export> {
    let Some(chosen) = values.get(&HookPoint::block(Site::RouterIndices, layer)) else { return Vec::new() };
    let export = |(name, numbers): (&str, Option<Vec<f32>>)| {
        let name = format!("blocks.{layer}.mlp.router.{name}");
        numbers.map(|n| Export { name, shape: chosen.shape()[..2].to_vec(), data: ValueData::Real(n) })
    };
    let both = [("margin", margins(values, layer)), ("relative_margin", relative_margins(values, layer))];
    both.into_iter().filter_map(export).collect()
}

/// The worst chosen selection score less the best refused; not a number when nothing was refused or scored.
pub(crate) fn margin(chosen: &[i64], select: &[f32]) -> f32 {
    let is_chosen = |expert: &usize| chosen.contains(&(*expert as i64));
    if chosen.len() == select.len() || select.iter().any(|s| s.is_nan()) {
        return f32::NAN;
    }
    let worst = (0..select.len()).filter(is_chosen).map(|e| select[e]).fold(f32::INFINITY, f32::min);
    let refused = (0..select.len()).filter(|e| !is_chosen(e)).map(|e| select[e]);
    worst - refused.fold(f32::NEG_INFINITY, f32::max)
}

/// The number of one token.
fn relative_margin(logits: &[f32], scores: &[f32], select: &[f32], chosen: &[i64]) -> f32 {
    if chosen.len() == select.len() || logits.iter().chain(select).any(|x| x.is_nan()) {
        return f32::NAN;
    }
    let is_chosen = |expert: &usize| chosen.contains(&(*expert as i64));
    let by_select = |a: &usize, b: &usize| select[*a].total_cmp(&select[*b]);
    let last = (0..select.len()).filter(is_chosen).min_by(by_select);
    let refused = (0..select.len()).filter(|e| !is_chosen(e)).max_by(by_select);
    let (Some(last), Some(refused)) = (last, refused) else { return f32::NAN };
    let seen = select[last] - select[refused];
    if seen < 0.0 {
        return f32::NAN;
    }
    let largest = logits.iter().fold(0.0_f32, |largest, logit| largest.max(logit.abs()));
    let (margin, slope) = match select == logits || select == scores {
        true => (logits[last] - logits[refused], 2.0),
        false => (seen, [last, refused].iter().map(|e| scores[*e] * (1.0 - scores[*e])).sum()),
    };
    // Two equal logits are tied whatever their size.
    if margin == 0.0 { 0.0 } else { margin / (largest * slope) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sigmoid(logits: &[f32]) -> Vec<f32> {
        logits.iter().map(|l| 1.0 / (1.0 + (-l).exp())).collect()
    }

    #[test]
    fn the_margin_of_the_choice_by_hand() {
        assert!((margin(&[2, 0], &[0.5, 0.1, 0.3]) - 0.2).abs() < 1e-6);
        assert!((margin(&[1], &[0.5, 0.1, 0.3]) + 0.4).abs() < 1e-6, "not the largest");
        assert!(margin(&[0, 1], &[0.5, 0.5]).is_nan());
        assert!(margin(&[0], &[f32::NAN; 2]).is_nan());
    }

    #[test]
    fn margins_by_hand() {
        let logits = [4.0, 1.0, 0.5, -2.0];
        // Chosen 0 and 1, refused 2: half a unit between them, and the largest is 4.
        assert_eq!(relative_margin(&logits, &[0.9; 4], &logits, &[0, 1]), 0.5 / 8.0);
        let scores = sigmoid(&logits);
        assert_eq!(relative_margin(&logits, &scores, &scores, &[0, 1]), 0.5 / 8.0);
        assert_eq!(relative_margin(&[1.0, 1.0], &[0.5; 2], &[0.5; 2], &[0]), 0.0);
        assert!(relative_margin(&logits, &scores, &scores, &[3, 2]).is_nan(), "not the largest");
        assert!(relative_margin(&logits, &scores, &scores, &[0, 1, 2, 3]).is_nan(), "nothing refused");
        assert!(relative_margin(&[f32::NAN; 2], &[f32::NAN; 2], &[f32::NAN; 2], &[0]).is_nan());
    }

    #[test]
    fn an_error_of_that_size_exchanges_them_and_a_smaller_one_does_not() {
        let logits = [3.0_f32, 0.2, 0.1, -1.0];
        for bias in [[0.0; 4], [0.0, 0.01, 0.0, 0.3]] {
            let select =
                |logits: &[f32]| sigmoid(logits).iter().zip(bias).map(|(s, b)| s + b).collect::<Vec<f32>>();
            let seen = select(&logits);
            let mut order: Vec<i64> = (0..4).collect();
            order.sort_by(|a, b| seen[*b as usize].total_cmp(&seen[*a as usize]));
            let (last, refused) = (order[1] as usize, order[2] as usize);
            let error = relative_margin(&logits, &sigmoid(&logits), &seen, &order[..2]);
            for (part, flips) in [(0.9, false), (1.1, true)] {
                let mut moved = logits;
                moved[last] -= part * error * 3.0;
                moved[refused] += part * error * 3.0;
                let after = select(&moved);
                assert_eq!(after[last] < after[refused], flips, "{bias:?} {part}");
            }
        }
    }

    #[test]
    fn a_common_factor_changes_nothing_and_larger_logits_have_larger_errors() {
        let logits = [2.0, 1.5, -1.0];
        let of = |logits: &[f32]| relative_margin(logits, &[0.5; 3], logits, &[0]);
        assert_eq!(of(&logits), of(&logits.map(|l| 8.0 * l)));
        assert!(of(&[2.0, 1.5, -10.0]) < of(&logits));
    }
}
