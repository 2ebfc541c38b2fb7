use moescope_base::Seed;
use rand::seq::SliceRandom;

/// One division into training and test tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fold {
    /// Tokens to fit on, ascending.
    pub(super) train: Vec<usize>,
    /// Tokens to judge on, ascending.
    pub(super) test: Vec<usize>,
}

/// Divides tokens so that every document is tested exactly once, and never trained on when tested.
///
/// Documents are shuffled, then dealt out in turn: folds differ by at most one document.
/// There are at least as many documents as folds.
pub(super) fn folds_by_document(documents: &[u32], folds: usize, seed: Seed) -> Vec<Fold> {
    let mut order = documents.to_vec();
    order.sort_unstable();
    order.dedup();
    let distinct = order.clone();
    order.shuffle(&mut seed.rng());
    let mut fold_of = vec![0; distinct.len()];
    for (turn, document) in order.iter().enumerate() {
        let place = distinct.binary_search(document).expect("a shuffled document is one of the documents");
        fold_of[place] = turn % folds;
    }
    let of_token = |token: &u32| fold_of[distinct.binary_search(token).expect("a document of the list")];
    let assigned: Vec<usize> = documents.iter().map(of_token).collect();
    let split = |fold: usize| (0..documents.len()).partition(|token| assigned[*token] != fold);
    (0..folds).map(split).map(|(train, test)| Fold { train, test }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_token_is_tested_once_and_no_document_is_on_both_sides(
            mut documents in prop::collection::vec(0u32..8, 0..40), folds in 2usize..4, seed in any::<u64>()
        ) {
            documents.extend([100, 101, 102, 103]);
            let made = folds_by_document(&documents, folds, Seed(seed));
            let mut tested: Vec<usize> = made.iter().flat_map(|f| f.test.clone()).collect();
            tested.sort_unstable();
            prop_assert_eq!(tested, (0..documents.len()).collect::<Vec<_>>());
            for fold in &made {
                prop_assert!(!fold.test.is_empty());
                prop_assert_eq!(fold.train.len() + fold.test.len(), documents.len());
                prop_assert!(fold.train.iter().all(|a| fold.test.iter().all(|b| documents[*a] != documents[*b])));
            }
        }
    }
}
