//! How narrow each choice was, beside the values of a router that are recorded.

use std::collections::{BTreeMap, BTreeSet};

use moescope_base::{HookPoint, Observation, Site, ValueData};

use crate::{Export, margin_exports};

/// What the margins of a layer are worked out from.
const SITES: [Site; 4] = [Site::RouterLogits, Site::RouterScores, Site::RouterSelect, Site::RouterIndices];

/// What one pass showed: the values that are kept, and the margins of the layers of whose router any is.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) kept: Observation,
    margins: Vec<Export>,
}

/// Margins under their names, token after token.
#[derive(Debug, Default)]
pub(super) struct Margins(BTreeMap<String, Vec<f32>>);

/// Layers of whose router something is recorded.
fn layers(points: &[HookPoint]) -> BTreeSet<usize> {
    points.iter().filter(|point| point.site().in_router()).filter_map(HookPoint::layer).collect()
}

/// The sites that a pass has to record: those that are kept, and what margins are worked out from. Each once, sorted.
pub(super) fn with_sources(points: &[HookPoint]) -> Vec<HookPoint> {
    let sources =
        layers(points).into_iter().flat_map(|layer| SITES.map(|site| HookPoint::block(site, layer)));
    let all: BTreeSet<HookPoint> = points.iter().copied().chain(sources).collect();
    all.into_iter().collect()
}

impl Seen {
    /// Works out the margins and lets go of what was recorded for them alone.
    pub(super) fn of(mut seen: Observation, points: &[HookPoint]) -> Seen {
        let margins = layers(points).into_iter().flat_map(|layer| margin_exports(&seen.values, layer));
        let margins = margins.collect();
        seen.values.retain(|point, _| points.contains(point));
        Seen { kept: seen, margins }
    }
}

impl Margins {
    /// Appends those of some tokens of a pass (`batch * positions + pos`).
    pub(super) fn put(&mut self, seen: &Seen, tokens: impl Iterator<Item = usize> + Clone) {
        for margin in &seen.margins {
            let ValueData::Real(numbers) = &margin.data else { continue };
            let all = self.0.entry(margin.name.clone()).or_default();
            all.extend(tokens.clone().map(|token| numbers[token]));
        }
    }

    /// As tensors of one shape.
    pub(super) fn exports(self, shape: &[usize]) -> impl Iterator<Item = Export> + use<> {
        let shape = shape.to_vec();
        self.0.into_iter().map(move |(name, numbers)| Export {
            name,
            shape: shape.clone(),
            data: ValueData::Real(numbers),
        })
    }
}
