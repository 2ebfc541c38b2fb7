//! Choices of experts that rounding may change, as commands report them.

use std::collections::{BTreeMap, BTreeSet};

use moescope_analysis::routing::LayerNearTies;
use moescope_base::{HookPoint, SubjectShape, Value};
use moescope_trace::{BF16_ERROR, Export, F32_ERROR, RoutingTrace, margin_exports, relative_margins};
use serde_json::{Value as Json, json};

use crate::say;

/// Near-ties of the routed layers of one pass, of which the routers' values were recorded.
pub fn of_values(shape: &SubjectShape, values: &BTreeMap<HookPoint, Value>) -> Vec<LayerNearTies> {
    let of = |layer: usize| Some(LayerNearTies::of(layer, &relative_margins(values, layer)?));
    shape.routed_layers().into_iter().filter_map(of).collect()
}

/// The margins of the choices of each layer of whose router something is written, as tensors beside it.
pub fn margins(written: &[HookPoint], values: &BTreeMap<HookPoint, Value>) -> Vec<Export> {
    let router = written.iter().filter(|point| point.site().in_router()).filter_map(HookPoint::layer);
    let layers: BTreeSet<usize> = router.collect();
    layers.into_iter().flat_map(|layer| margin_exports(values, layer)).collect()
}

/// Near-ties of the layers of a trace.
pub fn of_trace(trace: &RoutingTrace) -> Vec<LayerNearTies> {
    trace.layers().iter().map(|layer| LayerNearTies::of(layer.layer, &layer.relative_margin)).collect()
}

/// The shares with their thresholds; shares of no token are null.
pub fn json(layers: &[LayerNearTies]) -> Json {
    json!({ "relative_error": { "bf16": BF16_ERROR, "f32": F32_ERROR }, "layers": layers })
}

/// One line for each layer of which any token has a margin.
pub fn tell(layers: &[LayerNearTies]) {
    for layer in layers.iter().filter(|layer| layer.tokens > 0) {
        say!(
            "layer {:>3}: of {} choices {:.2} % nearly tied in bf16 (error 1/{:.0} of the largest logit), {:.3} % in f32 (1/{:.0})",
            layer.layer,
            layer.tokens,
            100.0 * layer.bf16,
            1.0 / BF16_ERROR,
            100.0 * layer.f32,
            1.0 / F32_ERROR
        );
    }
}
