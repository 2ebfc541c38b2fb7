use std::fmt;

use moescope_trace::{LayerRouting, RoutingTrace};

use super::Interned;
use crate::{AnalysisError, check};

/// What counts as a token's stop at a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// The whole set of chosen experts, whatever their weights.
    Sets,
    /// The expert with the largest weight.
    FirstChoices,
}

/// The path of every token: its stops over all routed layers.
///
/// - **Shape:** `stops[layer].ids[token]`, `paths.ids[token]`.
/// - **Does not show:** how much each expert of a set contributes; two tokens of equal sets and very different weights
///   walk the same path.
#[derive(Clone, Debug, PartialEq)]
pub struct Paths {
    /// What counts as a stop.
    pub kind: PathKind,
    /// Routed layers: `layers[layer]` is the block.
    pub layers: Vec<usize>,
    /// Stop of each token, for each layer.
    pub stops: Vec<Interned>,
    /// Path of each token.
    pub paths: Interned,
    /// log2 of the number of stops that each layer offers, used or not.
    pub possible_log2: Vec<f64>,
}

impl PathKind {
    /// Name of the kind within names of tables.
    pub(crate) fn identifier(self) -> &'static str {
        match self {
            PathKind::Sets => "sets",
            PathKind::FirstChoices => "first_choices",
        }
    }

    fn stops(self, layer: &LayerRouting) -> Interned {
        match self {
            PathKind::Sets => Interned::sets(layer),
            PathKind::FirstChoices => Interned::first_choices(layer),
        }
    }

    fn possible_log2(self, layer: &LayerRouting) -> f64 {
        match self {
            PathKind::Sets => super::combinations_log2(layer.experts, layer.per_token),
            PathKind::FirstChoices => (layer.experts as f64).log2(),
        }
    }
}

impl fmt::Display for PathKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathKind::Sets => "sets",
            PathKind::FirstChoices => "first choices",
        })
    }
}

impl Paths {
    /// The paths of a trace.
    ///
    /// # Errors
    /// If the trace has no token or no routed layer.
    pub fn of(trace: &RoutingTrace, kind: PathKind) -> Result<Paths, AnalysisError> {
        check::at_least("paths", "tokens", trace.tokens().len(), 1)?;
        if trace.layers().is_empty() {
            let (method, unit) = ("paths", "routed layers");
            return Err(AnalysisError::TooFew { method, unit, found: 0, wanted: 1 });
        }
        let stops: Vec<Interned> = trace.layers().iter().map(|l| kind.stops(l)).collect();
        Ok(Paths {
            kind,
            layers: trace.layers().iter().map(|l| l.layer).collect(),
            paths: Interned::sequence(&stops, trace.tokens().len()),
            stops,
            possible_log2: trace.layers().iter().map(|l| kind.possible_log2(l)).collect(),
        })
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.paths.ids.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::planted;

    #[test]
    fn a_path_of_sets_is_free_of_order_and_one_of_first_choices_is_not() {
        let tokens = planted::tokens(vec![0; 3], vec![0; 3], vec![0; 3]);
        let trace = planted::trace(tokens, 4, 2, vec![vec![0, 1, 1, 0, 2, 3], vec![1, 2, 2, 1, 2, 1]]);
        let sets = Paths::of(&trace, PathKind::Sets).unwrap();
        assert_eq!((sets.paths.ids.clone(), sets.stops[1].distinct, sets.tokens()), (vec![0, 0, 1], 1, 3));
        assert_eq!(Paths::of(&trace, PathKind::FirstChoices).unwrap().paths.ids, [0, 1, 2]);
        assert!((sets.possible_log2[0] - 6f64.log2()).abs() < 1e-12);
    }

    #[test]
    fn a_trace_without_tokens_or_routed_layers_is_refused() {
        let empty = planted::trace(planted::tokens(vec![], vec![], vec![]), 2, 1, vec![vec![]]);
        assert!(Paths::of(&empty, PathKind::Sets).is_err());
        let dense = planted::trace(planted::tokens(vec![0], vec![0], vec![0]), 2, 1, vec![]);
        assert!(Paths::of(&dense, PathKind::Sets).is_err());
    }
}
