use std::collections::BTreeMap;

use moescope_base::Seed;
use rand::seq::SliceRandom;

/// One division into training and test tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fold {
    /// Tokens to fit on, ascending.
    pub(crate) train: Vec<usize>,
    /// Tokens to judge on, ascending.
    pub(crate) test: Vec<usize>,
}

/// Divides tokens so that every document is tested exactly once, and never trained on when tested.
///
/// Documents are shuffled, ordered by the label of their first token, and dealt out in turn: folds differ by at most one
/// document, and a label of whole documents, such as their domain, is spread over all folds.
/// There are at least as many documents as folds.
pub(crate) fn folds_by_document(documents: &[u32], labels: &[u32], folds: usize, seed: Seed) -> Vec<Fold> {
    let mut first_label = BTreeMap::new();
    for (document, label) in documents.iter().zip(labels) {
        first_label.entry(*document).or_insert(*label);
    }
    let mut order: Vec<u32> = first_label.keys().copied().collect();
    order.shuffle(&mut seed.rng());
    order.sort_by_key(|document| first_label[document]);
    let fold_of: BTreeMap<u32, usize> =
        order.into_iter().enumerate().map(|(turn, document)| (document, turn % folds)).collect();
    let assigned: Vec<usize> = documents.iter().map(|document| fold_of[document]).collect();
    let split = |fold: usize| (0..documents.len()).partition(|token| assigned[*token] != fold);
    (0..folds).map(split).map(|(train, test)| Fold { train, test }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_label_of_few_documents_is_in_every_fold() {
        let documents: Vec<u32> = (0..60).map(|token| token / 3).collect(); // 20 documents
        let labels: Vec<u32> = documents.iter().map(|document| u32::from(*document < 3)).collect();
        for seed in 0..50 {
            for fold in folds_by_document(&documents, &labels, 3, Seed(seed)) {
                assert_eq!(fold.test.iter().filter(|token| labels[**token] == 1).count(), 3, "seed {seed}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_token_is_tested_once_and_no_document_is_on_both_sides(
            mut documents in prop::collection::vec(0u32..8, 0..40), folds in 2usize..4, seed in any::<u64>()
        ) {
            documents.extend([100, 101, 102, 103]);
            let labels: Vec<u32> = documents.iter().map(|document| document % 3).collect();
            let made = folds_by_document(&documents, &labels, folds, Seed(seed));
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
