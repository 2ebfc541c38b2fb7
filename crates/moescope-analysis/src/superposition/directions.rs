//! Directions of features, estimated four times from documents that have nothing in common.

use std::collections::BTreeMap;

use moescope_base::Seed;
use nalgebra::DMatrix;
use rand::seq::SliceRandom;

use crate::matrix::Features;

/// Parts of the documents. Four, because the square of a product of two directions needs four estimates with independent errors.
pub(super) const PARTS: usize = 4;

/// Sums of the vectors of each document by feature, from which directions follow for any choice of documents.
pub(super) struct Sums {
    width: usize,
    features: usize,
    /// Part of each document, in the order of their numbers.
    part: Vec<usize>,
    /// Of each document the sums by feature, and last over the tokens without any: `[document][feature, coordinate]`.
    sums: Vec<Vec<f64>>,
    counts: Vec<Vec<f64>>,
}

impl Sums {
    /// Of vectors with the feature of each, if it has one of so many, and its document.
    pub(super) fn new(
        vectors: &Features,
        labels: &[Option<usize>],
        documents: &[u32],
        features: usize,
        seed: Seed,
    ) -> Sums {
        let place = places(documents);
        let width = vectors.width();
        let mut sums = vec![vec![0.0; (features + 1) * width]; place.len()];
        let mut counts = vec![vec![0.0; features + 1]; place.len()];
        for (token, (label, document)) in labels.iter().zip(documents).enumerate() {
            let (document, row) = (place[document], label.unwrap_or(features));
            counts[document][row] += 1.0;
            let sum = &mut sums[document][row * width..(row + 1) * width];
            sum.iter_mut().zip(vectors.row(token)).for_each(|(sum, x)| *sum += x);
        }
        Sums { width, features, part: parts(place.len(), seed), sums, counts }
    }

    /// Documents.
    pub(super) fn documents(&self) -> usize {
        self.part.len()
    }

    /// The directions from these documents, repeats counted: `[part · feature, coordinate]`. The direction of a feature is the mean of the
    /// vectors that have it less the mean of those that have not; NaN where a part has no vector of one of these two kinds.
    pub(super) fn directions(&self, documents: &[usize]) -> DMatrix<f64> {
        let (width, rows) = (self.width, self.features + 1);
        let mut sums = vec![vec![0.0; rows * width]; PARTS];
        let mut counts = vec![vec![0.0; rows]; PARTS];
        for document in documents {
            let part = self.part[*document];
            sums[part].iter_mut().zip(&self.sums[*document]).for_each(|(sum, x)| *sum += x);
            counts[part].iter_mut().zip(&self.counts[*document]).for_each(|(count, x)| *count += x);
        }
        let mut directions = DMatrix::zeros(PARTS * self.features, width);
        for (part, (sums, counts)) in sums.iter().zip(&counts).enumerate() {
            let all: f64 = counts.iter().sum();
            let mut total = vec![0.0; width];
            sums.chunks_exact(width).for_each(|sum| total.iter_mut().zip(sum).for_each(|(all, x)| *all += x));
            for feature in 0..self.features {
                let (own, others) = (counts[feature], all - counts[feature]);
                let defined = own > 0.0 && others > 0.0;
                let sum = &sums[feature * width..(feature + 1) * width];
                for (at, (sum, total)) in sum.iter().zip(&total).enumerate() {
                    let difference = if defined { sum / own - (total - sum) / others } else { f64::NAN };
                    directions[(part * self.features + feature, at)] = difference;
                }
            }
        }
        directions
    }
}

/// Where each document stands among them.
fn places(documents: &[u32]) -> BTreeMap<u32, usize> {
    let mut places: BTreeMap<u32, usize> = documents.iter().map(|document| (*document, 0)).collect();
    places.values_mut().enumerate().for_each(|(place, at)| *at = place);
    places
}

/// A part for each document, as many of each as can be.
fn parts(documents: usize, seed: Seed) -> Vec<usize> {
    let mut part: Vec<usize> = (0..documents).map(|document| document % PARTS).collect();
    part.shuffle(&mut seed.rng());
    part
}

/// The most frequent labels that stand in at least two documents of each part, at most so many: `ids[feature]`.
pub(super) fn frequent(labels: &[u32], documents: &[u32], count: usize, seed: Seed) -> Vec<u32> {
    let place = places(documents);
    let part = parts(place.len(), seed);
    let mut seen = BTreeMap::<u32, (usize, Vec<std::collections::BTreeSet<u32>>)>::new();
    for (label, document) in labels.iter().zip(documents) {
        let (count, of_part) = seen.entry(*label).or_insert_with(|| (0, vec![Default::default(); PARTS]));
        *count += 1;
        of_part[part[place[document]]].insert(*document);
    }
    seen.retain(|_, (_, of_part)| of_part.iter().all(|documents| documents.len() >= 2));
    let mut ids: Vec<u32> = seen.keys().copied().collect();
    ids.sort_by_key(|id| (std::cmp::Reverse(seen[id].0), *id));
    ids.truncate(count);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_differences_of_means_in_each_part() {
        // Four documents, one in each part, each with a token of the feature at (2, 1) and two without at (0, 1) and (0, 3).
        let values: Vec<f64> = [2.0, 1.0, 0.0, 1.0, 0.0, 3.0].repeat(4);
        let vectors = Features::new(2, &values).unwrap();
        let labels: Vec<Option<usize>> = [Some(0), None, None].repeat(4);
        let documents: Vec<u32> = (0..12).map(|token| token / 3).collect();
        let sums = Sums::new(&vectors, &labels, &documents, 1, Seed(1));
        let found = sums.directions(&[0, 1, 2, 3]);
        assert_eq!(found.shape(), (4, 2));
        assert!(found.row_iter().all(|row| row[0] == 2.0 && row[1] == -1.0), "{found}");
        assert!(sums.directions(&[0, 1, 2]).iter().any(|x| x.is_nan()), "a part is empty");
    }

    #[test]
    fn features_stand_in_two_documents_of_every_part() {
        let documents: Vec<u32> = (0..80).map(|token| token / 10).collect();
        // Label 1 is everywhere and most frequent, 2 everywhere once, 3 in one document alone.
        let label = |token: u32| match token % 10 {
            0 => 2,
            1 if token < 10 => 3,
            _ => 1,
        };
        let labels: Vec<u32> = (0..80).map(label).collect();
        assert_eq!(frequent(&labels, &documents, 9, Seed(2)), [1, 2]);
        assert_eq!(frequent(&labels, &documents, 1, Seed(2)), [1]);
    }
}
