//! Random experts of the same layer and of similar load.

use std::collections::BTreeMap;

use moescope_base::Seed;
use rand::RngExt;

use super::ExpertId;

/// Share of tokens that choose each expert: `loads[layer][expert]`.
pub(super) type Loads = BTreeMap<usize, Vec<f64>>;

/// How many times lower or higher a similar load may be.
const SIMILAR: f64 = 2.0;
/// Candidates for each expert of a layer, at least, however far their loads are; else a lone neighbour would be the only control.
const CANDIDATES: usize = 3;

/// Distinct sets, each with one random expert in the place of each given one: of the same layer, itself not given, and of similar
/// load. Loads are similar within a factor of two; where there are few such experts, the nearest are taken.
///
/// Fewer sets than asked for if there are no more, or none found in many tries.
pub(super) fn sets(loads: &Loads, given: &[ExpertId], count: usize, seed: Seed) -> Vec<Vec<ExpertId>> {
    let mut given = given.to_vec();
    given.sort_unstable();
    let pools: Vec<Vec<usize>> = given.iter().map(|id| pool(&loads[&id.layer], *id, &given)).collect();
    let mut rng = seed.child("matched experts").rng();
    let mut sets: Vec<Vec<ExpertId>> = Vec::new();
    for _ in 0..count * 50 {
        if sets.len() == count {
            break;
        }
        let mut set: Vec<ExpertId> = Vec::with_capacity(given.len());
        for (id, pool) in given.iter().zip(&pools) {
            let open = |expert: &&usize| !set.contains(&ExpertId { layer: id.layer, expert: **expert });
            let open: Vec<usize> = pool.iter().filter(open).copied().collect();
            if let Some(last) = open.len().checked_sub(1) {
                set.push(ExpertId { layer: id.layer, expert: open[rng.random_range(0..=last)] });
            }
        }
        set.sort_unstable();
        if set.len() == given.len() && !sets.contains(&set) {
            sets.push(set);
        }
    }
    sets
}

/// Experts that may stand in for one, the nearest load first.
pub(super) fn pool(loads: &[f64], id: ExpertId, given: &[ExpertId]) -> Vec<usize> {
    let own = loads[id.expert];
    let distance = |expert: &usize| (loads[*expert] - own).abs();
    let is_given = |expert: usize| given.contains(&ExpertId { layer: id.layer, expert });
    let mut others: Vec<usize> = (0..loads.len()).filter(|expert| !is_given(*expert)).collect();
    others.sort_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.cmp(b)));
    let similar = |expert: &usize| own / SIMILAR <= loads[*expert] && loads[*expert] <= own * SIMILAR;
    let in_layer = given.iter().filter(|other| other.layer == id.layer).count();
    let least = (CANDIDATES * in_layer).min(others.len());
    let nearest = others[..least].to_vec();
    nearest.into_iter().chain(others[least..].iter().copied().filter(similar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loads(loads: &[f64]) -> Loads {
        BTreeMap::from([(3, loads.to_vec())])
    }

    fn id(expert: usize) -> ExpertId {
        ExpertId { layer: 3, expert }
    }

    #[test]
    fn stand_ins_are_of_similar_load_and_the_nearest_where_there_are_few() {
        let loads = [0.4, 0.01, 0.3, 0.25, 0.21, 0.02, 0.9];
        assert_eq!(pool(&loads, id(0), &[id(0)]), [2, 3, 4]);
        assert_eq!(pool(&loads, id(1), &[id(1)]), [5, 4, 3], "one is within a factor of two");
        assert_eq!(pool(&[0.1; 7], id(6), &[id(6)]), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn no_more_sets_are_drawn_than_there_are() {
        let few = sets(&loads(&[0.5, 0.5, 0.5]), &[id(1)], 9, Seed(1));
        assert_eq!(few.len(), 2);
        assert!(sets(&loads(&[0.5]), &[id(0)], 9, Seed(1)).is_empty());
        assert!(sets(&loads(&[0.5; 3]), &[id(0), id(1)], 9, Seed(1)).is_empty(), "one left for two");
    }

    proptest! {
        #[test]
        fn sets_are_distinct_and_name_others(seed: u64, count in 0usize..6) {
            let given = [id(4), id(0)];
            let sets = sets(&loads(&[0.1, 0.2, 0.1, 0.3, 0.2, 0.1, 0.15, 0.2]), &given, count, Seed(seed));
            prop_assert_eq!(sets.len(), count);
            for (place, set) in sets.iter().enumerate() {
                prop_assert!(set.len() == 2 && set[0] < set[1]);
                prop_assert!(!set.contains(&id(4)) && !set.contains(&id(0)) && !sets[..place].contains(set));
            }
        }
    }
}
