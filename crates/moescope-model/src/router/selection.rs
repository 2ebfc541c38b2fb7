//! The choice of experts.
//!
//! Two numbers for each expert matter, and they may differ. What is selected by may hold a bias and decides
//! who is in the set; the strength decides in which order the set stands, so that the first choice is the
//! chosen expert with the largest strength, whatever the bias.
//!
//! Of equal scores the lower index wins everywhere, and every token is decided by itself, so that a choice is
//! the same on one thread and on many.

use rayon::prelude::*;

use crate::circle::circle;
use crate::description::{Routed, RouterKind};

/// Tokens of one piece of work.
const PIECE: usize = 64;

/// Which experts a token may choose. Already checked: every token can choose.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Selection {
    /// The best, with some excluded and some set.
    Best { per_token: usize, banned: Vec<bool>, forced: Vec<u32> },
    /// The best of these sets, by the sum over their members.
    Sets { per_token: usize, sets: Vec<Vec<u32>> },
    /// What was chosen before, `[token, slot]`.
    Given { per_token: usize, choices: Vec<u32> },
}

/// What the choice sees: the strengths plus the bias of each expert.
///
/// Rows of `strength[token, expert]` all get the same `bias[expert]`. Without one the strengths are copied.
pub(crate) fn biased(strength: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    match bias {
        Some(bias) => strength.iter().zip(bias.iter().cycle()).map(|(s, b)| s + b).collect(),
        None => strength.to_vec(),
    }
}

impl Selection {
    /// The router's own rule.
    pub(crate) fn of(routed: &Routed) -> Selection {
        let per_token = routed.per_token;
        match routed.router.kind {
            RouterKind::Committee { members } => {
                let committee = |c: usize| (c * members..(c + 1) * members).map(|e| e as u32).collect();
                let sets = (0..routed.experts / members).map(committee).collect();
                Selection::Sets { per_token, sets }
            }
            _ => Selection::best(per_token, routed.experts),
        }
    }

    /// The best of all.
    pub(crate) fn best(per_token: usize, experts: usize) -> Selection {
        Selection::Best { per_token, banned: vec![false; experts], forced: Vec::new() }
    }

    /// Chosen experts of every token, the strongest first, of equals the lower index: `[token, slot]`.
    ///
    /// `select[token, expert]` decides who is chosen, `strength[token, expert]` in which order they stand.
    pub(crate) fn choose(&self, select: &[f32], strength: &[f32], experts: usize) -> Vec<u32> {
        let per_token = self.per_token();
        let tokens = select.len() / experts;
        let mut choices = vec![0; tokens * per_token];
        choices.par_chunks_mut(PIECE * per_token).enumerate().for_each(|(piece, choices)| {
            let mut ranks = Vec::with_capacity(experts);
            for (index, chosen) in choices.chunks_exact_mut(per_token).enumerate() {
                let token = piece * PIECE + index;
                let row = token * experts..(token + 1) * experts;
                self.choose_one(token, &select[row.clone()], &mut ranks, chosen);
                strongest_first(chosen, &strength[row], &mut ranks);
            }
        });
        choices
    }

    /// Slots of a token, whatever the rule.
    fn per_token(&self) -> usize {
        match self {
            Selection::Best { per_token, .. }
            | Selection::Sets { per_token, .. }
            | Selection::Given { per_token, .. } => *per_token,
        }
    }

    /// Fills the slots of one token in any order; `ranks` is scratch space.
    ///
    /// Forced experts take the first slots. Of the others as many as there are slots left come from a partial
    /// selection, whose cost grows with the number of experts and not with that of an ordering of all; the
    /// order of the slots is made afterwards.
    fn choose_one(&self, token: usize, select: &[f32], ranks: &mut Vec<u64>, chosen: &mut [u32]) {
        match self {
            Selection::Best { banned, forced, .. } => {
                let (set, free) = chosen.split_at_mut(forced.len());
                set.copy_from_slice(forced);
                ranks.clear();
                ranks.extend((0..).zip(select).map(|(expert, score)| rank(*score, expert)));
                // Few routers ban or force, so the common case is one pass without a question.
                if banned.contains(&true) || !forced.is_empty() {
                    ranks.retain(|&rank| !banned[expert(rank) as usize] && !forced.contains(&expert(rank)));
                }
                smallest_first(ranks, free.len());
                free.iter_mut().zip(ranks).for_each(|(slot, rank)| *slot = expert(*rank));
            }
            Selection::Sets { sets, .. } => chosen.copy_from_slice(best_set(sets, select)),
            Selection::Given { choices, .. } => {
                chosen.copy_from_slice(&choices[token * chosen.len()..][..chosen.len()]);
            }
        }
    }
}

/// Choices up to which one list of the best so far is kept.
const FEW: usize = 16;

/// Brings the `count` smallest ranks to the front, in any order; what is behind them may be lost.
fn smallest_first(ranks: &mut [u64], count: usize) {
    match count {
        0 => {}
        _ if count >= ranks.len() => {}
        FEW.. => {
            ranks.select_nth_unstable(count - 1);
        }
        _ => {
            ranks[..count].sort_unstable();
            for next in count..ranks.len() {
                // Few of many get in, and a look at the last tells which.
                let (rank, mut place) = (ranks[next], count);
                while place > 0 && ranks[place - 1] > rank {
                    place -= 1;
                }
                if place < count {
                    ranks.copy_within(place..count - 1, place + 1);
                    ranks[place] = rank;
                }
            }
        }
    }
}

/// Puts every token's experts in order, the strongest first, of equals the lower index.
pub(crate) fn put_in_order(choices: &mut [u32], strength: &[f32], experts: usize, per_token: usize) {
    let mut ranks = Vec::with_capacity(per_token);
    for (chosen, strength) in choices.chunks_exact_mut(per_token).zip(strength.chunks_exact(experts)) {
        strongest_first(chosen, strength, &mut ranks);
    }
}

/// The same for one token; `ranks` is scratch space.
fn strongest_first(chosen: &mut [u32], strength: &[f32], ranks: &mut Vec<u64>) {
    ranks.clear();
    ranks.extend(chosen.iter().map(|&expert| rank(strength[expert as usize], expert)));
    ranks.sort_unstable();
    chosen.iter_mut().zip(ranks).for_each(|(slot, rank)| *slot = expert(*rank));
}

/// Gives every token the choice of another, the next in a random circle: `choices[token, slot]`.
///
/// Each choice is used once, so every expert keeps its load, and experts that were chosen together stay together.
pub(crate) fn deal_anew(choices: &mut [u32], per_token: usize, seed: u64) {
    let before = choices.to_vec();
    let next = circle(seed, choices.len() / per_token);
    for (chosen, from) in choices.chunks_exact_mut(per_token).zip(next) {
        chosen.copy_from_slice(&before[from * per_token..(from + 1) * per_token]);
    }
}

/// An expert's place among others: a smaller number for a larger score, and of equal scores for the lower index.
///
/// Whole numbers are compared without a branch, which with hundreds of experts makes the choice several times as fast as
/// comparing scores by their index.
///
/// The upper half of the number is the score with its bits turned so that larger scores give smaller numbers,
/// the lower half the index.
fn rank(score: f32, expert: u32) -> u64 {
    // Adding zero turns -0 into +0, which the total order would tell apart.
    let bits = (score + 0.0).to_bits();
    // Bits of a negative number fall as it grows, and its sign bit is set.
    let falling = ((bits as i32 >> 31) as u32) | 1 << 31;
    u64::from(!(bits ^ falling)) << 32 | u64::from(expert)
}

/// The expert that a rank is of.
fn expert(rank: u64) -> u32 {
    rank as u32
}

/// The set whose members have the largest sum; of equals the first.
fn best_set<'s>(sets: &'s [Vec<u32>], select: &[f32]) -> &'s [u32] {
    let sum = |set: &[u32]| set.iter().map(|e| select[*e as usize]).sum::<f32>();
    let mut best = (&sets[0], sum(&sets[0]));
    for set in &sets[1..] {
        let total = sum(set);
        if total > best.1 {
            best = (set, total);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn best(per_token: usize, experts: usize) -> Selection {
        Selection::best(per_token, experts)
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        let scores = [0.5, 0.5, 0.5, 0.5];
        assert_eq!(best(2, 4).choose(&scores, &scores, 4), [0, 1]);
        let signed = [-0.0, 0.0, -0.0];
        assert_eq!(best(1, 3).choose(&signed, &signed, 3), [0]);
    }

    #[test]
    fn a_bias_changes_who_is_chosen_and_the_strength_their_order() {
        let strength = [0.5, 0.1, 0.3, 0.1];
        let select = biased(&strength, Some(&[0.0, 1.0, 0.0, 0.0]));
        assert_eq!(best(2, 4).choose(&select, &strength, 4), [0, 1]);
    }

    #[test]
    fn bans_forces_and_sets_by_hand() {
        let scores = [0.4, 0.3, 0.2, 0.1];
        let banned = vec![true, false, false, false];
        let rule = Selection::Best { per_token: 2, banned, forced: vec![3] };
        assert_eq!(rule.choose(&scores, &scores, 4), [1, 3]);
        let rule = Selection::Sets { per_token: 2, sets: vec![vec![2, 3], vec![3, 1], vec![1, 3]] };
        assert_eq!(rule.choose(&scores, &scores, 4), [1, 3]);
        let rule = Selection::Given { per_token: 2, choices: vec![3, 0] };
        assert_eq!(rule.choose(&scores, &scores, 4), [0, 3]);
    }

    #[test]
    fn a_committee_is_chosen_whole() {
        use crate::description::Router;
        let router = Router { kind: RouterKind::Committee { members: 2 }, ..Router::learned(false) };
        let rule = Selection::of(&Routed { experts: 4, expert_width: 1, per_token: 2, router, shared: None });
        // The single best expert is in the weaker team.
        let scores = [0.45, 0.01, 0.26, 0.28];
        assert_eq!(rule.choose(&scores, &scores, 4), [3, 2]);
    }

    proptest! {
        #[test]
        fn the_chosen_are_at_least_as_good_as_the_rest(scores in proptest::collection::vec(-3i32..3, 12), k in 1usize..12) {
            let scores: Vec<f32> = scores.into_iter().map(|s| s as f32).collect();
            let chosen = best(k, 12).choose(&scores, &scores, 12);
            let worst = scores[chosen[k - 1] as usize];
            for expert in (0..12u32).filter(|e| !chosen.contains(e)) {
                prop_assert!(scores[expert as usize] <= worst);
            }
            let after = |p: &[u32]| {
                let (a, b) = (scores[p[0] as usize], scores[p[1] as usize]);
                b < a || a == b && p[0] < p[1]
            };
            prop_assert!(chosen.windows(2).all(after));
        }

        /// Of all numbers, not-a-number included.
        #[test]
        fn ranks_follow_the_total_order(a in any::<u32>(), b in any::<u32>()) {
            let (a, b) = (f32::from_bits(a), f32::from_bits(b));
            let (plain_a, plain_b) = (a + 0.0, b + 0.0);
            let wanted = plain_b.total_cmp(&plain_a).then(3.cmp(&7));
            prop_assert_eq!(rank(a, 3).cmp(&rank(b, 7)), wanted);
            prop_assert_eq!(expert(rank(a, 3)), 3);
        }
    }
}
