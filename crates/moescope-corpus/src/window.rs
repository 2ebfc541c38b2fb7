//! Packed windows: equal stretches of a domain's token stream.

use std::sync::Arc;

use moescope_base::Tokens;

use crate::error::CorpusError;
use crate::stream::TokenSet;

/// One window: `length` tokens that follow one another in one domain.
///
/// A window may join the end of a document to the start of the next one of its domain, with the
/// separator between them; it never mixes domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window<'a> {
    /// The domain's number.
    pub domain: usize,
    /// Token ids, `[pos]`.
    pub ids: &'a [u32],
    /// The document of each token, `[pos]`: its number in the domain of the [`crate::SplitCorpus`].
    pub documents: &'a [u32],
    /// The position of each token in its document, `[pos]`.
    pub positions: &'a [u32],
}

/// Windows of one length over a token set; cheap to clone.
///
/// Windows do not overlap, so each token is in at most one of them; the tokens left over at the end
/// of a domain (fewer than `length`) are in none.
#[derive(Clone, Debug)]
pub struct WindowSet {
    set: Arc<TokenSet>,
    length: usize,
    places: Vec<(u32, u32)>, // [window] → domain, first token
    first: Vec<usize>,       // [domain] → first window; one more at the end
}

impl WindowSet {
    /// All windows of a token set, domain after domain.
    ///
    /// # Errors
    /// [`CorpusError::TooLittle`] for a length below 2 (there would be nothing to predict),
    /// [`CorpusError::TooFewWindows`] for a domain with less than one window.
    pub fn new(set: TokenSet, length: usize) -> Result<Self, CorpusError> {
        if length < 2 {
            return Err(CorpusError::TooLittle { what: "window length", found: length, wanted: 2 });
        }
        let mut places = Vec::new();
        let mut first = vec![0];
        for (domain, stream) in set.streams.iter().enumerate() {
            let windows = stream.ids.len() / length;
            places.extend((0..windows).map(|window| (domain as u32, (window * length) as u32)));
            first.push(places.len());
        }
        let windows = Self { set: Arc::new(set), length, places, first };
        windows.require(1)?;
        Ok(windows)
    }

    /// A fixed choice of `per_domain` windows from each domain, evenly spaced over its text.
    ///
    /// The choice depends on nothing but the token set and the arguments: all models are evaluated
    /// on the same windows.
    ///
    /// # Errors
    /// [`CorpusError::TooLittle`] for none, [`CorpusError::TooFewWindows`] for more than a domain has.
    pub fn evaluation(&self, per_domain: usize) -> Result<Self, CorpusError> {
        if per_domain == 0 {
            return Err(CorpusError::TooLittle { what: "windows per domain", found: 0, wanted: 1 });
        }
        self.require(per_domain)?;
        let mut places = Vec::with_capacity(per_domain * self.domains());
        let mut first = vec![0];
        for domain in 0..self.domains() {
            let found = self.windows_in(domain);
            let chosen = (0..per_domain).map(|i| self.first[domain] + i * found / per_domain);
            places.extend(chosen.map(|window| self.places[window]));
            first.push(places.len());
        }
        Ok(Self { set: Arc::clone(&self.set), length: self.length, places, first })
    }

    /// Number of windows; at least one per domain.
    #[allow(clippy::len_without_is_empty)] // a window set is never empty
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Tokens per window.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Number of domains.
    pub fn domains(&self) -> usize {
        self.set.names.len()
    }

    /// The domains' names, in order.
    pub fn domain_names(&self) -> &[String] {
        &self.set.names
    }

    /// Number of windows of one domain.
    pub fn windows_in(&self, domain: usize) -> usize {
        self.first[domain + 1] - self.first[domain]
    }

    /// The number of a domain's first window; its windows follow one another.
    pub fn first_window(&self, domain: usize) -> usize {
        self.first[domain]
    }

    /// One window, numbered from 0 to [`WindowSet::len`] exclusive.
    pub fn window(&self, index: usize) -> Window<'_> {
        let (domain, start) = self.places[index];
        let range = start as usize..start as usize + self.length;
        let stream = &self.set.streams[domain as usize];
        Window {
            domain: domain as usize,
            ids: &stream.ids[range.clone()],
            documents: &stream.documents[range.clone()],
            positions: &stream.positions[range],
        }
    }

    /// The given windows as a batch, `ids[window, pos]`.
    ///
    /// # Errors
    /// [`CorpusError::TooLittle`] for no windows.
    pub fn batch(&self, windows: &[usize]) -> Result<Tokens, CorpusError> {
        let ids: Vec<u32> = windows.iter().flat_map(|&index| self.window(index).ids).copied().collect();
        Tokens::new(ids, windows.len(), self.length).map_err(|_| CorpusError::TooLittle {
            what: "windows in a batch",
            found: windows.len(),
            wanted: 1,
        })
    }

    /// The domain of every token of the given windows, `[window, pos]`, as in [`WindowSet::batch`].
    pub fn batch_domains(&self, windows: &[usize]) -> Vec<u32> {
        let domains = windows.iter().map(|&index| self.places[index].0);
        domains.flat_map(|domain| std::iter::repeat_n(domain, self.length)).collect()
    }

    /// The token set under the windows.
    pub fn token_set(&self) -> &TokenSet {
        &self.set
    }

    /// BLAKE3, in hex, of the token set, the window length and the choice of windows.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.set.hash().as_bytes());
        hasher.update(&(self.length as u64).to_le_bytes());
        for (domain, start) in &self.places {
            hasher.update(&domain.to_le_bytes());
            hasher.update(&start.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    fn require(&self, wanted: usize) -> Result<(), CorpusError> {
        match (0..self.domains()).find(|&domain| self.windows_in(domain) < wanted) {
            None => Ok(()),
            Some(domain) => Err(CorpusError::TooFewWindows {
                domain: self.set.names[domain].clone(),
                split: self.set.split.name(),
                length: self.length,
                found: self.windows_in(domain),
                wanted,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::Split;
    use crate::stream::tests::small_set;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn windows_follow_the_stream_of_one_domain() {
        let set = small_set(Split::Train);
        let windows = WindowSet::new(set.clone(), 16).unwrap();
        let second = windows.window(1);
        assert_eq!(second.domain, 0);
        assert_eq!(second.ids, &set.domain_ids(0)[16..32]);
        let dogs = windows.window(windows.first_window(1));
        assert_eq!((dogs.domain, dogs.ids), (1, &set.domain_ids(1)[..16]));
    }

    #[test]
    fn a_window_longer_than_a_domain_is_an_error_with_the_numbers() {
        let error = WindowSet::new(small_set(Split::Test), 100_000).unwrap_err().to_string();
        assert!(error.contains("0 windows of 100000 tokens in its test split; wanted 1"), "{error}");
        assert!(WindowSet::new(small_set(Split::Test), 1).is_err());
    }

    #[test]
    fn evaluation_windows_are_equally_many_and_fixed() {
        let windows = WindowSet::new(small_set(Split::Train), 16).unwrap();
        let chosen = windows.evaluation(4).unwrap();
        assert_eq!(chosen.len(), 8);
        assert_eq!((chosen.windows_in(0), chosen.windows_in(1)), (4, 4));
        assert_eq!(chosen.hash(), windows.evaluation(4).unwrap().hash());
        assert_ne!(chosen.hash(), windows.evaluation(3).unwrap().hash());
        assert!(windows.evaluation(1_000_000).unwrap_err().to_string().contains("wanted 1000000"));
        assert!(windows.evaluation(0).is_err());
    }

    #[test]
    fn a_batch_holds_its_windows_and_their_domains() {
        let windows = WindowSet::new(small_set(Split::Train), 8).unwrap();
        let chosen = [windows.len() - 1, 0];
        let batch = windows.batch(&chosen).unwrap();
        assert_eq!((batch.batch(), batch.positions()), (2, 8));
        assert_eq!(batch.sequence(1), windows.window(0).ids);
        assert_eq!(windows.batch_domains(&chosen), [[1; 8], [0; 8]].concat());
        assert!(windows.batch(&[]).is_err());
    }

    proptest! {
        #[test]
        fn each_token_is_in_at_most_one_window_and_few_are_in_none(length in 2usize..60) {
            let set = small_set(Split::Train);
            let windows = WindowSet::new(set.clone(), length).unwrap();
            let mut seen = BTreeSet::new();
            for index in 0..windows.len() {
                let window = windows.window(index);
                for (document, position) in window.documents.iter().zip(window.positions) {
                    prop_assert!(seen.insert((window.domain, *document, *position)));
                }
            }
            prop_assert!(set.tokens() - seen.len() < length * set.domain_names().len());
        }
    }
}
