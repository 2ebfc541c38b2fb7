use std::fmt;

use moescope_trace::{LayerRouting, RoutingTrace};

use super::Interned;
use crate::AnalysisError;
use crate::routing::require_tokens;

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
        require_tokens("paths", trace.tokens().len())?;
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
