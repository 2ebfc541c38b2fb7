//! Training, validation and test text: a split by document, decided by the text itself.

use std::collections::BTreeMap;

use crate::corpus::Corpus;
use crate::document::{Document, Domain};
use crate::error::CorpusError;
use crate::sections::{SHORTEST_SECTION, cut_domain};

/// Different documents that a domain needs: one for each part.
const LEAST_DOCUMENTS: usize = 3;
/// Different documents that validation gets at least, where the domain has four times as many.
///
/// A few long documents would make a held-out loss that of these documents, and leave nothing to divide into folds.
const VALIDATION_DOCUMENTS: usize = 6;
/// The same for test.
const TEST_DOCUMENTS: usize = 2;

/// One of the three parts of a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// What models and the tokenizer learn from.
    Train,
    /// What choices (schedules, stopping) may look at.
    Validation,
    /// Kept back from everything, for a last look.
    Test,
}

impl Split {
    /// The split's name in tables and messages.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }
}

/// Shares of each domain's bytes for validation and test; the rest is for training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitShares {
    /// Share for validation, above 0.
    pub validation: f64,
    /// Share for test, above 0; both together at most 0.5.
    pub test: f64,
}

impl Default for SplitShares {
    /// 90 % training, 5 % validation, 5 % test.
    fn default() -> Self {
        Self { validation: 0.05, test: 0.05 }
    }
}

/// A corpus whose documents are shared out, whole, among the three splits.
///
/// Each split of each domain has at least one document, and documents with the same text are always in the same split. Only
/// a domain of fewer than three different documents is cut into sections, which then count as documents:
/// [`SplitCorpus::cut`] names such domains, whose held-out text has passages of the same documents beside it in training.
#[derive(Clone, Debug)]
pub struct SplitCorpus {
    domains: Vec<Domain>,
    cut: Vec<bool>,              // [domain]
    assignment: Vec<Vec<Split>>, // [domain, document]
}

impl SplitCorpus {
    /// Splits a corpus.
    ///
    /// Within a domain the texts are ordered by their BLAKE3 hash, those above a quarter of the domain after all others;
    /// the first ones are test, the next validation, the rest training. So the split needs no seed, is the same for every
    /// seed and run, and changes little when a document is added. Validation and test are at least as large as their
    /// shares, and larger where documents are long: they get six and two documents at least, or one in four of the domain's.
    ///
    /// # Errors
    /// [`CorpusError::BadShares`], or [`CorpusError::TooSmall`] for a domain of fewer than three different documents that
    /// cannot be cut into three sections either.
    pub fn new(corpus: &Corpus, shares: SplitShares) -> Result<Self, CorpusError> {
        let SplitShares { validation, test } = shares;
        let possible = validation > 0.0 && test > 0.0 && validation + test <= 0.5;
        if !possible {
            return Err(CorpusError::BadShares { validation, test });
        }
        let cut: Vec<bool> =
            corpus.domains().iter().map(|domain| different_texts(domain).len() < LEAST_DOCUMENTS).collect();
        let whole_or_cut =
            |(domain, cut): (&Domain, &bool)| if *cut { cut_domain(domain) } else { domain.clone() };
        let domains: Vec<Domain> = corpus.domains().iter().zip(&cut).map(whole_or_cut).collect();
        let assignment = domains.iter().map(|domain| assign(domain, shares)).collect::<Result<_, _>>()?;
        Ok(Self { domains, cut, assignment })
    }

    /// The domains with what was shared out: their documents, or the sections of domains that were cut. In the order of
    /// the corpus.
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// The split of a document, or `None` where there is no such document.
    pub fn split_of(&self, domain: usize, document: usize) -> Option<Split> {
        self.assignment.get(domain)?.get(document).copied()
    }

    /// Names of the domains that had to be cut, so that passages of one document are on both sides.
    pub fn cut(&self) -> impl Iterator<Item = &str> {
        self.domains.iter().zip(&self.cut).filter(|(_, cut)| **cut).map(|(domain, _)| domain.name.as_str())
    }

    /// A domain's documents in one split, each with its number, in order.
    pub fn documents(&self, domain: usize, split: Split) -> impl Iterator<Item = (usize, &Document)> {
        let documents = self.domains[domain].documents.iter().enumerate();
        documents.filter(move |(document, _)| self.assignment[domain][*document] == split)
    }

    /// The texts of one split, domain after domain: what a tokenizer is trained on.
    pub fn texts(&self, split: Split) -> impl Iterator<Item = &str> {
        let domains = 0..self.domains.len();
        domains
            .flat_map(move |domain| self.documents(domain, split))
            .map(|(_, document)| document.text.as_str())
    }

    /// Bytes of one split of one domain.
    pub fn bytes(&self, domain: usize, split: Split) -> usize {
        self.documents(domain, split).map(|(_, document)| document.text.len()).sum()
    }
}

/// Documents of equal text, by their number in the domain.
///
/// Ordered by hash, but those above a quarter of the domain come last: one of them could leave little to train on.
fn different_texts(domain: &Domain) -> BTreeMap<(bool, [u8; 32]), Vec<usize>> {
    let mut texts: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, document) in domain.documents.iter().enumerate() {
        let large = document.text.len() > domain.bytes() / 4;
        texts.entry((large, *blake3::hash(document.text.as_bytes()).as_bytes())).or_default().push(index);
    }
    texts
}

/// Shares out one domain's documents.
fn assign(domain: &Domain, shares: SplitShares) -> Result<Vec<Split>, CorpusError> {
    let texts = different_texts(domain);
    if texts.len() < LEAST_DOCUMENTS {
        return Err(CorpusError::TooSmall {
            domain: domain.name.clone(),
            documents: texts.len(),
            bytes: domain.bytes(),
            wanted_documents: LEAST_DOCUMENTS,
            wanted_bytes: LEAST_DOCUMENTS * SHORTEST_SECTION,
        });
    }
    let total = domain.bytes() as f64;
    let mut assignment = vec![Split::Train; domain.documents.len()];
    let least = |documents: usize| documents.min(texts.len() / 4).max(1);
    let (for_test, for_validation) = (least(TEST_DOCUMENTS), least(VALIDATION_DOCUMENTS));
    let mut groups = texts.values();
    for (split, share, documents, kept_back) in [
        (Split::Test, shares.test, for_test, for_validation + 1),
        (Split::Validation, shares.validation, for_validation, 1),
    ] {
        let (mut taken, mut bytes) = (0, 0);
        while taken < documents || ((bytes as f64) < share * total && groups.len() > kept_back) {
            let group = groups.next().expect("at most half of the documents are asked for, or one of three");
            taken += 1;
            for &index in group {
                assignment[index] = split;
                bytes += domain.documents[index].text.len();
            }
        }
    }
    Ok(assignment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn corpus(texts: &[String]) -> Corpus {
        let documents =
            texts.iter().enumerate().map(|(i, text)| Document::new(i.to_string(), text)).collect();
        Corpus::new(vec![Domain::new("d", documents)]).unwrap()
    }

    fn numbered(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("document number {i} {}", "x".repeat(50))).collect()
    }

    #[test]
    fn shares_are_met_to_within_one_document() {
        let split = SplitCorpus::new(&corpus(&numbered(400)), SplitShares::default()).unwrap();
        let test = split.documents(0, Split::Test).count();
        let validation = split.documents(0, Split::Validation).count();
        assert!((20..=21).contains(&test), "{test}");
        assert!((20..=21).contains(&validation), "{validation}");
    }

    #[test]
    fn two_documents_cannot_be_split_and_the_message_counts_them() {
        let error = SplitCorpus::new(&corpus(&numbered(2)), SplitShares::default()).unwrap_err();
        assert!(error.to_string().contains("found 2 different documents"), "{error}");
    }

    #[test]
    fn one_long_document_is_cut_and_split() {
        let text: String = (0..400).map(|i| format!("word{i} ")).collect();
        let split = SplitCorpus::new(&corpus(&[text]), SplitShares::default()).unwrap();
        for part in [Split::Train, Split::Validation, Split::Test] {
            assert!(split.documents(0, part).count() > 0);
        }
        assert_eq!(split.cut().collect::<Vec<_>>(), ["d"]);
    }

    #[test]
    fn long_documents_stay_whole_and_enough_of_them_are_held_out() {
        let texts: Vec<String> = (0..30).map(|i| format!("{i} {}", "long ".repeat(4000))).collect();
        let split = SplitCorpus::new(&corpus(&texts), SplitShares::default()).unwrap();
        let count = |part| split.documents(0, part).count();
        assert_eq!([Split::Train, Split::Validation, Split::Test].map(count), [22, 6, 2]);
        assert!(split.domains()[0].documents.iter().all(|document| texts.contains(&document.text)));
        assert_eq!(split.cut().count(), 0);
    }

    #[test]
    fn a_document_that_outweighs_the_others_is_trained_on() {
        let mut texts = numbered(12);
        texts.push("the long one ".repeat(1000));
        let split = SplitCorpus::new(&corpus(&texts), SplitShares::default()).unwrap();
        assert_eq!(split.split_of(0, 12), Some(Split::Train));
    }

    #[test]
    fn shares_that_leave_no_training_text_are_refused() {
        for (validation, test) in [(0.0, 0.1), (0.3, 0.3), (f64::NAN, 0.1)] {
            let shares = SplitShares { validation, test };
            assert!(matches!(
                SplitCorpus::new(&corpus(&numbered(9)), shares),
                Err(CorpusError::BadShares { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn splits_share_no_text_and_none_is_empty(numbers in proptest::collection::vec(0u32..40, 3..80)) {
            let texts: Vec<String> = numbers.iter().map(|n| format!("text {n}")).collect();
            let different: std::collections::BTreeSet<_> = texts.iter().collect();
            prop_assume!(different.len() >= 3);
            let split = SplitCorpus::new(&corpus(&texts), SplitShares::default()).unwrap();
            let part = |split_name| -> std::collections::BTreeSet<&str> {
                split.documents(0, split_name).map(|(_, document)| document.text.as_str()).collect()
            };
            let (train, validation, test) = (part(Split::Train), part(Split::Validation), part(Split::Test));
            prop_assert!(!train.is_empty() && !validation.is_empty() && !test.is_empty());
            prop_assert!(train.is_disjoint(&validation) && train.is_disjoint(&test) && validation.is_disjoint(&test));
        }

        #[test]
        fn the_order_of_documents_does_not_matter(shift in 1usize..20) {
            let texts = numbered(20);
            let mut turned = texts.clone();
            turned.rotate_left(shift);
            let tests = |texts: &[String]| -> std::collections::BTreeSet<String> {
                let split = SplitCorpus::new(&corpus(texts), SplitShares::default()).unwrap();
                split.documents(0, Split::Test).map(|(_, document)| document.text.clone()).collect()
            };
            prop_assert_eq!(tests(&texts), tests(&turned));
        }
    }
}
