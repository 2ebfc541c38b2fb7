//! Directions of features, estimated four times from documents that have nothing in common.

use std::collections::BTreeMap;

use moescope_base::Seed;
use nalgebra::DMatrix;
use rand::seq::SliceRandom;

use crate::matrix::Features;

/// Parts of the documents. Four, because the square of a product of two directions needs four estimates with independent errors.
pub(super) const PARTS: usize = 4;

/// Sums of the vectors of each document by feature, from which directions follow for any choice of documents and any deal into parts.
pub(super) struct Sums {
    width: usize,
    features: usize,
    /// Of each document the number of its tokens with each feature that it has, and the sum of their vectors; tokens without a feature come
    /// last, under the number of features.
    of_document: Vec<BTreeMap<usize, (f64, Vec<f64>)>>,
}

impl Sums {
    /// Of vectors with the feature of each, if it has one of so many, and its document.
    pub(super) fn new(
        vectors: &Features,
        labels: &[Option<usize>],
        documents: &[u32],
        features: usize,
    ) -> Sums {
        let place = places(documents);
        let width = vectors.width();
        let mut of_document = vec![BTreeMap::<usize, (f64, Vec<f64>)>::new(); place.len()];
        for (token, (label, document)) in labels.iter().zip(documents).enumerate() {
            let own = of_document[place[document]].entry(label.unwrap_or(features));
            let (count, sum) = own.or_insert_with(|| (0.0, vec![0.0; width]));
            *count += 1.0;
            sum.iter_mut().zip(vectors.row(token)).for_each(|(sum, x)| *sum += x);
        }
        Sums { width, features, of_document }
    }

    /// Documents.
    pub(super) fn documents(&self) -> usize {
        self.of_document.len()
    }

    /// The directions from these documents, repeats counted, each document in its part: `[part · feature, coordinate]`. The direction of a
    /// feature is the mean of the vectors that have it less the mean of those that have not; NaN where a part has no vector of one of these
    /// two kinds.
    pub(super) fn directions(&self, documents: &[usize], deal: &[usize]) -> DMatrix<f64> {
        let mut sums = PartSums::new(self.width, self.features);
        for document in documents {
            for (row, (count, sum)) in &self.of_document[*document] {
                sums.add(deal[*document], *row, *count, sum);
            }
        }
        sums.directions()
    }
}

/// The same directions of all documents at once, of labels that are looked at but once: `part_of[token]` is the part of its document.
pub(super) fn directions_of(
    vectors: &Features,
    labels: &[Option<usize>],
    part_of: &[usize],
    features: usize,
) -> DMatrix<f64> {
    let mut sums = PartSums::new(vectors.width(), features);
    for (token, (label, part)) in labels.iter().zip(part_of).enumerate() {
        sums.add(*part, label.unwrap_or(features), 1.0, vectors.row(token));
    }
    sums.directions()
}

/// The part of each token's document when documents are dealt out.
pub(super) fn part_of(documents: &[u32], seed: Seed) -> Vec<usize> {
    let place = places(documents);
    let deal = parts(place.len(), seed);
    documents.iter().map(|document| deal[place[document]]).collect()
}

/// Sums of the vectors of each feature in each part, and their numbers; those of no feature come last.
///
/// Directions follow from these alone, however the vectors came in: document by document, or one by one.
struct PartSums {
    width: usize,
    features: usize,
    /// `[part, feature, coordinate]`.
    sums: Vec<f64>,
    /// `[part, feature]`.
    counts: Vec<f64>,
}

impl PartSums {
    fn new(width: usize, features: usize) -> PartSums {
        let rows = PARTS * (features + 1);
        PartSums { width, features, sums: vec![0.0; rows * width], counts: vec![0.0; rows] }
    }

    /// Adds so many vectors with this sum.
    fn add(&mut self, part: usize, feature: usize, count: f64, sum: &[f64]) {
        let row = part * (self.features + 1) + feature;
        self.counts[row] += count;
        let all = &mut self.sums[row * self.width..(row + 1) * self.width];
        all.iter_mut().zip(sum).for_each(|(all, x)| *all += x);
    }

    fn directions(&self) -> DMatrix<f64> {
        let (width, rows) = (self.width, self.features + 1);
        let mut directions = DMatrix::zeros(PARTS * self.features, width);
        for part in 0..PARTS {
            let sums = &self.sums[part * rows * width..(part + 1) * rows * width];
            let counts = &self.counts[part * rows..(part + 1) * rows];
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

/// Vectors less the mean of their document.
///
/// What a document speaks of moves all of its vectors, and is shared by the words that go with it: left in, the directions of these words would
/// have it in common.
pub(super) fn less_documents(vectors: &Features, documents: &[u32]) -> Features {
    let (place, width) = (places(documents), vectors.width());
    let mut sums = vec![(0.0, vec![0.0; width]); place.len()];
    for (token, document) in documents.iter().enumerate() {
        let (count, sum) = &mut sums[place[document]];
        *count += 1.0;
        sum.iter_mut().zip(vectors.row(token)).for_each(|(sum, x)| *sum += x);
    }
    let less = |(token, document): (usize, &u32)| {
        let (count, sum) = &sums[place[document]];
        vectors.row(token).iter().zip(sum).map(|(x, sum)| x - sum / count).collect::<Vec<f64>>()
    };
    let values: Vec<f64> = documents.iter().enumerate().flat_map(less).collect();
    Features::new(width, &values).expect("as many as before, and finite")
}

/// A part for each document, as many of each as can be.
pub(super) fn parts(documents: usize, seed: Seed) -> Vec<usize> {
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
        let sums = Sums::new(&vectors, &labels, &documents, 1);
        let deal = parts(4, Seed(1));
        let found = sums.directions(&[0, 1, 2, 3], &deal);
        assert_eq!(found.shape(), (4, 2));
        assert!(found.row_iter().all(|row| row[0] == 2.0 && row[1] == -1.0), "{found}");
        assert_eq!(directions_of(&vectors, &labels, &part_of(&documents, Seed(1)), 1), found);
        assert!(sums.directions(&[0, 1, 2], &deal).iter().any(|x| x.is_nan()), "a part is empty");
        let centred = less_documents(&vectors, &documents);
        assert!(
            (centred.row(3)[0] - 4.0 / 3.0).abs() < 1e-12 && (centred.row(4)[1] + 2.0 / 3.0).abs() < 1e-12
        );
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
