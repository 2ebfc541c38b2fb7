use moescope_base::{Column, Table};
use moescope_trace::{LayerRouting, RoutingTrace};

use crate::counting::DecisionSums;
use crate::{AnalysisError, check};

/// Margin below which reports count a choice as nearly tied, in units of the selection scores.
pub const NEAR_TIE: f32 = 1e-3;

/// How decided the router of one layer is.
///
/// Tokens whose entropy or margin is NaN (a router that does not score) are left out; every mean is NaN if all are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerSharpness {
    /// Block.
    pub layer: usize,
    /// Number of experts.
    pub experts: usize,
    /// Mean over tokens of the entropy of the scores, nats, from 0 (one expert) to ln(experts) (no preference).
    pub entropy: f64,
    /// Mean over tokens of exp(entropy): experts between which the router hesitates, from 1 to `experts`.
    pub effective_choices: f64,
    /// Mean distance between last chosen and best refused expert, in units of the selection scores.
    pub margin: f64,
    /// Share of tokens whose margin is below the tie threshold: routes that rounding may flip.
    pub near_ties: f64,
    /// Tokens with an entropy.
    pub entropy_tokens: usize,
    /// Tokens with a margin.
    pub margin_tokens: usize,
}

/// Sharpness of every routed layer.
#[derive(Clone, Debug, PartialEq)]
pub struct SharpnessReport {
    /// Margin below which a choice counts as nearly tied, in units of the selection scores.
    pub near_tie: f32,
    /// In the order of the trace.
    pub layers: Vec<LayerSharpness>,
}

/// Sharpness of every routed layer; margins below `near_tie` count as nearly tied.
///
/// - **Does not show:** whether the choice matters for the loss, nor whether it is stable over training.
///
/// # Errors
/// If the trace has no token, or `near_tie` is not a positive number.
pub fn sharpness(trace: &RoutingTrace, near_tie: f32) -> Result<SharpnessReport, AnalysisError> {
    check::at_least("sharpness", "tokens", trace.tokens().len(), 1)?;
    if near_tie.is_nan() || near_tie <= 0.0 {
        return Err(AnalysisError::OutOfRange {
            method: "sharpness",
            what: "near_tie",
            found: near_tie.to_string(),
            wanted: "a positive margin".into(),
        });
    }
    Ok(SharpnessReport { near_tie, layers: trace.layers().iter().map(|l| of_layer(l, near_tie)).collect() })
}

fn of_layer(routing: &LayerRouting, near_tie: f32) -> LayerSharpness {
    let mut sums = DecisionSums::default();
    sums.add(routing, near_tie);
    LayerSharpness::of_sums(routing.layer, routing.experts, &sums)
}

impl LayerSharpness {
    /// The means of a layer from what was summed.
    pub(crate) fn of_sums(layer: usize, experts: usize, sums: &DecisionSums) -> LayerSharpness {
        let (entropies, margins) = (sums.entropy_tokens as f64, sums.margin_tokens as f64);
        LayerSharpness {
            layer,
            experts,
            entropy: sums.entropy.value() / entropies,
            effective_choices: sums.effective_choices.value() / entropies,
            margin: sums.margin.value() / margins,
            near_ties: sums.near_ties as f64 / margins,
            entropy_tokens: sums.entropy_tokens as usize,
            margin_tokens: sums.margin_tokens as usize,
        }
    }
}

impl SharpnessReport {
    /// One row for each layer.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let real = |f: fn(&LayerSharpness) -> f64| self.layers.iter().map(f).collect::<Vec<f64>>();
        let count = |f: fn(&LayerSharpness) -> usize| self.layers.iter().map(|l| f(l) as i64).collect();
        let near = format!("tokens with a margin below {}", self.near_tie);
        let columns = vec![
            Column::integer_key("layer", "", "block", count(|l| l.layer)),
            Column::estimate("entropy", "nats", "mean entropy of the router's scores", real(|l| l.entropy)),
            Column::null("entropy", "nats", "no preference among experts", real(|l| (l.experts as f64).ln())),
            Column::observations("entropy", "tokens", count(|l| l.entropy_tokens)),
            Column::estimate(
                "effective_choices",
                "experts",
                "mean of exp(entropy)",
                real(|l| l.effective_choices),
            ),
            Column::null(
                "effective_choices",
                "experts",
                "no preference among experts",
                real(|l| l.experts as f64),
            ),
            Column::estimate(
                "margin",
                "selection score",
                "last chosen minus best refused expert",
                real(|l| l.margin),
            ),
            Column::observations("margin", "tokens", count(|l| l.margin_tokens)),
            Column::estimate("near_ties", "share of tokens", &near, real(|l| l.near_ties)),
        ];
        let method = "Means over tokens of what the router recorded, each layer by itself. Does not show whether the \
                      choice matters for the loss.";
        Ok(Table::new("routing_sharpness", "How decided the routers are", method, columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_trace::TokenTable;
    use proptest::prelude::*;

    fn trace(entropy: Vec<f32>, margin: Vec<f32>) -> RoutingTrace {
        let n = entropy.len();
        let tokens = TokenTable {
            ids: vec![0; n],
            next_ids: vec![0; n],
            domains: vec![0; n],
            documents: vec![0; n],
            positions: (0..n as u32).collect(),
            classes: vec![0; n],
            domain_names: vec!["d".into()],
            class_names: vec!["c".into()],
        };
        let (choices, weights) = (vec![0; n], vec![1.0; n]);
        let relative_margin = vec![0.1; n];
        let layer = LayerRouting {
            layer: 3,
            experts: 4,
            per_token: 1,
            choices,
            weights,
            entropy,
            margin,
            relative_margin,
        };
        RoutingTrace::new(tokens, vec![layer]).unwrap()
    }

    #[test]
    fn a_hand_worked_layer() {
        let trace = trace(vec![0.0, 4f32.ln(), f32::NAN], vec![0.5, 0.001, f32::NAN]);
        let layer = sharpness(&trace, 0.01).unwrap().layers[0];
        assert!((layer.effective_choices - 2.5).abs() < 1e-6);
        assert_eq!((layer.near_ties, layer.entropy_tokens, layer.margin_tokens), (0.5, 2, 2));
    }

    #[test]
    fn a_router_without_preference_meets_its_null() {
        let report = sharpness(&trace(vec![4f32.ln(); 5], vec![0.1; 5]), 0.01).unwrap();
        let table = report.table().unwrap();
        let gap = report.layers[0].entropy - table.column("entropy_null").unwrap().data.number(0).unwrap();
        assert!(gap.abs() < 1e-6);
        assert_eq!(report.layers[0].near_ties, 0.0);
    }

    #[test]
    fn a_router_that_does_not_score_has_no_numbers_and_a_bad_threshold_is_refused() {
        let trace = trace(vec![f32::NAN; 2], vec![f32::NAN; 2]);
        assert!(sharpness(&trace, 0.01).unwrap().layers[0].entropy.is_nan());
        assert!(sharpness(&trace, f32::NAN).is_err());
    }

    proptest! {
        #[test]
        fn the_order_of_tokens_is_immaterial(mut margin in prop::collection::vec(0f32..1.0, 1..40)) {
            let entropy = |m: &[f32]| m.iter().map(|x| x * 1.3).collect::<Vec<_>>();
            let before = sharpness(&trace(entropy(&margin), margin.clone()), 0.2).unwrap().layers[0];
            margin.reverse();
            let after = sharpness(&trace(entropy(&margin), margin.clone()), 0.2).unwrap().layers[0];
            prop_assert_eq!(before.near_ties, after.near_ties);
            prop_assert!((before.entropy - after.entropy).abs() < 1e-9);
        }
    }
}
