//! Which features vectors hold at all.

use moescope_base::Seed;
use rayon::prelude::*;

use super::directions::{Sums, directions_of, part_of};
use super::geometry::squares;
use crate::along::Along;
use crate::matrix::Features;
use crate::routing::Permutations;
use crate::statistics::{holm, mean, standard_deviation};

/// Which features have a direction.
///
/// - **Null:** labels moved along each document.
/// - **Does not show:** that the model reads the direction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    /// Features whose squared length is beyond chance by Holm's correction over all, ascending.
    pub(super) features: Vec<usize>,
    /// Mean squared length of all features, in standard deviations of each under the null: 0 where there is nothing.
    pub(super) strength: f64,
    /// Share of the draws in which this mean is as large.
    pub(super) p_value: f64,
}

/// Vectors and what is known of each.
#[derive(Clone, Copy)]
pub(super) struct Labelled<'a> {
    pub(super) vectors: &'a Features,
    /// Feature of each, if it has one.
    pub(super) labels: &'a [Option<usize>],
    pub(super) documents: &'a [u32],
    /// Features.
    pub(super) features: usize,
    /// Decides the parts of the documents.
    pub(super) parts: Seed,
}

impl Labelled<'_> {
    /// Sums with these labels.
    pub(super) fn sums(&self, labels: &[Option<usize>]) -> Sums {
        Sums::new(self.vectors, labels, self.documents, self.features)
    }

    /// Squared lengths with these labels, the document of each token in its part; NaN where a part lacks a feature.
    fn squares(&self, labels: &[Option<usize>], part_of: &[usize]) -> Vec<f64> {
        squares(&directions_of(self.vectors, labels, part_of, self.features))
    }

    /// The labels, moved along each document: vectors that drift along a document and words that come in stretches would hold each other if single
    /// labels were exchanged.
    fn exchanged(&self, along: &Along, seed: Seed) -> Vec<Option<usize>> {
        along.draw(&mut seed.rng()).into_iter().map(|from| self.labels[from as usize]).collect()
    }

    /// Which features have a direction. Squared lengths are compared with those of all features under the null, each in units of its own
    /// spread there, so that few draws suffice for many features.
    pub(super) fn held(&self, permutations: Permutations) -> Held {
        let (along, part_of) = (Along::new(self.documents), part_of(self.documents, self.parts));
        let draw = |draw: usize| {
            self.squares(&self.exchanged(&along, permutations.seed.index(draw as u64)), &part_of)
        };
        let draws: Vec<Vec<f64>> = (0..permutations.count).into_par_iter().map(draw).collect();
        let scale: Vec<(f64, f64)> = (0..self.features)
            .map(|feature| {
                let own: Vec<f64> = draws.iter().map(|draw| draw[feature]).collect();
                (mean(&own), standard_deviation(&own))
            })
            .collect();
        let standard = |squares: &[f64]| -> Vec<f64> {
            let one = |(square, (mean, spread)): (&f64, &(f64, f64))| {
                if *spread > 0.0 { (square - mean) / spread } else { 0.0 }
            };
            squares.iter().zip(&scale).map(one).collect()
        };
        let seen = standard(&self.squares(self.labels, &part_of));
        let nulls: Vec<Vec<f64>> = draws.iter().map(|draw| standard(draw)).collect();
        let share = |as_much: usize, all: usize| (1 + as_much) as f64 / (1 + all) as f64;
        let p: Vec<f64> = seen
            .iter()
            .map(|seen| {
                let as_much = nulls.iter().flatten().filter(|null| *null >= seen).count();
                share(as_much, nulls.len() * self.features)
            })
            .collect();
        let corrected = holm(&p);
        let strength = mean(&seen);
        let as_much = nulls.iter().filter(|draw| mean(draw) >= strength).count();
        Held {
            features: (0..self.features).filter(|feature| corrected[*feature] <= 0.05).collect(),
            strength,
            p_value: share(as_much, nulls.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::normal;
    use rand::RngExt;

    const FEATURES: usize = 5;

    /// Sixteen documents of 25 tokens with one of five features or none, and Gaussian vectors in six dimensions; a feature adds `size` to one
    /// coordinate, and every document has a vector of its own.
    fn drawn(size: f64, seed: u64) -> (Features, Vec<Option<usize>>, Vec<u32>) {
        let mut rng = Seed(seed).child("drawn").rng();
        let documents: Vec<u32> = (0..400).map(|token| token / 25).collect();
        let labels: Vec<Option<usize>> =
            (0..400).map(|_| Some(rng.random_range(0..FEATURES + 1)).filter(|f| *f < FEATURES)).collect();
        let own: Vec<f64> = (0..16 * 6).map(|_| normal(&mut rng)).collect();
        let mut values = Vec::new();
        for (label, document) in labels.iter().zip(&documents) {
            for at in 0..6 {
                let feature = if *label == Some(at) { size } else { 0.0 };
                values.push(own[*document as usize * 6 + at] + feature + normal(&mut rng));
            }
        }
        (Features::new(6, &values).unwrap(), labels, documents)
    }

    fn held((vectors, labels, documents): &(Features, Vec<Option<usize>>, Vec<u32>), seed: u64) -> Held {
        let (features, parts) = (FEATURES, Seed(8));
        let labelled = Labelled { vectors, labels, documents, features, parts };
        labelled.held(Permutations::new(39, Seed(seed)))
    }

    #[test]
    fn planted_features_are_held_and_reordered_documents_change_nothing() {
        let drawn = drawn(3.0, 1);
        let found = held(&drawn, 2);
        assert_eq!((found.features.len(), found.p_value), (FEATURES, 1.0 / 40.0), "{found:?}");
        let mut order: Vec<usize> = (0..400).collect();
        order.rotate_left(100);
        let (vectors, labels, documents) = &drawn;
        let labels = order.iter().map(|token| labels[*token]).collect();
        let documents = order.iter().map(|token| documents[*token]).collect();
        let again = held(&(vectors.select(&order), labels, documents), 2);
        assert_eq!((again.features, again.p_value), (found.features, found.p_value));
        assert!((again.strength - found.strength).abs() < 1e-6);
    }

    #[test]
    fn noise_holds_features_as_often_as_it_should() {
        // 200 seeds at one in twenty: above 19 is far beyond chance, of both questions.
        let found: Vec<Held> = (0..200).map(|seed| held(&drawn(0.0, 100 + seed), seed)).collect();
        let beyond = found.iter().filter(|held| held.p_value <= 0.05).count();
        let any = found.iter().filter(|held| !held.features.is_empty()).count();
        assert!((2..20).contains(&beyond) && any < 20, "{beyond} and {any} of 200");
    }
}
