//! Groups of experts that are merged into one each.
//!
//! Groups come from likeness alone; how often experts are used decides only what each adds to the mean of its group. The null deals the same
//! group sizes to other members: large groups cost more than small ones, whoever is in them.

use moescope_base::Seed;
use rand::seq::SliceRandom;

/// Joins the two groups with the largest mean similarity, again and again, until `merged` experts fewer are left.
///
/// `similarity[expert][expert]` is symmetric. Groups hold places in it, each ascending; single experts are groups as well.
/// Average linkage (Sokal and Michener 1958).
///
/// Mean rather than largest similarity, because by the largest one group tends to swallow the others one by
/// one (chaining), and its mean would stand for experts that have little in common.
pub(super) fn alike(similarity: &[Vec<f64>], merged: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = (0..similarity.len()).map(|expert| vec![expert]).collect();
    let linkage = |first: &[usize], second: &[usize]| {
        let pairs = first.iter().flat_map(|a| second.iter().map(|b| similarity[*a][*b]));
        pairs.sum::<f64>() / (first.len() * second.len()) as f64
    };
    for _ in 0..merged.min(similarity.len() - 1) {
        let pairs = (0..groups.len()).flat_map(|first| (first + 1..groups.len()).map(move |b| (first, b)));
        let nearest = pairs
            .map(|(first, second)| (linkage(&groups[first], &groups[second]), first, second))
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        if let Some((_, first, second)) = nearest {
            let mut joined = groups.remove(second);
            groups[first].append(&mut joined);
            groups[first].sort_unstable();
        }
    }
    groups
}

/// The same groups with their members dealt anew: as many groups of the same sizes.
pub(super) fn dealt(groups: &[Vec<usize>], seed: Seed) -> Vec<Vec<usize>> {
    let mut names: Vec<usize> = groups.concat();
    names.shuffle(&mut seed.rng());
    let mut names = names.into_iter();
    groups.iter().map(|group| names.by_ref().take(group.len()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn groups_by_hand() {
        let similarity = vec![
            vec![1.0, 0.1, 0.9, 0.0],
            vec![0.1, 1.0, 0.3, 0.4],
            vec![0.9, 0.3, 1.0, 0.2],
            vec![0.0, 0.4, 0.2, 1.0],
        ];
        assert_eq!(alike(&similarity, 1), [vec![0, 2], vec![1], vec![3]]);
        // {0, 2} with 1 is alike by 0.2, with 3 by 0.1; 1 with 3 by 0.4.
        assert_eq!(alike(&similarity, 2), [vec![0, 2], vec![1, 3]]);
        assert_eq!(alike(&similarity, 9), [vec![0, 1, 2, 3]]);
    }

    proptest! {
        #[test]
        fn dealing_keeps_sizes_and_members(seed in any::<u64>()) {
            let groups = vec![vec![0, 3, 5], vec![1], vec![2, 4]];
            let dealt = dealt(&groups, Seed(seed));
            prop_assert!(dealt.iter().map(Vec::len).eq([3, 1, 2]));
            let mut members = dealt.concat();
            members.sort_unstable();
            prop_assert!(members.into_iter().eq(0..6));
        }
    }
}
