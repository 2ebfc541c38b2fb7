//! What one set of vectors holds: the stream after a block, or the neurons of one expert.

use moescope_base::Seed;

use super::directions::{Sums, frequent, less_documents, parts};
use super::geometry::{Geometry, Sharing};
use super::held::{Held, Labelled};
use super::{DEALS, DRAWS, FEATURES, FEWEST};
use crate::matrix::Features;
use crate::routing::Permutations;

/// Vectors of some tokens.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vectors {
    pub(super) values: Features,
    pub(super) ids: Vec<u32>,
    pub(super) documents: Vec<u32>,
}

/// What these vectors hold.
pub(super) struct Place {
    /// Dimensions.
    pub(super) width: usize,
    /// Features that were asked for.
    pub(super) asked: usize,
    pub(super) held: Held,
    /// How the held features share dimensions; none where fewer than two are held.
    pub(super) sharing: Option<Sharing>,
    /// The same for random directions of the same lengths.
    pub(super) random: Option<Sharing>,
    sums: Sums,
    /// Deals documents out to parts.
    seed: Seed,
    /// Numbers of the documents, in the order in which [`Sums`] has them.
    pub(super) documents: Vec<u32>,
}

impl Place {
    /// Of the most frequent token ids; none where fewer than four stand in two documents of each part.
    pub(super) fn new(vectors: &Vectors, permutations: Permutations, seed: Seed) -> Option<Place> {
        let ids = frequent(&vectors.ids, &vectors.documents, FEATURES, seed);
        if ids.len() < FEWEST {
            return None;
        }
        let values = less_documents(&vectors.values, &vectors.documents);
        let label = |id: &u32| ids.iter().position(|own| own == id);
        let labels: Vec<Option<usize>> = vectors.ids.iter().map(label).collect();
        let labelled = Labelled {
            vectors: &values,
            labels: &labels,
            documents: &vectors.documents,
            features: ids.len(),
            parts: seed,
        };
        let held = labelled.held(permutations);
        let sums = labelled.sums(&labels);
        let width = vectors.values.width();
        let all: Vec<usize> = (0..sums.documents()).collect();
        let deal = |deal: usize| {
            Geometry::new(&sums.directions(&all, &parts(all.len(), seed.child("deals").index(deal as u64))))
        };
        let deals = || (0..DEALS).map(deal).collect::<Vec<Geometry>>();
        let shared = (held.features.len() >= 2).then(|| Geometry::mean(&deals()));
        let random = shared
            .as_ref()
            .map(|geometry| geometry.random(&held.features, width, DRAWS, seed.child("random directions")));
        let sharing = shared.map(|geometry| geometry.sharing(&held.features));
        let mut documents = vectors.documents.clone();
        documents.sort_unstable();
        documents.dedup();
        Some(Place { width, asked: ids.len(), held, sharing, random, sums, documents, seed })
    }

    /// Features that are held, for each dimension.
    pub(super) fn per_dimension(&self) -> f64 {
        self.held.features.len() as f64 / self.width as f64
    }

    /// How the held features share dimensions by these documents alone, repeats counted, dealt out to parts by this number; NaN where that is
    /// not defined.
    pub(super) fn resampled(&self, documents: &[u32], deal: u64) -> Sharing {
        let drawn: Vec<usize> =
            documents.iter().filter_map(|document| self.documents.binary_search(document).ok()).collect();
        let deal = parts(self.documents.len(), self.seed.child("resampled").index(deal));
        Geometry::new(&self.sums.directions(&drawn, &deal)).sharing(&self.held.features)
    }
}
