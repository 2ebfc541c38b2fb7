//! Training, validation and test text: a split by document, decided by the text itself.

use std::collections::BTreeMap;

use crate::corpus::Corpus;
use crate::document::{Document, Domain};
use crate::error::CorpusError;
use crate::sections::{SHORTEST_SECTION, cut_domain};

/// Different documents that a domain needs: one for each part.
const LEAST_DOCUMENTS: usize = 3;

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

/// A corpus whose documents are cut into sections and shared out among the three splits.
///
/// Each split of each domain has at least one section. Sections with the same text are always in
/// the same split; sections of one long document may be in different ones.
#[derive(Clone, Debug)]
pub struct SplitCorpus {
    domains: Vec<Domain>,
    sources: Vec<Vec<usize>>,    // [domain, section] → document of the corpus
    assignment: Vec<Vec<Split>>, // [domain, section]
}

impl SplitCorpus {
    /// Cuts and splits a corpus.
    ///
    /// Within a domain the texts are ordered by their BLAKE3 hash; the first ones are test, the next
    /// validation, the rest training. So the split needs no seed, is the same for every seed and
    /// run, and changes little when a document is added.
    ///
    /// # Errors
    /// [`CorpusError::BadShares`], or [`CorpusError::TooSmall`] for a domain of fewer than three
    /// different sections.
    pub fn new(corpus: &Corpus, shares: SplitShares) -> Result<Self, CorpusError> {
        let SplitShares { validation, test } = shares;
        let possible = validation > 0.0 && test > 0.0 && validation + test <= 0.5;
        if !possible {
            return Err(CorpusError::BadShares { validation, test });
        }
        let (domains, sources): (Vec<Domain>, Vec<Vec<usize>>) =
            corpus.domains().iter().map(cut_domain).unzip();
        let assignment = domains.iter().map(|domain| assign(domain, shares)).collect::<Result<_, _>>()?;
        Ok(Self { domains, sources, assignment })
    }

    /// The domains with their sections, in the order of the corpus.
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// The split of a section, or `None` where there is no such section.
    pub fn split_of(&self, domain: usize, section: usize) -> Option<Split> {
        self.assignment.get(domain)?.get(section).copied()
    }

    /// The document of the corpus that a section was cut from, by its number in its domain.
    ///
    /// Sections of one document are alike; statistics that want independent pieces of text group by
    /// this number.
    pub fn source_of(&self, domain: usize, section: usize) -> Option<usize> {
        self.sources.get(domain)?.get(section).copied()
    }

    /// A domain's sections in one split, each with its number, in order.
    pub fn documents(&self, domain: usize, split: Split) -> impl Iterator<Item = (usize, &Document)> {
        let sections = self.domains[domain].documents.iter().enumerate();
        sections.filter(move |(document, _)| self.assignment[domain][*document] == split)
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

/// Shares out one domain's sections.
fn assign(domain: &Domain, shares: SplitShares) -> Result<Vec<Split>, CorpusError> {
    let mut by_hash: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
    for (index, document) in domain.documents.iter().enumerate() {
        by_hash.entry(*blake3::hash(document.text.as_bytes()).as_bytes()).or_default().push(index);
    }
    if by_hash.len() < LEAST_DOCUMENTS {
        return Err(CorpusError::TooSmall {
            domain: domain.name.clone(),
            documents: by_hash.len(),
            bytes: domain.bytes(),
            wanted_documents: LEAST_DOCUMENTS,
            wanted_bytes: LEAST_DOCUMENTS * SHORTEST_SECTION,
        });
    }
    let total = domain.bytes() as f64;
    let mut assignment = vec![Split::Train; domain.documents.len()];
    let mut groups = by_hash.values();
    for (split, wanted, kept_back) in
        [(Split::Test, shares.test * total, 2), (Split::Validation, shares.validation * total, 1)]
    {
        let mut taken = 0;
        while taken == 0 || ((taken as f64) < wanted && groups.len() > kept_back) {
            let group = groups.next().expect("at least three groups, two of them kept back at first");
            for &index in group {
                assignment[index] = split;
                taken += domain.documents[index].text.len();
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
            assert!(split.documents(0, part).all(|(section, _)| split.source_of(0, section) == Some(0)));
        }
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
