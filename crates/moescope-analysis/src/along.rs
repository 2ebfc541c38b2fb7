//! Tokens moved along their documents: a null that keeps what neighbours have in common.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Where the tokens of each document are.
///
/// Under a draw each document is moved by a random number of tokens, its end coming round to its beginning. What a document speaks of and stretches
/// of neighbours that are alike are kept; what a single token has with its own label is not. Tokens exchanged one by one would
/// call any two things related that both come in stretches.
#[derive(Clone, Debug)]
pub(crate) struct Along {
    /// Tokens of each document, in order.
    documents: Vec<Vec<u32>>,
}

impl Along {
    /// Tokens of the documents `documents[token]`; they need not lie together.
    pub(crate) fn new(documents: &[u32]) -> Along {
        let mut order: Vec<u32> = (0..documents.len() as u32).collect();
        let of = |token: &u32| documents[*token as usize];
        order.sort_by_key(of);
        Along { documents: order.chunk_by(|a, b| of(a) == of(b)).map(<[u32]>::to_vec).collect() }
    }

    /// One draw: for each token the one whose place it takes.
    pub(crate) fn draw(&self, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let mut from = vec![0; self.documents.iter().map(Vec::len).sum()];
        self.draw_into(rng, &mut from);
        from
    }

    /// The same into a list of as many tokens.
    pub(crate) fn draw_into(&self, rng: &mut ChaCha8Rng, from: &mut [u32]) {
        for document in &self.documents {
            let (end, beginning) = document.split_at(rng.random_range(0..document.len()));
            let moved = beginning.iter().chain(end);
            document.iter().zip(moved).for_each(|(token, other)| from[*token as usize] = *other);
        }
    }
}

#[cfg(test)]
mod tests {
    use moescope_base::Seed;

    use super::*;

    #[test]
    fn each_document_comes_round_and_keeps_its_tokens() {
        let documents = [7, 7, 7, 2, 2, 7];
        for seed in 0..20 {
            let from = Along::new(&documents).draw(&mut Seed(seed).rng());
            assert!([[3, 4], [4, 3]].contains(&[from[3], from[4]]), "{from:?}");
            let (own, first) = ([0, 1, 2, 5], [from[0], from[1], from[2], from[5]]);
            let turn = own.iter().position(|token| *token == first[0]).unwrap();
            assert!((0..4).all(|at| first[at] == own[(at + turn) % 4]), "{from:?}");
        }
        assert!(Along::new(&[]).draw(&mut Seed(0).rng()).is_empty());
    }
}
