//! The two halves of a block: attention and feed-forward.

mod attention;
mod dense;
mod head_results;
mod latent;
mod neurons;
mod query_experts;
mod routed;
mod shared;
mod weighted_outputs;

use moescope_engine::Var;

use crate::ModelError;
use crate::description::FeedForward;
use crate::forward::Run;
use crate::pass::LayerRoutes;

pub(crate) use attention::attention;

/// The feed-forward half, whichever it is; routes are noted.
pub(crate) fn feed_forward(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    routes: &mut Vec<LayerRoutes>,
) -> Result<Var, ModelError> {
    let model = run.model;
    let hidden = model.layout().blocks[layer].hidden;
    match &model.description().feed_forward[layer] {
        FeedForward::Dense { .. } => dense::dense(run, layer, x, hidden, &dense::DENSE, None),
        FeedForward::TopKDense { active, .. } => {
            dense::dense(run, layer, x, hidden, &dense::DENSE, Some(*active))
        }
        FeedForward::Routed(routed) => routed::routed(run, layer, x, routed, routes),
    }
}
