//! The parts of a model that are taken out.

use std::fmt;

use moescope_base::{FeedForwardShape, HookPoint, Site, SubjectShape};
use moescope_trace::LayerRouting;
use rand::seq::SliceRandom;

use super::{BANKS, EXPERTS, HEADS, LAYERS, NEURONS};
use crate::AnalysisError;
use crate::depth::spread_over;
use crate::instrument::Material;
use crate::neuron_profile::largest_writers;

/// A part of the model, and where its value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Component {
    /// One attention head of a layer.
    Head { layer: usize, head: usize },
    /// What the attention of a layer adds, all heads together.
    Attention { layer: usize },
    /// What a feed-forward layer adds, all experts together.
    FeedForward { layer: usize },
    /// What one expert answers.
    Expert { layer: usize, expert: usize },
    /// One neuron of a dense layer, an expert, or a shared expert.
    Neuron { at: HookPoint, neuron: usize },
}

impl Component {
    /// What it is one of.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Component::Head { .. } => "head",
            Component::Attention { .. } => "attention",
            Component::FeedForward { .. } => "feed-forward",
            Component::Expert { .. } => "expert",
            Component::Neuron { .. } => "neuron",
        }
    }

    /// Where its value stands.
    pub(super) fn at(self) -> HookPoint {
        match self {
            Component::Head { layer, .. } => HookPoint::block(Site::AttnZ, layer),
            Component::Attention { layer } => HookPoint::block(Site::AttnOut, layer),
            Component::FeedForward { layer } => HookPoint::block(Site::MlpOut, layer),
            Component::Expert { layer, expert } => HookPoint::expert(Site::ExpertOut, layer, expert),
            Component::Neuron { at, .. } => at,
        }
    }

    /// Columns of that value that are its own, of so many.
    pub(super) fn columns(self, all: usize, heads: usize) -> std::ops::Range<usize> {
        match self {
            Component::Head { head, .. } => head * (all / heads)..(head + 1) * (all / heads),
            Component::Neuron { neuron, .. } => neuron..neuron + 1,
            Component::Attention { .. } | Component::FeedForward { .. } | Component::Expert { .. } => 0..all,
        }
    }

    /// Its layer and number there; attention and feed-forward layers have none.
    pub(super) fn place(self) -> (usize, Option<usize>) {
        match self {
            Component::Head { layer, head } => (layer, Some(head)),
            Component::Attention { layer } | Component::FeedForward { layer } => (layer, None),
            Component::Expert { layer, expert } => (layer, Some(expert)),
            Component::Neuron { at, neuron } => (at.layer().unwrap_or(0), Some(neuron)),
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Component::Head { layer, head } => write!(f, "head {layer}.{head}"),
            Component::Attention { layer } => write!(f, "attention {layer}"),
            Component::FeedForward { layer } => write!(f, "feed-forward {layer}"),
            Component::Expert { layer, expert } => write!(f, "expert {layer}:{expert}"),
            Component::Neuron { at, neuron } => match (at.layer().unwrap_or(0), at.expert_index()) {
                (layer, Some(expert)) => write!(f, "neuron {neuron} of expert {layer}:{expert}"),
                (layer, None) => write!(f, "neuron {neuron} of layer {layer}"),
            },
        }
    }
}

/// The components that are looked at.
///
/// Heads are drawn at random where there are more than 32; where attention weights experts, heads are left out. Experts are those that most
/// tokens choose, as many of each layer. Neurons are those that write most, of the bank of a layer that writes most.
///
/// # Errors
/// If the subject cannot answer.
pub(super) fn components(material: &mut Material<'_>) -> Result<Vec<Component>, AnalysisError> {
    let shape = material.subject.shape().clone();
    let mut found = heads(&shape, material);
    found.extend(spread_over(shape.layers(), LAYERS).map(|layer| Component::Attention { layer }));
    found.extend(spread_over(shape.layers(), LAYERS).map(|layer| Component::FeedForward { layer }));
    found.extend(experts(&shape, material)?);
    for layer in spread_over(shape.layers(), BANKS) {
        let writers = largest_writers(material, layer, NEURONS)?;
        found.extend(writers.into_iter().map(|(at, neuron)| Component::Neuron { at, neuron }));
    }
    Ok(found)
}

fn heads(shape: &SubjectShape, material: &Material<'_>) -> Vec<Component> {
    if !shape.options.has(Site::AttnResult) {
        return Vec::new();
    }
    let of = |layer: usize| (0..shape.heads).map(move |head| Component::Head { layer, head });
    let mut heads: Vec<Component> = (0..shape.layers()).flat_map(of).collect();
    heads.shuffle(&mut material.seed.child("heads of ablation").rng());
    heads.truncate(HEADS);
    heads.sort_unstable();
    heads
}

fn experts(shape: &SubjectShape, material: &mut Material<'_>) -> Result<Vec<Component>, AnalysisError> {
    let routed = shape.routed_layers();
    if routed.is_empty() {
        return Ok(Vec::new());
    }
    let each = (EXPERTS / routed.len()).max(1);
    let looked_at: Vec<usize> = spread_over(routed.len(), EXPERTS).map(|at| routed[at]).collect();
    let mut found = Vec::new();
    for layer in material.routes()?.layers().iter().filter(|layer| looked_at.contains(&layer.layer)) {
        let mut order = by_use(layer);
        order.truncate(each);
        order.sort_unstable();
        found.extend(order.into_iter().map(|expert| Component::Expert { layer: layer.layer, expert }));
    }
    Ok(found)
}

/// Experts that a token chooses, those with the most tokens first.
pub(super) fn by_use(layer: &LayerRouting) -> Vec<usize> {
    let mut tokens = vec![0_usize; layer.experts];
    layer.choices.iter().for_each(|expert| tokens[*expert as usize] += 1);
    let mut order: Vec<usize> = (0..layer.experts).filter(|expert| tokens[*expert] > 0).collect();
    order.sort_by_key(|expert| (std::cmp::Reverse(tokens[*expert]), *expert));
    order
}

/// Whether weights of the other experts of a token can be made to sum to what they did: where a token has others.
pub(super) fn renormalises(component: Component, shape: &SubjectShape) -> bool {
    let Component::Expert { layer, .. } = component else { return false };
    matches!(shape.feed_forward[layer], FeedForwardShape::Routed { per_token, .. } if per_token > 1)
}
