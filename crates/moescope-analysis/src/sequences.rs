//! Single sequences of a text, drawn so that as many documents as possible are among them.
//!
//! Batches hold neighbouring windows of few documents. Where documents are the units and few sequences can be looked at, whole batches would
//! waste them.

use std::collections::BTreeMap;

use moescope_base::{Seed, Tokens};
use rand::seq::SliceRandom;

use crate::instrument::Material;
use crate::{AnalysisError, Sample};

/// Sequences of a pass, at most.
const TOGETHER: usize = 16;

/// A sequence: its token ids, and their documents.
pub(crate) type Sequence = (Vec<u32>, Vec<u32>);

/// At most so many sequences of a text drawn at random, as [`by_turns`], in batches of at most [`TOGETHER`], and no larger than those of the
/// material, for which there is room.
///
/// # Errors
/// If sequences make no batch.
pub(crate) fn drawn(material: &Material<'_>, label: &str, most: usize) -> Result<Vec<Sample>, AnalysisError> {
    let mut all = Vec::new();
    for sample in material.samples()? {
        let positions = sample.tokens().positions();
        for (sequence, documents) in sample.documents().chunks_exact(positions).enumerate() {
            all.push((sample.tokens().sequence(sequence).to_vec(), documents.to_vec()));
        }
    }
    let largest = material.batches.iter().map(|(tokens, _)| tokens.batch()).max().unwrap_or(1);
    together(by_turns(all, most, material.seed.child(label)), largest.min(TOGETHER))
}

/// At most so many sequences drawn at random: no document gives a second one before each has given its first.
fn by_turns(all: Vec<Sequence>, most: usize, seed: Seed) -> Vec<Sequence> {
    let mut rng = seed.child("sequences").rng();
    let mut of_document: BTreeMap<u32, Vec<Sequence>> = BTreeMap::new();
    all.into_iter().for_each(|one| of_document.entry(one.1[0]).or_default().push(one));
    let mut turns: Vec<(usize, Sequence)> = Vec::new();
    for mut sequences in of_document.into_values() {
        sequences.shuffle(&mut rng);
        turns.extend(sequences.into_iter().enumerate());
    }
    turns.shuffle(&mut rng);
    turns.sort_by_key(|(turn, _)| *turn);
    turns.truncate(most);
    turns.into_iter().map(|(_, sequence)| sequence).collect()
}

/// Sequences as batches of at most so many, those of one length together.
pub(crate) fn together(mut sequences: Vec<Sequence>, most: usize) -> Result<Vec<Sample>, AnalysisError> {
    sequences.sort_by_key(|(ids, _)| ids.len());
    let batch = |some: &[Sequence]| {
        let ids: Vec<u32> = some.iter().flat_map(|(ids, _)| ids).copied().collect();
        let documents = some.iter().flat_map(|(_, documents)| documents).copied().collect();
        Sample::new(Tokens::new(ids, some.len(), some[0].0.len())?, documents)
    };
    let alike = sequences.chunk_by(|a, b| a.0.len() == b.0.len());
    alike.flat_map(|alike| alike.chunks(most)).map(batch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_gives_a_sequence_before_any_gives_another() {
        // Document 0 has eight sequences, documents 1 to 4 have one each.
        let of = |document: u32, first: u32| (vec![first, first + 1], vec![document; 2]);
        let mut all: Vec<Sequence> = (0..8).map(|sequence| of(0, 2 * sequence)).collect();
        all.extend((1..5).map(|document| of(document, 0)));
        let drawn = by_turns(all.clone(), 6, Seed(1));
        let documents: Vec<u32> = drawn.iter().map(|(_, documents)| documents[0]).collect();
        assert!((0..5).all(|document| documents[..5].contains(&document)), "{documents:?}");
        assert_eq!((documents[5], drawn.len()), (0, 6));
        assert_ne!(drawn, by_turns(all.clone(), 6, Seed(2)));
        let batches = together(by_turns(all, 99, Seed(1)), TOGETHER).unwrap();
        assert_eq!((batches.len(), batches[0].tokens().batch()), (1, 12));
    }
}
