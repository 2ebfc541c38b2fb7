//! A threshold on a score, fitted on some tokens and judged on others.

/// The threshold with the best F1 on the given tokens: a score as large or larger is a yes. `scores` is not empty.
pub(super) fn best_threshold(scores: &[f64], holds: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let positives = holds.iter().filter(|holds| **holds).count();
    let (mut right, mut best) = (0, (0.0, scores[order[order.len() - 1]]));
    for (place, token) in order.iter().enumerate() {
        right += usize::from(holds[*token]);
        // Equal scores are on the same side.
        if order.get(place + 1).is_some_and(|next| scores[*next] == scores[*token]) {
            continue;
        }
        let f1 = 2.0 * right as f64 / (place + 1 + positives) as f64;
        if f1 > best.0 {
            best = (f1, scores[*token]);
        }
    }
    best.1
}

/// The harmonic mean of precision and recall over some tokens, repeats counted; 0 where no yes is right.
pub(super) fn f1(said: &[bool], holds: &[bool], tokens: impl Iterator<Item = usize>) -> f64 {
    let (mut right, mut yes) = (0_usize, 0_usize);
    for token in tokens {
        right += usize::from(said[token] && holds[token]);
        yes += usize::from(said[token]) + usize::from(holds[token]);
    }
    if right == 0 { 0.0 } else { 2.0 * right as f64 / yes as f64 }
}

/// F1 of always saying yes, which depends on how often a feature holds alone.
pub(super) fn always_yes(holds: &[bool]) -> f64 {
    let share = holds.iter().filter(|holds| **holds).count() as f64 / holds.len() as f64;
    2.0 * share / (1.0 + share)
}

/// F1 beyond that of always saying yes.
pub(super) fn gain(said: &[bool], holds: &[bool]) -> f64 {
    f1(said, holds, 0..holds.len()) - always_yes(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_and_f1_by_hand() {
        let holds = [true, true, false, true, false];
        let scores = [5.0, 4.0, 3.0, 2.0, 1.0];
        // Yes to the first two: 2·2 / (2 + 3) = 0.8; to the first four: 2·3 / (4 + 3) = 0.857.
        assert_eq!(best_threshold(&scores, &holds), 2.0);
        let said = scores.map(|score| score >= 2.0);
        assert!((f1(&said, &holds, 0..5) - 6.0 / 7.0).abs() < 1e-12);
        // Always yes: a share of 0.6 gives 2·0.6 / 1.6 = 0.75.
        assert!((gain(&said, &holds) - (6.0 / 7.0 - 0.75)).abs() < 1e-12);
        assert_eq!(f1(&[false; 2], &[true, false], 0..2), 0.0);
        assert!(gain(&[true; 5], &holds).abs() < 1e-12);
    }

    #[test]
    fn equal_scores_are_not_parted() {
        let scores = [1.0, 1.0, 1.0, 0.0];
        assert_eq!(best_threshold(&scores, &[true, false, false, false]), 1.0);
        assert_eq!(best_threshold(&[2.0; 3], &[false; 3]), 2.0, "nothing to find");
    }
}
