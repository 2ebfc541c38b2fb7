//! Documents of a trace, by what they say.
//!
//! Numbers of documents begin anew in every store, and names there are none. A hash of the tokens is the same
//! wherever a document is counted, so that halves and samples of documents follow from the text alone.

use std::ops::Range;

use moescope_trace::TokenTable;

use super::key_sample::mixed;

/// The documents of a trace: tokens on end with one document number.
pub(super) struct Documents {
    /// Tokens of each.
    pub(super) stretches: Vec<Range<usize>>,
    /// A hash of the token ids of each, so that its half and its place in samples are the same in whatever part it comes, and two copies go the same way.
    pub(super) keys: Vec<u64>,
}

impl Documents {
    pub(super) fn of(tokens: &TokenTable) -> Documents {
        let mut start = 0;
        let ends = tokens.documents.chunk_by(|a, b| a == b).map(<[u32]>::len);
        let stretches: Vec<Range<usize>> = ends
            .map(|length| {
                let stretch = start..start + length;
                start = stretch.end;
                stretch
            })
            .collect();
        let key = |stretch: &Range<usize>| {
            tokens.ids[stretch.clone()].iter().fold(0, |key, id| mixed(key ^ (u64::from(*id) + 1)))
        };
        Documents { keys: stretches.iter().map(key).collect(), stretches }
    }

    /// Each document with its key.
    pub(super) fn each(&self) -> impl Iterator<Item = (&Range<usize>, u64)> {
        self.stretches.iter().zip(self.keys.iter().copied())
    }
}

/// The half that a document is in. Samples look at the high bits of keys, this at the lowest.
pub(super) fn half(key: u64) -> u8 {
    (key & 1) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_documents() {
        let of = |documents: &[u32], ids: &[u32]| {
            Documents::of(&TokenTable {
                documents: documents.to_vec(),
                ids: ids.to_vec(),
                ..TokenTable::default()
            })
        };
        let found = of(&[3, 3, 0, 5, 5], &[1, 2, 7, 1, 2]);
        assert_eq!(found.stretches, [0..2, 2..3, 3..5]);
        assert!(found.keys[0] == found.keys[2] && found.keys[0] != found.keys[1], "copies have one key");
        assert!(of(&[], &[]).stretches.is_empty());
        assert_ne!(of(&[0, 0], &[1, 2]).keys, of(&[0, 0], &[2, 1]).keys);
    }

    #[test]
    fn halves_are_about_even() {
        let documents: Vec<u32> = (0..1_000).collect();
        let table = TokenTable { ids: documents.clone(), documents, ..TokenTable::default() };
        let second: u32 = Documents::of(&table).keys.iter().map(|key| u32::from(half(*key))).sum();
        // Four deviations of 500.
        assert!((437..=563).contains(&second), "{second}");
    }
}
