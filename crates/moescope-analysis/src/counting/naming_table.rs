use moescope_base::{Column, Table};

use super::layer::of_one_label;
use super::naming::NAMED;
use super::state::ranks;
use super::{Contingency, LayerCounts, NamedByPath, RouteCounts};
use crate::AnalysisError;

/// What counts as a stop, in the order of the samples of paths.
const KINDS: [&str; 2] = ["sets", "first choices"];

impl RouteCounts {
    /// What paths of sets and of first choices name of domain and class; only what has two labels or more.
    pub fn named_by_paths(&self) -> Vec<(&'static str, &'static str, NamedByPath)> {
        let ranks = [ranks(&self.domains), ranks(&self.classes)];
        let mut found = Vec::new();
        for (kind, name) in KINDS.into_iter().enumerate() {
            for (place, label) in NAMED.into_iter().enumerate().filter(|(place, _)| ranks[*place].len() > 1) {
                let of = |layer: &LayerCounts| of_one_label(&layer.by_labels[1], &self.pairs, place);
                let layers: Vec<Contingency> = self.layers().iter().map(of).collect();
                let named = self.labels_of_paths(kind).named(place, &self.pairs, &layers, &ranks[place]);
                found.extend(named.map(|named| (name, label, named)));
            }
        }
        found
    }

    /// [`named_by_paths`](Self::named_by_paths) as a table, none without rows.
    pub(super) fn naming_table(&self) -> Result<Option<Table>, AnalysisError> {
        let found = self.named_by_paths();
        if found.is_empty() {
            return Ok(None);
        }
        let real = |of: fn(&NamedByPath) -> f64| found.iter().map(|row| of(&row.2)).collect::<Vec<f64>>();
        let share = "share of tokens";
        let columns = vec![
            Column::key("kind", "what counts as a stop", found.iter().map(|row| row.0.into()).collect()),
            Column::key("label", "what is named", found.iter().map(|row| row.1.into()).collect()),
            Column::estimate(
                "named",
                share,
                "the label is the most frequent one of the path in the other half of the documents",
                real(|named| named.path.ratio),
            ),
            Column::null(
                "named",
                share,
                "the most frequent label of the other half",
                real(|named| named.alone),
            ),
            Column::observations("named", "tokens", vec![self.tokens() as i64; found.len()]),
            Column::estimate(
                "named_error",
                share,
                "standard error of keeping some paths only; 0 where all were kept",
                real(|named| named.path.error),
            ),
            Column::estimate(
                "by_expert",
                share,
                "named by the first choice of one layer, the best",
                real(|named| named.expert),
            ),
            Column::count(
                "layer",
                "",
                "block of that layer",
                found.iter().map(|row| self.layers()[row.2.layer].layer as i64).collect(),
            ),
            Column::estimate("seen", share, "the other half has the path", real(|named| named.seen)),
            Column::estimate(
                "kept",
                "share",
                "of the distinct paths, all with exact counts",
                real(|named| named.kept),
            ),
        ];
        let method = "Documents are halved by a hash of their tokens, and each half names what the other has. A path that the other half does not have \
                      names the most frequent label, so that many rare paths name little however pure they are. The best of the layers is chosen \
                      by these numbers themselves, which favours it. Does not show that a path is taken because of the label.";
        let title = "Whether paths name domain and class better than experts do";
        Ok(Some(Table::new("counted_path_labels", title, method, columns)?))
    }
}
