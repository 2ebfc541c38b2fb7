//! The tokens of one split, in order, each with where it came from.

use crate::error::CorpusError;
use crate::split::{Split, SplitCorpus};
use crate::tokenizer::Tokenizer;

/// The tokens of one domain in one split, document after document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DomainStream {
    pub(crate) ids: Vec<u32>,       // [token]
    pub(crate) documents: Vec<u32>, // [token]
    pub(crate) positions: Vec<u32>, // [token]
}

/// All tokens of one split: the token set that a result is about.
///
/// Each token knows its domain, its document (the number in [`SplitCorpus::domains`]) and
/// its position in that document. Where the tokenizer has a separator, it ends every document and
/// belongs to the document it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSet {
    pub(crate) split: Split,
    pub(crate) vocabulary: usize,
    pub(crate) names: Vec<String>,         // [domain]
    pub(crate) streams: Vec<DomainStream>, // [domain]
}

impl TokenSet {
    /// Encodes one split of a corpus.
    ///
    /// # Errors
    /// [`CorpusError::Tokenizer`] when a given tokenizer cannot encode a text.
    pub fn encode(corpus: &SplitCorpus, split: Split, tokenizer: &Tokenizer) -> Result<Self, CorpusError> {
        let mut streams = Vec::with_capacity(corpus.domains().len());
        for domain in 0..corpus.domains().len() {
            let mut stream = DomainStream::default();
            for (document, text) in corpus.documents(domain, split) {
                let mut ids = tokenizer.encode(&text.text)?;
                ids.extend(tokenizer.end());
                stream.documents.extend(ids.iter().map(|_| document as u32));
                stream.positions.extend(0..ids.len() as u32);
                stream.ids.append(&mut ids);
            }
            streams.push(stream);
        }
        let names = corpus.domains().iter().map(|domain| domain.name.clone()).collect();
        Ok(Self { split, vocabulary: tokenizer.vocabulary(), names, streams })
    }

    /// The split that was encoded.
    pub fn split(&self) -> Split {
        self.split
    }

    /// Number of token ids that the tokenizer knows.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The domains' names, in order.
    pub fn domain_names(&self) -> &[String] {
        &self.names
    }

    /// Number of tokens in all domains.
    pub fn tokens(&self) -> usize {
        self.streams.iter().map(|stream| stream.ids.len()).sum()
    }

    /// The ids of one domain, document after document.
    pub fn domain_ids(&self, domain: usize) -> &[u32] {
        &self.streams[domain].ids
    }

    /// How often each token id occurs, in all domains together.
    ///
    /// - **Shape:** `[token]`, as long as the vocabulary.
    pub fn unigram_counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.vocabulary];
        for &id in self.streams.iter().flat_map(|stream| &stream.ids) {
            counts[id as usize] += 1;
        }
        counts
    }

    /// Entropy of the token frequencies: the loss of a model that knows them and nothing else.
    ///
    /// - **Unit and range:** nats per token, from 0 to the logarithm of the vocabulary.
    /// - **Does not show:** what context could add. A model whose loss is not below this number has
    ///   learned no more than how often tokens occur.
    pub fn unigram_entropy(&self) -> f64 {
        entropy(&self.unigram_counts())
    }

    /// [`TokenSet::unigram_entropy`] within one domain.
    pub fn domain_unigram_entropy(&self, domain: usize) -> f64 {
        let mut counts = vec![0; self.vocabulary];
        for &id in &self.streams[domain].ids {
            counts[id as usize] += 1;
        }
        entropy(&counts)
    }

    /// BLAKE3, in hex, of everything that makes this token set: the split, the domains' names, and
    /// each token's id, document and position. Results with the same hash are about the same tokens.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            // Lengths first, so that no two sets give the same run of bytes.
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(self.split.name().as_bytes());
        part(&(self.vocabulary as u64).to_le_bytes());
        for (name, stream) in self.names.iter().zip(&self.streams) {
            part(name.as_bytes());
            for numbers in [&stream.ids, &stream.documents, &stream.positions] {
                part(&numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>());
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Entropy in nats of the shares that counts make; 0 for no counts.
fn entropy(counts: &[u64]) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    let terms = counts.iter().filter(|&&count| count > 0).map(|&count| {
        let share = count as f64 / total;
        -share * share.ln()
    });
    terms.sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::corpus::Corpus;
    use crate::document::{Document, Domain};
    use crate::split::SplitShares;

    pub(crate) fn small_corpus() -> Corpus {
        let domain = |name: &str, word: &str, count: usize| {
            let text = |i: usize| format!("{word} {i} {}", format!("{word} and so on ").repeat(6 + i % 5));
            Domain::new(name, (0..count).map(|i| Document::new(i.to_string(), text(i))).collect())
        };
        Corpus::new(vec![domain("cats", "cat", 60), domain("dogs", "dog", 90)]).unwrap()
    }

    pub(crate) fn small_set(split: Split) -> TokenSet {
        let corpus = SplitCorpus::new(&small_corpus(), SplitShares::default()).unwrap();
        let tokenizer = Tokenizer::train(["cat dog and so on cat dog and so on"], 270).unwrap();
        TokenSet::encode(&corpus, split, &tokenizer).unwrap()
    }

    #[test]
    fn entropy_of_known_shares() {
        assert_eq!(entropy(&[]), 0.0);
        assert_eq!(entropy(&[5, 0]), 0.0);
        assert!((entropy(&[1, 1, 1, 1]) - 4f64.ln()).abs() < 1e-12);
        // Shares 3/4 and 1/4: 0.75 ln(4/3) + 0.25 ln 4 = 0.5623 nats.
        assert!((entropy(&[3, 1]) - 0.562_335_144_618_808_3).abs() < 1e-12);
    }

    #[test]
    fn every_document_ends_with_the_separator_and_counts_from_zero() {
        let set = small_set(Split::Train);
        let stream = &set.streams[0];
        for token in 1..stream.ids.len() {
            let new_document = stream.documents[token] != stream.documents[token - 1];
            assert_eq!(new_document, stream.positions[token] == 0);
            assert_eq!(new_document, stream.ids[token - 1] == 0);
        }
        assert_eq!(stream.ids.last(), Some(&0));
    }

    #[test]
    fn the_hash_changes_with_one_byte_of_text_and_repeats_without() {
        let hash = |corpus: &Corpus| {
            let split = SplitCorpus::new(corpus, SplitShares::default()).unwrap();
            let tokenizer = Tokenizer::train(["cat dog"], 260).unwrap();
            TokenSet::encode(&split, Split::Train, &tokenizer).unwrap().hash()
        };
        let corpus = small_corpus();
        let split = SplitCorpus::new(&corpus, SplitShares::default()).unwrap();
        let (document, _) = split.documents(0, Split::Train).next().unwrap();
        let mut domains = corpus.domains().to_vec();
        domains[0].documents[document].text.replace_range(0..1, "C");
        assert_eq!(hash(&corpus), hash(&small_corpus()));
        assert_ne!(hash(&corpus), hash(&Corpus::new(domains).unwrap()));
    }

    #[test]
    fn counts_sum_to_the_tokens() {
        let set = small_set(Split::Train);
        assert_eq!(set.unigram_counts().iter().sum::<u64>(), set.tokens() as u64);
        assert!(set.unigram_entropy() > set.domain_unigram_entropy(0) / 2.0);
        assert!(set.unigram_entropy() < (set.vocabulary() as f64).ln());
    }
}
