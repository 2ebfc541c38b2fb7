use moescope_base::{Column, Table};

use super::state::sorted_places;
use super::{LayerCounts, RouteCounts};
use crate::AnalysisError;
use crate::committee::{chance, committee_size, overlap, set_size};
use crate::routing::gini;

/// What the shares of weight of two domains, and their most used experts, have in common: Jaccard indices.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Common {
    /// Of the first half of one domain's documents and the second half of another's, mean over all such pairs: `[sets, weight]`.
    between: [f64; 2],
    /// Of the two halves of one domain: what is left of 1 by the choice of documents alone.
    within: [f64; 2],
    /// Domains with weight in both halves.
    domains: usize,
}

impl RouteCounts {
    /// One table of the sizes of committees, and where two domains or more have documents in both halves, one of what these have in common.
    pub(super) fn committee_tables(&self) -> Result<Vec<Table>, AnalysisError> {
        let mut tables = vec![self.committee_sizes()?];
        let common: Vec<Common> = self.layers().iter().map(|layer| self.common(layer)).collect();
        if common.iter().all(|layer| layer.domains > 1) {
            tables.push(self.committee_domains(&common)?);
        }
        Ok(tables)
    }

    fn committee_sizes(&self) -> Result<Table, AnalysisError> {
        let layers = self.layers();
        let masses: Vec<Vec<f64>> = layers.iter().map(|layer| layer.masses.all()).collect();
        let real = |of: fn(&Vec<f64>) -> f64| masses.iter().map(of).collect::<Vec<f64>>();
        let columns = vec![
            Column::integer_key("layer", "", "block", layers.iter().map(|l| l.layer as i64).collect()),
            Column::count(
                "experts",
                "experts",
                "experts of the layer",
                layers.iter().map(|l| l.experts as i64).collect(),
            ),
            Column::estimate(
                "size",
                "experts",
                "least number of experts that hold 70 % of the routed weight",
                real(|mass| committee_size(mass) as f64),
            ),
            Column::null(
                "size",
                "experts",
                "the same of an even load",
                real(|mass| committee_size(&vec![1.0; mass.len()]) as f64),
            ),
            Column::observations("size", "documents", vec![self.documents() as i64; layers.len()]),
            Column::estimate(
                "gini",
                "ratio",
                "Gini coefficient of the routed weight; an even load has 0",
                real(|mass| gini(mass)),
            ),
        ];
        let method = "Routed weight is the sum of the weights as applied, added up exactly. There is no interval: `committee` of a single \
                      trace has one over documents. Does not show that the committee is needed.";
        Ok(Table::new(
            "counted_committee",
            "How few experts hold most of the routed weight",
            method,
            columns,
        )?)
    }

    fn committee_domains(&self, common: &[Common]) -> Result<Table, AnalysisError> {
        let layers = self.layers();
        let real = |of: fn(&Common) -> f64| common.iter().map(of).collect::<Vec<f64>>();
        let set = |l: &LayerCounts| set_size(l.per_token, l.experts);
        let index = "Jaccard index";
        let null = "the two halves of the documents of one domain";
        let columns = vec![
            Column::integer_key("layer", "", "block", layers.iter().map(|l| l.layer as i64).collect()),
            Column::count(
                "set",
                "experts",
                "most used experts of a domain",
                layers.iter().map(|l| set(l) as i64).collect(),
            ),
            Column::estimate(
                "weight",
                index,
                "mean over pairs of domains of what their shares of weight have in common",
                real(|common| common.between[1]),
            ),
            Column::null("weight", index, null, real(|common| common.within[1])),
            Column::observations("weight", "documents", vec![self.documents() as i64; layers.len()]),
            Column::estimate(
                "sets",
                index,
                "mean over pairs of domains of what their sets of most used experts have in common",
                real(|common| common.between[0]),
            ),
            Column::null("sets", index, null, real(|common| common.within[0])),
            Column::estimate(
                "chance",
                index,
                "`sets` of sets drawn at random",
                layers.iter().map(|l| chance(l.experts, set(l))).collect(),
            ),
        ];
        let method = "Each time one half of the documents of a domain is set beside the other half of another domain, or of its own for the null: \
                      where domains of like size use the same experts the two are equal on average; a small domain beside a large one has less in common than that. Nothing is tested; `committee_domains` of a single trace \
                      exchanges documents. Does not show that an expert does the same for every domain.";
        let title = "Whether the domains use the same experts most";
        Ok(Table::new("counted_committee_domains", title, method, columns)?)
    }

    fn common(&self, layer: &LayerCounts) -> Common {
        let set = set_size(layer.per_token, layer.experts);
        let halves = |domain: usize| [0, 1].map(|half| layer.masses.of(domain, half));
        let used = |halves: &[Vec<f64>; 2]| halves.iter().all(|half| half.iter().sum::<f64>() > 0.0);
        let domains: Vec<[Vec<f64>; 2]> =
            sorted_places(&self.domains).into_iter().map(halves).filter(used).collect();
        let mean = |of: Vec<[f64; 2]>| {
            [0, 1].map(|which| of.iter().map(|pair| pair[which]).sum::<f64>() / of.len() as f64)
        };
        let pair = |one: usize, other: usize| overlap(&domains[one][0], &domains[other][1], set);
        let all = 0..domains.len();
        let others =
            |one: usize| all.clone().filter(move |other| *other != one).map(move |other| (one, other));
        let between = all.clone().flat_map(others).map(|(one, other)| pair(one, other)).collect();
        let within = all.clone().map(|one| pair(one, one)).collect();
        Common { between: mean(between), within: mean(within), domains: domains.len() }
    }
}
