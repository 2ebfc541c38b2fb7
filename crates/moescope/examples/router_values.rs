//! Opens a checkpoint, runs one sequence, and prints what its routers did.
//!
//! `cargo run --example router_values [MODEL]`, where MODEL is a Hugging Face folder or a `.gguf` file; a tiny random one without it.

use std::error::Error;
use std::path::{Path, PathBuf};

use moescope::base::{HookPoint, Request, Site, Subject, Tokens};
use moescope::model::{Model, ModelSubject};

/// What one layer did with one token.
pub(crate) struct Route {
    pub(crate) layer: usize,
    /// The largest weight first.
    pub(crate) experts: Vec<i64>,
    /// As applied: they need not sum to one.
    pub(crate) weights: Vec<f32>,
}

/// The routes of the last token of a sequence, one for each routed layer.
pub(crate) fn routes(folder: &Path, ids: &[u32]) -> Result<Vec<Route>, Box<dyn Error>> {
    let mut subject = ModelSubject::new(Model::open(folder)?);
    let tokens = Tokens::new(ids.to_vec(), 1, ids.len())?;
    let layers = subject.shape().routed_layers();
    let points = |site| layers.iter().map(move |layer| HookPoint::block(site, *layer));
    let record: Vec<HookPoint> = points(Site::RouterIndices).chain(points(Site::RouterWeights)).collect();
    let seen = subject.run(&Request { record: &record, ..Request::of(&tokens) })?;
    let route = |layer: &usize| {
        let experts = &seen.values[&HookPoint::block(Site::RouterIndices, *layer)];
        let weights = &seen.values[&HookPoint::block(Site::RouterWeights, *layer)];
        let slots = experts.columns(); // [batch, pos, slot]
        Some(Route {
            layer: *layer,
            experts: experts.integer()?.rchunks(slots).next()?.to_vec(),
            weights: weights.real()?.rchunks(slots).next()?.to_vec(),
        })
    };
    layers.iter().map(route).collect::<Option<_>>().ok_or_else(|| "an empty sequence".into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/checkpoints/qwen3_moe");
    let folder = std::env::args().nth(1).map_or_else(|| PathBuf::from(tiny), PathBuf::from);
    for route in routes(&folder, &[3, 14, 15, 92, 65])? {
        println!("layer {}: experts {:?} with weights {:.3?}", route.layer, route.experts, route.weights);
    }
    Ok(())
}
