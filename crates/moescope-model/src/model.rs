//! A description with its weights.

use std::sync::Arc;

use moescope_base::Seed;
use moescope_engine::Rotary;

use crate::ModelError;
use crate::description::Description;
use crate::folder::Stock;
use crate::initialise;
use crate::parameters::{Layout, Parameter, Role};
use crate::scaling::Scaling;
use crate::streams;
use crate::variation::Turning;

/// Longest sequence for which rotary tables are kept with the model; longer ones are made for the pass.
const KEPT_POSITIONS: usize = 2048;

/// A transformer: its description and its weights.
///
/// Weights are `f32` and stay in memory whole, and a clone copies them; but of a model that was
/// [opened within a bound](Model::open_within) they may stay in their files.
#[derive(Clone, Debug)]
pub struct Model {
    description: Description,
    layout: Layout,
    parameters: Vec<Parameter>,
    /// By block, `[expert]` each; kept apart from the parameters because no gradient trains it.
    selection_bias: Vec<Option<Vec<f32>>>,
    /// Tables for the first positions, worked out once; none where positions do not turn, or turn by the length of the pass.
    rotary: Option<Rotary>,
    /// Where the weights are read from when they are not in memory.
    stock: Option<Arc<Stock>>,
    /// Bytes that a subject may take for what passes have in common.
    room_for_streams: u64,
}

impl Model {
    /// A model with fresh weights; see the crate's page on their scale.
    ///
    /// Matrices are truncated normal with standard deviation `1 / sqrt(inputs)`, writers into the residual stream further scaled
    /// by `1 / sqrt(2 layers)`, and expert outputs by the inverse expected norm of a token's routing weights, so that dense and
    /// routed layers write equally at the first step. The bits depend on seed and description alone.
    ///
    /// # Errors
    /// [`ModelError::Description`] when the sizes make no model, [`ModelError::Host`] when this machine cannot hold it.
    pub fn initialise(description: Description, seed: Seed) -> Result<Model, ModelError> {
        description.check()?;
        description.require_memory()?;
        let layout = Layout::new(&description);
        let parameters = initialise::weights(&description, &layout, seed);
        Model::from_parts(description, layout, parameters)
    }

    /// A model from weights that were read; the parameters follow the layout.
    pub(crate) fn from_parts(
        description: Description,
        layout: Layout,
        mut parameters: Vec<Parameter>,
    ) -> Result<Model, ModelError> {
        let factors = initialise::output_factors(&description);
        for (parameter, specification) in parameters.iter_mut().zip(&layout.specifications) {
            if let Role::Writer { feed_forward: Some(layer) } = specification.role {
                parameter.rate_factor = factors[layer] as f32;
            }
        }
        for (parameter, wanted) in parameters.iter().zip(&layout.specifications) {
            if parameter.tensor.shape() != wanted.shape {
                return Err(ModelError::TensorShape {
                    name: parameter.name.clone(),
                    found: parameter.tensor.shape().to_vec(),
                    wanted: wanted.shape.clone(),
                });
            }
        }
        let kept = description.variation.turning().filter(|turning| !turning.scaling.depends_on_length());
        let positions = description.max_positions.min(KEPT_POSITIONS);
        let rotary = kept.map(|turning| tables(&description, turning, positions));
        let selection_bias = vec![None; description.layers()];
        Ok(Model {
            description,
            layout,
            parameters,
            selection_bias,
            rotary,
            stock: None,
            room_for_streams: streams::ROOM,
        })
    }

    /// Says how many bytes subjects may take for what passes have in common.
    pub(crate) fn leave_for_streams(&mut self, bytes: u64) {
        self.room_for_streams = bytes;
    }

    /// Bytes that a subject may take for what passes have in common.
    pub(crate) fn room_for_streams(&self) -> u64 {
        self.room_for_streams
    }

    /// Sizes and options.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Leaves the weights in these files.
    pub(crate) fn read_from(&mut self, stock: Stock) {
        self.stock = Some(Arc::new(stock));
    }

    /// Where weights are read from, if they are not in memory.
    pub(crate) fn stock(&self) -> Option<&Stock> {
        self.stock.as_deref()
    }

    /// The same, to be changed.
    pub(crate) fn stock_mut(&mut self) -> Option<&mut Arc<Stock>> {
        self.stock.as_mut()
    }

    /// Whether weights are read from their files as they are needed, and freed after use.
    pub fn is_streamed(&self) -> bool {
        self.stock.is_some()
    }

    /// Every tensor; none of a [streamed](Model::is_streamed) model. The place of a parameter here is its `ParameterId` on a tape.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Every tensor, to be changed in place. A shape must stay as it is.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    /// What is added to the scores of each expert for the choice alone: `[expert]`; none where nothing is added.
    pub fn selection_bias(&self, layer: usize) -> Option<&[f32]> {
        self.selection_bias.get(layer)?.as_deref()
    }

    /// Sets the selection bias of a layer, as loss-free balancing does (Wang et al. 2024, arXiv 2408.15664).
    ///
    /// # Panics
    /// When the layer is not routed by scores, or the bias is not one number for each expert.
    pub fn set_selection_bias(&mut self, layer: usize, bias: Vec<f32>) {
        let routed = self.description.feed_forward[layer].routed();
        let experts = routed.filter(|r| r.router.kind.scores()).map(|r| r.experts);
        assert_eq!(experts, Some(bias.len()), "a selection bias has one entry for each scored expert");
        self.selection_bias[layer] = Some(bias);
    }

    /// Which parameter is which.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Rotary tables for a pass of this many positions; none where positions do not turn.
    pub(crate) fn rotary(&self, positions: usize) -> Option<Rotary> {
        let turning = self.description.variation.turning()?;
        match &self.rotary {
            Some(kept) if positions <= kept.max_positions() => Some(kept.clone()),
            _ => Some(tables(&self.description, turning, positions)),
        }
    }
}

/// Rotary tables for passes of up to this many positions, or of exactly so many where the length matters.
fn tables(description: &Description, turning: &Turning, positions: usize) -> Rotary {
    let latent = description.variation.attention.latent.as_ref();
    let head = latent.map_or(description.head_dim, |latent| latent.turned_dim);
    if turning.dimensions.is_none() && turning.scaling == Scaling::None {
        return Rotary::new(head, description.rope_theta, positions);
    }
    let dimensions = turning.dimensions.unwrap_or(head);
    let (frequencies, magnitude) = turning.scaling.frequencies(dimensions, description.rope_theta, positions);
    Rotary::from_frequencies(&frequencies, magnitude, positions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::Router;
    use crate::testing;

    #[test]
    fn the_same_seed_gives_the_same_bits_and_another_gives_others() {
        let description = testing::routed_description(Router::learned(true));
        let model = |seed| Model::initialise(description.clone(), Seed(seed)).unwrap();
        assert_eq!(model(1).parameters(), model(1).parameters());
        assert_ne!(model(1).parameters(), model(2).parameters());
    }

    #[test]
    fn only_norms_escape_decay_and_only_frozen_routers_escape_training() {
        use crate::description::RouterKind;
        let frozen = Router { kind: RouterKind::Frozen, ..Router::learned(true) };
        let model = Model::initialise(testing::routed_description(frozen), Seed(1)).unwrap();
        for parameter in model.parameters() {
            assert_eq!(parameter.decay, !parameter.name.contains("norm"), "{}", parameter.name);
            assert_eq!(parameter.trained, !parameter.name.ends_with("mlp.gate.weight"), "{}", parameter.name);
        }
    }
}
