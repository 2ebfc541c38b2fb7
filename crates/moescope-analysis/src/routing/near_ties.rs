use moescope_base::{Column, Table};
use moescope_trace::RoutingTrace;
use serde::Serialize;

use crate::counting::RelativeMargins;
use crate::{AnalysisError, check};

/// Share of a layer's tokens whose choice of experts rounding may change.
///
/// A token is nearly tied at an error `e` where its relative margin is at most `e`: see
/// [`relative_margins`](moescope_trace::relative_margins). Tokens without one are left out; shares are NaN if all are.
///
/// - **Unit and range:** share of tokens, from 0 to 1.
/// - **Null:** a router of which rounding decides nothing has 0.
/// - **Does not show:** how many choices another program makes otherwise: an error of that size need not happen, and need not push
///   the two experts towards each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LayerNearTies {
    /// Block.
    pub layer: usize,
    /// Tokens with a relative margin.
    pub tokens: usize,
    /// Share with a relative margin of at most [`BF16_ERROR`](moescope_trace::BF16_ERROR), 2⁻⁸: logits that pass through bf16.
    pub bf16: f64,
    /// Share with a relative margin of at most [`F32_ERROR`](moescope_trace::F32_ERROR), 2⁻¹⁸: two programs that compute in f32.
    pub f32: f64,
}

/// Near-ties of every routed layer.
#[derive(Clone, Debug, PartialEq)]
pub struct NearTieReport {
    /// In the order of the trace.
    pub layers: Vec<LayerNearTies>,
}

/// Near-ties of every routed layer of a trace.
///
/// - **Source:** arXiv 2510.11370 counts how often engines route one model's tokens otherwise; the definition is our own.
///
/// # Errors
/// If the trace has no token.
pub fn near_ties(trace: &RoutingTrace) -> Result<NearTieReport, AnalysisError> {
    check::at_least("near_ties", "tokens", trace.tokens().len(), 1)?;
    let of = |layer: &moescope_trace::LayerRouting| LayerNearTies::of(layer.layer, &layer.relative_margin);
    Ok(NearTieReport { layers: trace.layers().iter().map(of).collect() })
}

impl LayerNearTies {
    /// The shares of one layer, from the relative margins of its tokens.
    pub fn of(layer: usize, relative_margins: &[f32]) -> LayerNearTies {
        let mut counts = RelativeMargins::default();
        counts.add(relative_margins);
        LayerNearTies::of_counts(layer, counts)
    }

    /// The shares of one layer from what was counted.
    pub(crate) fn of_counts(layer: usize, counts: RelativeMargins) -> LayerNearTies {
        let share = |count: u64| count as f64 / counts.tokens as f64;
        LayerNearTies {
            layer,
            tokens: counts.tokens as usize,
            bf16: share(counts.bf16),
            f32: share(counts.f32),
        }
    }
}

impl NearTieReport {
    /// One row for each layer.
    ///
    /// # Errors
    /// If the columns make no table.
    pub fn table(&self) -> Result<Table, AnalysisError> {
        let count = |f: fn(&LayerNearTies) -> usize| self.layers.iter().map(|l| f(l) as i64).collect();
        let share = |f: fn(&LayerNearTies) -> f64| self.layers.iter().map(f).collect::<Vec<f64>>();
        let none = vec![0.0; self.layers.len()];
        let columns = vec![
            Column::integer_key("layer", "", "block", count(|l| l.layer)),
            Column::estimate(
                "bf16",
                "share of tokens",
                "choices that an error of 1/256 of the largest logit may change: logits in bf16",
                share(|l| l.bf16),
            ),
            Column::null("bf16", "share of tokens", "rounding decides nothing", none.clone()),
            Column::observations("bf16", "tokens", count(|l| l.tokens)),
            Column::estimate(
                "f32",
                "share of tokens",
                "choices that an error of 1/262144 of the largest logit may change: other sums in f32",
                share(|l| l.f32),
            ),
            Column::null("f32", "share of tokens", "rounding decides nothing", none),
            Column::observations("f32", "tokens", count(|l| l.tokens)),
        ];
        let method = "A token is nearly tied where the last chosen and the best refused expert would change places if \
                      every logit were off by this share of the token's largest one. Does not show that another \
                      program does choose otherwise, nor what would follow.";
        Ok(Table::new("routing_near_ties", "Choices that rounding may change", method, columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;
    use moescope_trace::RoutingTrace;

    /// A layer with these relative margins.
    fn trace(margins: &[f32]) -> RoutingTrace {
        let n = margins.len();
        let tokens = planted::tokens(vec![1; n], vec![0; n], vec![0; n]);
        let mut layer = planted::layer(5, 4, 1, vec![0; n]);
        layer.relative_margin = margins.to_vec();
        RoutingTrace::new(tokens, vec![layer]).unwrap()
    }

    #[test]
    fn a_hand_worked_layer() {
        let found = near_ties(&trace(&[0.0, 1e-6, 0.003, 0.004, 0.5, f32::NAN])).unwrap().layers[0];
        assert_eq!(found, LayerNearTies { layer: 5, tokens: 5, bf16: 0.6, f32: 0.4 });
    }

    #[test]
    fn planted_ties_are_found_and_decided_routers_have_none() {
        let mut margins = vec![0.2; 100];
        margins[..7].fill(0.001);
        assert_eq!(near_ties(&trace(&margins)).unwrap().layers[0].bf16, 0.07);
        let decided = near_ties(&trace(&[0.2; 100])).unwrap().layers[0];
        assert_eq!((decided.bf16, decided.f32), (0.0, 0.0));
        assert!(near_ties(&trace(&[f32::NAN; 3])).unwrap().layers[0].bf16.is_nan());
    }

    #[test]
    fn the_order_of_tokens_and_the_names_of_experts_are_immaterial() {
        let margins = [0.001, 0.2, 0.0, 0.01];
        let before = near_ties(&trace(&margins)).unwrap();
        let mut reversed = margins;
        reversed.reverse();
        assert_eq!(before, near_ties(&trace(&reversed)).unwrap());
        assert_eq!(before, near_ties(&planted::renamed(&trace(&margins), 3)).unwrap());
    }
}
