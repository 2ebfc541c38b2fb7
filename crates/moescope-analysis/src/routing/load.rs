use moescope_base::{Column, Table};
use moescope_trace::{LayerRouting, RoutingTrace};

use super::nearest_rank;
use crate::{AnalysisError, check};

/// How evenly one layer uses its experts.
///
/// All numbers derive from `shares[expert]`, the share of the routed slots that went to each expert (sum 1).
/// None shows specialisation: a router that draws at random has perfect load.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerLoad {
    /// Block.
    pub layer: usize,
    /// Share of all routed slots: `shares[expert]`.
    pub shares: Vec<f64>,
    /// Largest share over mean share, from 1 (even) to the number of experts.
    pub max_over_mean: f64,
    /// (max − mean) / mean, from 0; the MaxVio of loss-free balancing (Wang et al. 2024).
    pub max_violation: f64,
    /// Standard deviation over mean of the shares, from 0.
    pub variation: f64,
    /// Gini coefficient of the shares, from 0 (even) to `1 − 1/experts`.
    pub gini: f64,
    /// exp(H(shares)), the Hill number of order 1, from 1 (collapse) to the number of experts.
    pub effective_experts: f64,
    /// Share of experts that no token chose, from 0 to 1. With few tokens experts seem dead by chance.
    pub dead_share: f64,
    /// Routed slots counted.
    pub slots: usize,
}

/// Load of every routed layer.
///
/// - **Source:** balance statistics by layer and their percentiles over layers, as asked for in Megatron-LM issue
///   2398; `exp(H)` over dispatch fractions of Fedus et al. 2022.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadReport {
    /// In the order of the trace.
    pub layers: Vec<LayerLoad>,
}

type Statistic = fn(&LayerLoad) -> f64;

/// Load of every routed layer of a trace.
///
/// # Errors
/// If the trace has no token.
pub fn load(trace: &RoutingTrace) -> Result<LoadReport, AnalysisError> {
    check::at_least("load", "tokens", trace.tokens().len(), 1)?;
    Ok(LoadReport { layers: trace.layers().iter().map(layer_load).collect() })
}

/// Load of one layer. A layer without tokens has shares and statistics of NaN.
pub fn layer_load(routing: &LayerRouting) -> LayerLoad {
    load_of_counts(routing.layer, &slot_counts(routing))
}

/// Load of a layer from the routed slots of each expert, `count[expert]`.
pub(crate) fn load_of_counts(layer: usize, counts: &[u64]) -> LayerLoad {
    let slots = counts.iter().sum::<u64>() as usize;
    let shares: Vec<f64> = counts.iter().map(|c| *c as f64 / slots as f64).collect();
    let mean = 1.0 / counts.len() as f64;
    let max_over_mean = shares.iter().copied().fold(f64::MIN, f64::max) / mean;
    let variance = shares.iter().map(|f| (f - mean).powi(2)).sum::<f64>() * mean;
    let dead = counts.iter().filter(|c| **c == 0).count();
    LayerLoad {
        layer,
        max_over_mean,
        max_violation: max_over_mean - 1.0,
        variation: variance.sqrt() / mean,
        gini: gini(&shares),
        effective_experts: entropy_nats(&shares).exp(),
        dead_share: dead as f64 * mean,
        shares,
        slots,
    }
}

/// Routed slots of each expert: `count[expert]`.
pub(crate) fn slot_counts(routing: &LayerRouting) -> Vec<u64> {
    // Four tables in turn, so that a popular expert's counter does not have to wait for its own last increment.
    let mut tables = vec![[0u32; 4]; routing.experts]; // [expert, lane]
    let chunks = routing.choices.chunks_exact(4);
    for expert in chunks.remainder() {
        tables[*expert as usize][0] += 1;
    }
    for chunk in chunks {
        for (lane, expert) in chunk.iter().enumerate() {
            tables[*expert as usize][lane] += 1;
        }
    }
    tables.iter().map(|lanes| lanes.iter().map(|c| u64::from(*c)).sum()).collect()
}

/// Entropy of shares in nats.
fn entropy_nats(shares: &[f64]) -> f64 {
    // Ascending, so that renaming the experts does not change a bit of the sum.
    let mut terms: Vec<f64> = shares.iter().map(|f| if *f == 0.0 { 0.0 } else { -f * f.ln() }).collect();
    terms.sort_unstable_by(f64::total_cmp);
    terms.iter().sum()
}

/// Gini coefficient of some non-negative numbers, from 0 (even) to `1 − 1/n`.
pub(crate) fn gini(shares: &[f64]) -> f64 {
    let mut sorted = shares.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let weighted: f64 = sorted.iter().enumerate().map(|(i, f)| (2.0 * (i as f64 + 1.0) - n - 1.0) * f).sum();
    weighted / (n * sorted.iter().sum::<f64>())
}

impl LoadReport {
    /// One row for each layer.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let real = |f: fn(&LayerLoad) -> f64| self.layers.iter().map(f).collect::<Vec<f64>>();
        let experts = real(|l| l.shares.len() as f64);
        let columns = vec![
            Column::integer_key("layer", "", "block", self.layers.iter().map(|l| l.layer as i64).collect()),
            Column::estimate(
                "effective_experts",
                "experts",
                "exp of the entropy of load",
                real(|l| l.effective_experts),
            ),
            Column::null("effective_experts", "experts", "even load", experts),
            Column::estimate(
                "max_over_mean",
                "ratio",
                "largest over mean load; even load has 1",
                real(|l| l.max_over_mean),
            ),
            Column::estimate(
                "max_violation",
                "ratio",
                "(max - mean) / mean; even load has 0",
                real(|l| l.max_violation),
            ),
            Column::estimate(
                "variation",
                "ratio",
                "standard deviation over mean of load",
                real(|l| l.variation),
            ),
            Column::estimate("gini", "ratio", "Gini coefficient of load; even load has 0", real(|l| l.gini)),
            Column::estimate(
                "dead_share",
                "share of experts",
                "experts that no token chose",
                real(|l| l.dead_share),
            ),
            Column::observations(
                "effective_experts",
                "routed slots",
                self.layers.iter().map(|l| l.slots as i64).collect(),
            ),
        ];
        let method = "Routed slots counted by expert, each layer by itself. Does not show specialisation: random \
                      routing has even load.";
        Ok(Table::new("routing_load", "How evenly each layer uses its experts", method, columns)?)
    }

    /// One row for each layer and expert.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn by_expert(&self) -> Result<Table, AnalysisError> {
        let rows: Vec<(&LayerLoad, usize)> =
            self.layers.iter().flat_map(|l| (0..l.shares.len()).map(move |expert| (l, expert))).collect();
        let columns = vec![
            Column::integer_key("layer", "", "block", rows.iter().map(|(l, _)| l.layer as i64).collect()),
            Column::integer_key("expert", "", "expert", rows.iter().map(|(_, e)| *e as i64).collect()),
            Column::estimate(
                "load",
                "share of routed slots",
                "slots that went to the expert",
                rows.iter().map(|(l, e)| l.shares[*e]).collect(),
            ),
            Column::null(
                "load",
                "share of routed slots",
                "even load",
                rows.iter().map(|(l, _)| 1.0 / l.shares.len() as f64).collect(),
            ),
            Column::observations("load", "routed slots", rows.iter().map(|(l, _)| l.slots as i64).collect()),
        ];
        let method = "Routed slots counted by expert, each layer by itself.";
        Ok(Table::new("routing_load_by_expert", "Share of routed slots of each expert", method, columns)?)
    }

    /// One row for each statistic, with its percentiles over layers (nearest rank).
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn over_layers(&self) -> Result<Table, AnalysisError> {
        let statistics: [(&str, Statistic); 6] = [
            ("effective_experts", |l| l.effective_experts),
            ("max_over_mean", |l| l.max_over_mean),
            ("max_violation", |l| l.max_violation),
            ("variation", |l| l.variation),
            ("gini", |l| l.gini),
            ("dead_share", |l| l.dead_share),
        ];
        let sorted: Vec<Vec<f64>> = statistics
            .iter()
            .map(|(_, f)| {
                let mut values: Vec<f64> = self.layers.iter().map(f).collect();
                values.sort_unstable_by(f64::total_cmp);
                values
            })
            .collect();
        let mut columns =
            vec![Column::key("statistic", "of load", statistics.iter().map(|(n, _)| (*n).into()).collect())];
        for (name, level) in [("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p95", 0.95)] {
            let values = sorted.iter().map(|s| nearest_rank(s, level)).collect();
            columns.push(Column::estimate(name, "unit of the statistic", "percentile over layers", values));
        }
        columns.push(Column::observations("p50", "layers", vec![self.layers.len() as i64; statistics.len()]));
        let method = "Nearest-rank percentiles over routed layers of the statistics in `routing_load`.";
        Ok(Table::new("routing_load_over_layers", "Load over all layers", method, columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;
    use proptest::prelude::*;

    #[test]
    fn a_hand_worked_layer() {
        // Loads 3, 1, 0, 0 of 4 slots.
        let load = layer_load(&planted::layer(0, 4, 1, vec![0, 0, 1, 0]));
        assert_eq!(load.shares, [0.75, 0.25, 0.0, 0.0]);
        assert_eq!((load.max_over_mean, load.max_violation, load.dead_share), (3.0, 2.0, 0.5));
        // Deviations 2, 0, −1, −1 in units of the mean.
        assert!((load.variation - 1.5f64.sqrt()).abs() < 1e-12);
        assert!((load.gini - 0.625).abs() < 1e-12);
        assert!((load.effective_experts - 4.0 / 3f64.powf(0.75)).abs() < 1e-12);
    }

    #[test]
    fn collapse_is_found_and_even_load_is_not_mistaken_for_it() {
        let collapsed = layer_load(&planted::layer(0, 8, 1, vec![5; 100]));
        assert!((collapsed.effective_experts, collapsed.dead_share) == (1.0, 0.875));
        let sets = planted::random_sets(4_000, 8, 2, |_| 1.0, &mut Seed(1).rng());
        let even = layer_load(&planted::layer(0, 8, 2, sets));
        assert!(even.effective_experts > 7.9 && even.max_violation < 0.15 && even.gini < 0.05);
    }

    #[test]
    fn percentiles_over_layers_are_nearest_ranks() {
        let tokens = planted::tokens(vec![0; 2], vec![0; 2], vec![0; 2]);
        let trace = planted::trace(tokens, 2, 1, vec![vec![0, 0], vec![0, 1], vec![1, 1], vec![1, 0]]);
        let table = load(&trace).unwrap().over_layers().unwrap();
        // Dead shares 0.5, 0, 0.5, 0.
        let row = 5;
        assert_eq!(table.columns()[0].data.label(row), "dead_share");
        assert_eq!(table.column("p50").unwrap().data.number(row), Some(0.0));
        assert_eq!(table.column("p75").unwrap().data.number(row), Some(0.5));
        assert_eq!(load(&trace).unwrap().by_expert().unwrap().rows(), 8);
    }

    proptest! {
        #[test]
        fn names_of_experts_and_order_of_tokens_are_immaterial(seed in 0u64..1_000, tokens in 2usize..60) {
            let sets = planted::random_sets(tokens, 6, 2, |e| f64::from(e + 1), &mut Seed(seed).rng());
            let table = planted::tokens(vec![0; tokens], vec![0; tokens], vec![0; tokens]);
            let trace = planted::trace(table, 6, 2, vec![sets]);
            let own = load(&trace).unwrap().layers.remove(0);
            for other in [planted::renamed(&trace, seed), planted::reordered(&trace, seed)] {
                let other = load(&other).unwrap().layers.remove(0);
                prop_assert_eq!(own.effective_experts, other.effective_experts);
                prop_assert_eq!((own.gini, own.max_violation), (other.gini, other.max_violation));
                prop_assert_eq!(own.dead_share, other.dead_share);
            }
        }
    }
}
