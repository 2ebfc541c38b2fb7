//! Causal rotary attention with shared key-value heads.

use moescope_base::{HookPoint, Site};
use moescope_engine::{AttentionLayout, Var};

use crate::ModelError;
use crate::forward::Run;

/// What attention adds to the residual stream, from its normalised input: `[token, model]` both.
pub(crate) fn attention(run: &mut Run<'_, '_, '_>, layer: usize, x: Var) -> Result<Var, ModelError> {
    let model = run.model;
    let (sizes, index) = (model.description(), model.layout().blocks[layer]);
    let layout = AttentionLayout {
        batch: run.tokens.batch(),
        positions: run.tokens.positions(),
        heads: sizes.heads,
        key_value_heads: sizes.key_value_heads,
        head_dim: sizes.head_dim,
    };
    let query = heads(run, x, index.query, index.query_norm, sizes.heads)?;
    let query = run.at(HookPoint::block(Site::AttnQ, layer), query)?; // [token, head * head_dim]
    let key = heads(run, x, index.key, index.key_norm, sizes.key_value_heads)?;
    let key = run.at(HookPoint::block(Site::AttnK, layer), key)?;
    let weight = run.weight(index.value);
    let value = run.tape.linear(x, weight)?;
    let value = run.at(HookPoint::block(Site::AttnV, layer), value)?;
    let pattern = run.tape.attention_pattern(query, key, layout)?; // [batch, head, query, key]
    let pattern = run.at(HookPoint::block(Site::AttnPattern, layer), pattern)?;
    let mixed = run.tape.attention_mix(pattern, value, layout)?;
    let mixed = run.at(HookPoint::block(Site::AttnZ, layer), mixed)?;
    let weight = run.weight(index.output);
    let output = run.tape.linear(mixed, weight)?;
    run.forget(&[query, key, value, pattern, mixed]);
    Ok(output)
}

/// Projects, normalises if the model does, and turns by position.
fn heads(
    run: &mut Run<'_, '_, '_>,
    x: Var,
    projection: usize,
    norm: Option<usize>,
    heads: usize,
) -> Result<Var, ModelError> {
    let weight = run.weight(projection);
    let mut projected = run.tape.linear(x, weight)?;
    let wide = run.model.layout().wide_qk_norm;
    if let Some(place) = norm.filter(|_| wide) {
        projected = run.norm(projected, place)?;
    }
    let norm = norm.filter(|_| !wide).map(|place| run.weight(place));
    let (epsilon, positions) = (run.epsilon(), run.tokens.positions());
    let turned = run.tape.head_norm_rotary(projected, norm, epsilon, &run.rotary, heads, positions)?;
    run.forget(&[projected]);
    Ok(turned)
}
