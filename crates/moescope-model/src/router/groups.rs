//! The choice of groups of experts, which comes before that of experts.

use crate::description::Groups;

/// Leaves `select[token, expert]` as it is in the groups that each token chooses, and puts minus infinity elsewhere. Of groups as
/// good as each other the first is chosen.
///
/// **Source:** DeepSeek-AI 2024, "DeepSeek-V3 Technical Report" (arXiv 2412.19437).
pub(super) fn keep_chosen(select: &mut [f32], experts: usize, groups: Groups) {
    let size = experts / groups.count;
    for token in select.chunks_exact_mut(experts) {
        let worth: Vec<f32> = token.chunks_exact(size).map(|group| worth(group, groups.best)).collect();
        let mut order: Vec<usize> = (0..groups.count).collect();
        order.sort_by(|a, b| worth[*b].total_cmp(&worth[*a]));
        for group in &order[groups.chosen..] {
            token[group * size..(group + 1) * size].fill(f32::NEG_INFINITY);
        }
    }
}

/// The sum of the best experts of a group.
fn worth(group: &[f32], best: usize) -> f32 {
    let mut sorted = group.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted[..best].iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_as_good_as_their_best() {
        let scores = [0.5, 0.0, 0.3, 0.3, 0.1, 0.2];
        let kept = |chosen, best| {
            let mut select = scores;
            keep_chosen(&mut select, 6, Groups { count: 3, chosen, best });
            (0..6).filter(|expert| select[*expert].is_finite()).collect::<Vec<_>>()
        };
        assert_eq!(kept(1, 1), [0, 1]);
        assert_eq!(kept(1, 2), [2, 3]);
        assert_eq!(kept(2, 2), [0, 1, 2, 3]);
        assert_eq!(kept(3, 1).len(), 6);
    }
}
