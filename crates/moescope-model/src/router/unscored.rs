//! Routers that do not look at what the model represents.

use moescope_base::{Seed, Tokens};

/// Priorities of the experts for each token, a seeded function of token id and layer: `[token, expert]`, in `[0, 1)`.
///
/// The experts of highest priority are chosen, so every set of experts is equally likely for a token id, and a banned expert has
/// a next best.
pub(crate) fn hash(tokens: &Tokens, experts: usize, seed: u64, layer: usize) -> Vec<f32> {
    let layer_seed = Seed(seed).child("hash router").index(layer as u64);
    let states = tokens.ids().iter().map(|id| layer_seed.index(u64::from(*id)));
    states.flat_map(|state| priorities(state, experts)).collect()
}

/// Priorities as a seeded function of everything up to and including the token, of layer and salt: `[token, expert]`.
///
/// Independent of where a sequence stands in the batch, and causal.
pub(crate) fn random(tokens: &Tokens, experts: usize, seed: u64, layer: usize, salt: u64) -> Vec<f32> {
    let start = Seed(seed).child("random router").index(layer as u64).index(salt);
    let mut out = Vec::with_capacity(tokens.len() * experts);
    for sequence in 0..tokens.batch() {
        let mut state = start;
        for id in tokens.sequence(sequence) {
            state = state.index(u64::from(*id));
            out.extend(priorities(state, experts));
        }
    }
    out
}

/// 24 bits of a hash for each expert, so that every priority is an exact `f32`.
fn priorities(state: Seed, experts: usize) -> impl Iterator<Item = f32> {
    (0..experts as u64).map(move |expert| (state.index(expert).0 >> 40) as f32 / (1u64 << 24) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[u32], batch: usize) -> Tokens {
        Tokens::new(ids.to_vec(), batch, ids.len() / batch).unwrap()
    }

    #[test]
    fn hash_depends_on_id_and_layer_alone() {
        let found = hash(&tokens(&[5, 7, 5, 5], 2), 4, 1, 0);
        assert_eq!(found[0..4], found[8..12]);
        assert_eq!(found[0..4], found[12..16]);
        assert_ne!(found[0..4], found[4..8]);
        assert_ne!(found, hash(&tokens(&[5, 7, 5, 5], 2), 4, 1, 1));
        assert_ne!(found, hash(&tokens(&[5, 7, 5, 5], 2), 4, 2, 0));
    }

    #[test]
    fn random_depends_on_the_prefix_and_the_salt() {
        let both = random(&tokens(&[1, 2, 3, 1, 2, 4], 2), 4, 1, 0, 9);
        assert_eq!(both[..8], both[12..20], "the same prefix, whatever the place in the batch");
        assert_ne!(both[8..12], both[20..24]);
        assert_ne!(both, random(&tokens(&[1, 2, 3, 1, 2, 4], 2), 4, 1, 0, 8));
        let longer = random(&tokens(&[9, 2], 1), 4, 1, 0, 9);
        assert_ne!(longer[4..8], both[4..8], "another prefix before the same token");
    }

    #[test]
    fn experts_are_about_equally_often_first() {
        let ids: Vec<u32> = (0..4000).collect();
        let found = hash(&tokens(&ids, 1), 4, 1, 0);
        let mut firsts = [0; 4];
        for row in found.chunks_exact(4) {
            let best = (0..4).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
            firsts[best] += 1;
        }
        assert!(firsts.iter().all(|n| (900..1100).contains(n)), "{firsts:?}");
    }
}
