//! What instruments need beside the model: the values that they look at, and the memory that they take.
//!
//! One pass holds what all of the chosen instruments look at, which is more than any of them does: the bound is honest for `all`, and
//! a single instrument asks for its own share alone.

use moescope_analysis::instrument::{Instrument, Reads};
use moescope_analysis::{sparse_dictionary, specialisation};
use moescope_base::{FeedForwardShape, HookPoint, Site, SubjectShape};
use moescope_trace::routing_points;

use super::Outcome;

/// Tokens of which an instrument keeps the residual stream, at most.
const STREAM_TOKENS: usize = 5_000;

/// Values that instruments look at in one pass, taken together: more than any of them does.
pub(super) fn looked_at(instruments: &[&'static dyn Instrument], shape: &SubjectShape) -> Vec<HookPoint> {
    let mut points = routing_points(shape);
    points.push(HookPoint::global(Site::Logits));
    let asked = |name: &str| instruments.iter().any(|instrument| instrument.about().name == name);
    let attention: &[Site] = if asked("induction") { &[Site::AttnPattern, Site::AttnZ] } else { &[] };
    let sites = [&[Site::ResidPost], attention].concat();
    points.extend((0..shape.layers()).flat_map(|l| sites.iter().map(move |site| HookPoint::block(*site, l))));
    points.extend(asked("specialisation").then(|| HookPoint::global(Site::Embed)));
    if asked("predictability") {
        points.extend(shape.routed_layers().into_iter().map(|l| HookPoint::block(Site::RouterIn, l)));
    }
    if asked("expert-profile") || asked("expert-prune") {
        let answers = |point: &HookPoint| {
            point.site() == Site::ExpertOutWeighted && point.layer() == shape.routed_layers().first().copied()
        };
        points.extend(shape.hook_points().into_iter().filter(answers));
    }
    if asked("specialisation") || asked("expert-weights") {
        let first = shape.routed_layers().first().copied();
        let answers = |point: &HookPoint| point.site() == Site::ExpertOut && point.layer() == first;
        points.extend(shape.hook_points().into_iter().filter(answers));
    }
    if asked("path-patch") {
        points.extend(moescope_analysis::path_patch::looked_at(shape));
    }
    if asked("causal-trace") {
        points.extend(moescope_analysis::causal_trace::looked_at(shape));
    }
    if asked("activation-patch") {
        points.extend(moescope_analysis::activation_patch::looked_at(shape));
    }
    if asked("dictionary") || asked("spectrum") {
        points.extend(sparse_dictionary::looked_at(shape));
    }
    if asked("expert-representation") || asked("expert-alignment") {
        points.extend(moescope_analysis::expert_representation::looked_at(shape));
    }
    if asked("sparse-probe") || asked("expert-prune") || asked("superposition") {
        points.extend(widest_neurons(shape));
    }
    if asked("ablation") {
        points.extend(moescope_analysis::ablation::looked_at(shape));
    }
    if asked("neuron-profile") {
        points.extend(moescope_analysis::neuron_profile::looked_at(shape));
    }
    points
}

/// Instruments that put other weights in the place of the model's.
const REPLACING: [&str; 3] = ["expert-merge", "expert-prune", "quantised-experts"];

/// Instruments that read the model with its numbers in another order, too, if there is room.
const SCRAMBLING: [&str; 3] = ["dictionary", "neuron-profile", "superposition"];

/// Bytes that stand beside the model while instruments have other weights in the place of its own: at most all matrices of the experts, and of
/// attention and routers where these are rounded.
pub(super) fn replaced(instruments: &[&'static dyn Instrument], shape: &SubjectShape) -> u64 {
    let asked = |names: &[&str]| instruments.iter().any(|i| names.contains(&i.about().name));
    let experts = |layer: &FeedForwardShape| match layer {
        FeedForwardShape::Dense { .. } => 0,
        FeedForwardShape::Routed { experts, expert_width, .. } => 3 * experts * expert_width * shape.d_model,
    };
    let attention =
        |_: &FeedForwardShape| 5 * shape.d_model * shape.d_model.max(shape.heads * shape.head_dim);
    let of = |layer: &dyn Fn(&FeedForwardShape) -> usize| {
        shape.feed_forward.iter().map(layer).sum::<usize>() as u64
    };
    let experts = if asked(&REPLACING) { of(&experts) } else { 0 };
    let attention = if asked(&["quantised-experts"]) { of(&attention) } else { 0 };
    4 * (experts + attention)
}

/// Bytes that stand beside the model while instruments run it with the numbers of its matrices in another order: about all matrices of its blocks,
/// and three copies of the largest while it is exchanged.
pub(super) fn scrambled(instruments: &[&'static dyn Instrument], shape: &SubjectShape) -> u64 {
    let asked = |instrument: &&'static dyn Instrument| SCRAMBLING.contains(&instrument.about().name);
    if !instruments.iter().any(asked) {
        return 0;
    }
    let neurons = |layer: &FeedForwardShape| match layer {
        FeedForwardShape::Dense { width } => *width,
        // A shared expert, if there is one, is seldom wider than those that a token chooses together.
        FeedForwardShape::Routed { experts, per_token, expert_width } => (experts + per_token) * expert_width,
    };
    let attention = shape.d_model * shape.d_model.max(shape.heads * shape.head_dim);
    let matrices = |layer: &FeedForwardShape| 3 * neurons(layer) * shape.d_model + 5 * attention;
    let widest = |layer: &FeedForwardShape| match layer {
        FeedForwardShape::Dense { width } => *width,
        FeedForwardShape::Routed { per_token, expert_width, .. } => per_token * expert_width,
    };
    let largest = shape.feed_forward.iter().map(widest).max().unwrap_or(0) * shape.d_model;
    4 * (shape.feed_forward.iter().map(matrices).sum::<usize>() + 3 * largest.max(attention)) as u64
}

/// Takes out the instruments whose weights have no room beside the model, and says so.
pub(super) fn without_room(instruments: &mut Vec<&'static dyn Instrument>, bytes: u64) -> Vec<Outcome> {
    let bytes = moescope_host::bytes_in_words(bytes as f64);
    let reason =
        format!("other weights in the place of the model's take {bytes} beside it; give more --max-memory");
    let (out, left): (Vec<_>, Vec<_>) =
        instruments.drain(..).partition(|instrument| REPLACING.contains(&instrument.about().name));
    *instruments = left;
    out.into_iter().map(|i| Outcome { about: i.about(), found: Err(reason.clone()) }).collect()
}

/// The neurons of the layer that has most for each token: they are looked at layer by layer.
fn widest_neurons(shape: &SubjectShape) -> Vec<HookPoint> {
    let width = |layer: &usize| match &shape.feed_forward[*layer] {
        FeedForwardShape::Dense { width } => *width,
        FeedForwardShape::Routed { per_token, expert_width, .. } => per_token * expert_width,
    };
    let widest = (0..shape.layers()).max_by_key(width);
    let neuron = |site: Site| matches!(site, Site::MlpPost | Site::ExpertPost | Site::SharedPost);
    shape.hook_points().into_iter().filter(|p| neuron(p.site()) && p.layer() == widest).collect()
}

/// Bytes that instruments keep of so many tokens: the routes, the residual stream of a sample in `f64`, twice, the neurons of a layer
/// that are profiled, the unembedding for lenses that are trained, the directions of promoted tokens, and, twice, what is predicted after every token and the
/// clusters of what the routers read.
///
/// Of a long text the routes of the excerpts, of which the longer has `excerpt` tokens, stand beside those of all of it, and neurons are those of the
/// excerpt alone: see [`Reads`].
pub(super) fn kept(
    instruments: &[&'static dyn Instrument],
    shape: &SubjectShape,
    (tokens, positions): (usize, usize),
    excerpt: usize,
) -> u64 {
    let [excerpt, short] =
        [Reads::Excerpt, Reads::ShortExcerpt].map(|reads| reads.at_most(excerpt, tokens, positions));
    let stream = 16 * (shape.layers() * shape.d_model * tokens.min(STREAM_TOKENS)) as u64;
    let asked = |name: &str| instruments.iter().any(|instrument| instrument.about().name == name);
    let neurons = if asked("neuron-profile") { moescope_analysis::neuron_profile::kept(excerpt) } else { 0 };
    let unembedding = if asked("tuned-lens") { 4 * (shape.vocab * shape.d_model) as u64 } else { 0 };
    let promoted = if asked("specialisation") { specialisation::kept(shape.vocab) } else { 0 };
    let sorted = if asked("predictability") { 8 * (tokens * shape.routed_layers().len()) as u64 } else { 0 };
    let predicted = if asked("specialisation") || asked("path-profile") { 40 * tokens as u64 } else { 0 };
    let learned = if asked("dictionary") { sparse_dictionary::kept(shape.d_model, tokens) } else { 0 };
    let aligned =
        if asked("expert-alignment") { moescope_analysis::model_comparison::kept(shape) } else { 0 };
    let routes = |tokens| super::super::routing::kept(shape, tokens);
    let routes =
        routes(tokens) + [excerpt, short].into_iter().filter(|read| *read < tokens).map(routes).sum::<u64>();
    routes + stream + neurons + unembedding + promoted + sorted + predicted + learned + aligned
}
