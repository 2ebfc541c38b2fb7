//! Causal attention with shared key-value heads.

use moescope_base::{HookPoint, Site};
use moescope_engine::{AttentionLayout, AttentionRule, AttentionShape, RotaryPairs, RotaryPart, Var};

use super::head_results;
use super::latent;
use super::query_experts::{self, Chosen};
use crate::ModelError;
use crate::description::Description;
use crate::forward::Run;
use crate::variation::{Pairs, Turning};

/// What attention adds to the residual stream, from its normalised input: `[token, model]` both.
pub(crate) fn attention(run: &mut Run<'_, '_, '_>, layer: usize, x: Var) -> Result<Var, ModelError> {
    let model = run.model;
    let (sizes, index) = (model.description(), model.layout().blocks[layer].attention);
    let options = &sizes.variation.attention;
    let mut layout = AttentionLayout {
        batch: run.tokens.batch(),
        positions: run.tokens.positions(),
        heads: sizes.heads,
        key_value_heads: sizes.key_value_heads,
        head_dim: sizes.head_dim,
    };
    let chosen = match (options.query_experts, index.router) {
        (Some(experts), Some(router)) => Some(query_experts::choose(run, layer, x, experts, router)?),
        _ => None,
    };
    let (query, mut key, mut value, value_dim) = match (&options.latent, index.latent) {
        (Some(latent), Some(from)) => latent::heads(run, layer, x, latent, from)?,
        _ => plain_heads(run, layer, x, chosen.as_ref())?,
    };
    if let Some(chosen) = &chosen {
        key = query_experts::repeated(run, key, chosen.plan.per_token())?;
        value = query_experts::repeated(run, value, chosen.plan.per_token())?;
        layout.key_value_heads = layout.heads;
    }
    let mixed = mixed(run, layer, (query, key, value), AttentionShape { layout, value_dim })?;
    let mixed = run.at(HookPoint::block(Site::AttnZ, layer), mixed)?;
    let output = match &chosen {
        None => {
            let output = run.linear(mixed, index.output)?;
            head_results::results(run, layer, mixed, index.output.weight, output)?
        }
        Some(chosen) => {
            let sum = query_experts::written(run, mixed, index.output.weight, chosen)?;
            run.biased(sum, index.output)?
        }
    };
    run.forget(&[query, key, value, mixed]);
    Ok(output)
}

/// Queries, keys and values read from the stream, `[token, head * head_dim]`, and the size of a value head.
fn plain_heads(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    chosen: Option<&Chosen>,
) -> Result<(Var, Var, Var, usize), ModelError> {
    let (model, index) = (run.model, run.model.layout().blocks[layer].attention);
    let sizes = model.description();
    let query = match chosen {
        None => run.linear(x, index.query)?,
        Some(chosen) => query_experts::queries(run, x, index.query.weight, chosen)?,
    };
    let query = heads(run, query, index.query_norm, sizes.heads)?;
    let query = run.at(HookPoint::block(Site::AttnQ, layer), query)?;
    let key = run.linear(x, index.key)?;
    let key = heads(run, key, index.key_norm, sizes.key_value_heads)?;
    let key = run.at(HookPoint::block(Site::AttnK, layer), key)?;
    let value = run.linear(x, index.value)?;
    let value = clipped(run, value)?;
    let value = run.at(HookPoint::block(Site::AttnV, layer), value)?;
    Ok((query, key, value, sizes.head_dim))
}

/// Normalises what was projected if the model does, and turns it by position if the model does.
fn heads(
    run: &mut Run<'_, '_, '_>,
    projected: Var,
    norm: Option<usize>,
    heads: usize,
) -> Result<Var, ModelError> {
    let mut projected = projected;
    let sizes = run.model.description();
    let wide = sizes.variation.attention.wide_qk_norm;
    let (epsilon, positions) = (run.epsilon(), run.tokens.positions());
    if let Some(place) = norm.filter(|_| wide) {
        projected = run.rms_norm(projected, place, epsilon)?;
    }
    projected = clipped(run, projected)?;
    let norm = norm.filter(|_| !wide).map(|place| run.weight(place)).transpose()?;
    let Some(rotary) = run.rotary.clone() else { return Ok(projected) };
    let turned = match sizes.variation.turning() {
        Some(Turning { dimensions: Some(_), pairs, .. })
        | Some(Turning { pairs: pairs @ Pairs::Neighbours, .. }) => {
            let part = part(*pairs, heads, sizes.head_dim, 0, positions);
            run.tape.rotary_part(projected, &rotary, part)?
        }
        _ => run.tape.head_norm_rotary(projected, norm, epsilon, &rotary, heads, positions)?,
    };
    run.forget(&[projected]);
    Ok(turned)
}

/// Cut at a limit, if the model does so.
fn clipped(run: &mut Run<'_, '_, '_>, x: Var) -> Result<Var, ModelError> {
    Ok(match run.model.description().variation.attention.clip {
        Some(limit) => run.tape.clamp(x, limit as f32)?,
        None => x,
    })
}

/// The turning part of each head, from coordinate `start` on.
pub(super) fn part(
    pairs: Pairs,
    heads: usize,
    head_dim: usize,
    start: usize,
    positions: usize,
) -> RotaryPart {
    let pairs = match pairs {
        Pairs::Halves => RotaryPairs::Halves,
        Pairs::Neighbours => RotaryPairs::Neighbours,
    };
    RotaryPart { heads, head_dim, start, pairs, positions }
}

/// Values mixed by who looks at whom, `[token, head * value_dim]`. Patterns are large: they are stored for those who look at them, and where
/// the rule is not the plain one, with the same bits.
fn mixed(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    (query, key, value): (Var, Var, Var),
    shape: AttentionShape,
) -> Result<Var, ModelError> {
    let (scores, pattern) =
        (HookPoint::block(Site::AttnScores, layer), HookPoint::block(Site::AttnPattern, layer));
    let (rule, plain) = rule(run.model.description(), layer, shape.layout);
    if plain && !run.meets(scores) && !run.meets(pattern) {
        return Ok(run.tape.attention(query, key, value, shape)?);
    }
    let found = if plain && !run.meets(scores) {
        run.tape.attention_pattern(query, key, shape.layout)?
    } else {
        by_rule(run, layer, query, key, rule)?
    };
    let found = run.at(pattern, found)?; // [batch, head, query, key]
    let mixed = run.tape.attention_mix(found, value, shape.values())?;
    run.forget(&[found]);
    Ok(mixed)
}

/// Scores, then their softmax: two operations for scale, cap, window and sinks, and for someone who looks at the scores.
fn by_rule(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    query: Var,
    key: Var,
    rule: AttentionRule,
) -> Result<Var, ModelError> {
    let sinks = run.model.layout().blocks[layer].attention.sinks;
    let sinks = sinks.map(|place| run.weight(place)).transpose()?;
    let scores = run.tape.attention_scores(query, key, rule)?;
    let scores = run.at(HookPoint::block(Site::AttnScores, layer), scores)?;
    let pattern = run.tape.sink_softmax(scores, sinks, rule)?;
    run.forget(&[scores]);
    Ok(pattern)
}

/// How queries meet keys in a block, and whether that is the plain way.
fn rule(sizes: &Description, layer: usize, layout: AttentionLayout) -> (AttentionRule, bool) {
    let attention = &sizes.variation.attention;
    let window = sizes.variation.window(layer);
    let usual = 1.0 / (sizes.head_dim as f32).sqrt();
    let scale = attention.scale.map_or(usual, |scale| scale as f32);
    let scale = if attention.scale_by_layer { scale / (layer + 1) as f32 } else { scale };
    let rule = AttentionRule { layout, scale, cap: attention.cap.map(|cap| cap as f32), window };
    (rule, scale == usual && rule.cap.is_none() && window.is_none() && !attention.sinks)
}
