use moescope_base::{Column, Table};

use super::recency::hit_rates;
use super::{CountedHits, LayerCounts, RouteCounts};
use crate::AnalysisError;

impl RouteCounts {
    /// Hit rates of one layer at growing sizes of the cache; nothing where no document was counted.
    pub fn hit_rates(&self, layer: &LayerCounts) -> Vec<CountedHits> {
        hit_rates(&self.sampled[1], &layer.distances, layer.experts)
    }

    /// What caches of every size find, of least recently used experts, one for each layer, empty at the start of a document.
    pub(super) fn cache_table(&self) -> Result<Table, AnalysisError> {
        let of = |l: &'_ LayerCounts| {
            let hits = self.hit_rates(l);
            hits.into_iter().map(|hits| (l.layer, hits)).collect::<Vec<_>>()
        };
        let rows: Vec<(usize, CountedHits)> = self.layers().iter().flat_map(of).collect();
        let real = |of: fn(&CountedHits) -> f64| rows.iter().map(|row| of(&row.1)).collect::<Vec<f64>>();
        let share = "share of slots";
        let mut columns = vec![
            Column::integer_key("layer", "", "block", rows.iter().map(|row| row.0 as i64).collect()),
            Column::integer_key(
                "room",
                "experts",
                "experts of the layer that fit into the cache",
                rows.iter().map(|row| row.1.room as i64).collect(),
            ),
            Column::estimate("hit_rate", share, "the expert is in the cache", real(|hits| hits.rate)),
        ];
        let (low, high) = (real(|hits| hits.interval.0), real(|hits| hits.interval.1));
        columns.extend(Column::interval("hit_rate", share, "95 %, over documents", low, high));
        let kept = rows.iter().map(|row| row.1.documents as i64).collect();
        columns.push(Column::observations("hit_rate", "documents", kept));
        columns.push(Column::null(
            "hit_rate",
            share,
            "the tokens of each document in random order",
            real(|hits| hits.null),
        ));
        let method = "Least recently used, one cache for each layer, empty at the start of a document; an even sample of the documents where there are \
                      many. What is above the null comes from neighbours, what the null has above the size from few experts in a document. Does not \
                      show time: what a miss costs depends on the machine.";
        let title = "How often the expert that is needed was used recently";
        Ok(Table::new("counted_expert_cache", title, method, columns)?)
    }
}
