use moescope_base::{Column, Table};
use moescope_trace::{LayerRouting, RoutingTrace};

use super::load::slot_counts;
use crate::{AnalysisError, check};

/// How far the routes of one layer agree between two checkpoints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerSaturation {
    /// Block.
    pub layer: usize,
    /// Mean over tokens of |S ∩ S'| / k, from 0 to 1.
    pub agreement: f64,
    /// Agreement of sets drawn at random: `k / n`.
    pub chance: f64,
    /// Agreement of independent routers with the loads found: `Σ p q / k`, where `p` and `q` are the shares of tokens
    /// that chose an expert in either trace.
    pub load_chance: f64,
    /// Tokens compared.
    pub tokens: usize,
}

/// Agreement of routes, layer by layer.
#[derive(Clone, Debug, PartialEq)]
pub struct SaturationReport {
    /// In the order of the traces.
    pub layers: Vec<LayerSaturation>,
}

/// Agreement of routes between two traces of the same tokens, such as two checkpoints of one run.
///
/// - **Does not show:** agreement in function: experts of two *different* runs have unrelated numbers, and a run whose
///   experts swap roles also scores low.
/// - **Source:** router saturation of OLMoE (Muennighoff et al. 2024), with chance taken out.
///
/// # Errors
/// If the traces differ in tokens, or in number, experts or set size of their layers.
pub fn saturation(earlier: &RoutingTrace, later: &RoutingTrace) -> Result<SaturationReport, AnalysisError> {
    check::at_least("saturation", "tokens", earlier.tokens().len(), 1)?;
    let (old, new) = (earlier.tokens(), later.tokens());
    let same = old.ids == new.ids && old.documents == new.documents && old.positions == new.positions;
    let shape = |t: &RoutingTrace| -> Vec<(usize, usize, usize)> {
        t.layers().iter().map(|l| (l.layer, l.experts, l.per_token)).collect()
    };
    if !same || shape(earlier) != shape(later) {
        let what = if same { "layers" } else { "tokens" };
        return Err(AnalysisError::OutOfRange {
            method: "saturation",
            what,
            found: "different in the two traces".into(),
            wanted: "the same; trace the same windows with two checkpoints of one model".into(),
        });
    }
    let layers = earlier.layers().iter().zip(later.layers()).map(|(a, b)| compare(a, b)).collect();
    Ok(SaturationReport { layers })
}

fn compare(earlier: &LayerRouting, later: &LayerRouting) -> LayerSaturation {
    let slots = earlier.choices.len();
    let tokens = slots / earlier.per_token;
    let shared: u64 = (0..tokens)
        .map(|t| {
            let after = later.chosen(t);
            earlier.chosen(t).iter().filter(|e| after.contains(e)).count() as u64
        })
        .sum();
    let counts = slot_counts(earlier).into_iter().zip(slot_counts(later));
    let product: u128 = counts.map(|(p, q)| u128::from(p) * u128::from(q)).sum();
    LayerSaturation {
        layer: earlier.layer,
        agreement: shared as f64 / slots as f64,
        chance: earlier.per_token as f64 / earlier.experts as f64,
        load_chance: product as f64 / (tokens as f64 * slots as f64),
        tokens,
    }
}

impl LayerSaturation {
    /// Agreement above chance as a share of what was possible: 0 at random, 1 for equal routes.
    pub fn corrected(&self) -> f64 {
        (self.agreement - self.chance) / (1.0 - self.chance)
    }

    /// [`corrected`](Self::corrected) by the chance that uneven loads give.
    pub fn load_corrected(&self) -> f64 {
        (self.agreement - self.load_chance) / (1.0 - self.load_chance)
    }
}

impl SaturationReport {
    /// One row for each layer.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let real = |f: fn(&LayerSaturation) -> f64| self.layers.iter().map(f).collect::<Vec<f64>>();
        let columns = vec![
            Column::integer_key("layer", "", "block", self.layers.iter().map(|l| l.layer as i64).collect()),
            Column::estimate(
                "agreement",
                "share of experts",
                "|S ∩ S'| / k between the checkpoints",
                real(|l| l.agreement),
            ),
            Column::null(
                "agreement",
                "share of experts",
                "independent routers with these loads",
                real(|l| l.load_chance),
            ),
            Column::observations(
                "agreement",
                "tokens",
                self.layers.iter().map(|l| l.tokens as i64).collect(),
            ),
            Column::estimate("chance", "share of experts", "k / n: sets drawn at random", real(|l| l.chance)),
            Column::estimate("corrected", "share", "above chance k / n", real(LayerSaturation::corrected)),
            Column::estimate(
                "load_corrected",
                "share",
                "above chance with these loads",
                real(LayerSaturation::load_corrected),
            ),
        ];
        let method = "Sets of experts of the same tokens at two checkpoints of one model. Does not show agreement in \
                      function.";
        Ok(Table::new("routing_saturation", "How far routes have settled", method, columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_base::Seed;
    use proptest::prelude::*;

    fn trace(experts: usize, per_token: usize, choices: Vec<u32>) -> RoutingTrace {
        let n = choices.len() / per_token;
        let tokens = planted::tokens(vec![0; n], vec![0; n], vec![0; n]);
        planted::trace(tokens, experts, per_token, vec![choices])
    }

    #[test]
    fn a_hand_worked_layer() {
        let (earlier, later) = (trace(4, 2, vec![0, 1, 2, 3]), trace(4, 2, vec![1, 0, 0, 3]));
        let layer = saturation(&earlier, &later).unwrap().layers[0];
        assert_eq!((layer.agreement, layer.chance, layer.corrected()), (0.75, 0.5, 0.5));
        // p = ½ each; q = 1, ½, 0, ½.
        assert_eq!((layer.load_chance, layer.load_corrected()), (0.5, 0.5));
    }

    #[test]
    fn equal_routes_agree_fully_and_other_tokens_are_refused() {
        let sets = planted::random_sets(50, 8, 2, |_| 1.0, &mut Seed(1).rng());
        let own = trace(8, 2, sets);
        assert_eq!(saturation(&own, &own).unwrap().layers[0].corrected(), 1.0);
        assert!(saturation(&own, &trace(8, 2, vec![0, 1])).is_err());
        assert!(saturation(&trace(8, 2, vec![0, 1]), &trace(9, 2, vec![0, 1])).is_err());
    }

    #[test]
    fn independent_routers_agree_by_chance_and_uneven_load_explains_the_rest() {
        let draw = |seed, weight: fn(u32) -> f64| {
            trace(8, 2, planted::random_sets(4_000, 8, 2, weight, &mut Seed(seed).rng()))
        };
        let even = saturation(&draw(1, |_| 1.0), &draw(2, |_| 1.0)).unwrap().layers[0];
        assert!(even.corrected().abs() < 0.02);
        let uneven: fn(u32) -> f64 = |e| f64::from(1 + e * e);
        let uneven = saturation(&draw(1, uneven), &draw(2, uneven)).unwrap().layers[0];
        assert!(uneven.corrected() > 0.1 && uneven.load_corrected().abs() < 0.03);
    }

    proptest! {
        #[test]
        fn the_common_name_of_an_expert_and_the_order_of_tokens_are_immaterial(seed in 0u64..500) {
            let draw = |label| planted::random_sets(20, 6, 2, |_| 1.0, &mut Seed(seed).child(label).rng());
            let (a, b) = (trace(6, 2, draw("a")), trace(6, 2, draw("b")));
            let own = saturation(&a, &b).unwrap();
            prop_assert_eq!(&own, &saturation(&planted::renamed(&a, seed), &planted::renamed(&b, seed)).unwrap());
            prop_assert_eq!(&own, &saturation(&planted::reordered(&a, seed), &planted::reordered(&b, seed)).unwrap());
        }
    }
}
