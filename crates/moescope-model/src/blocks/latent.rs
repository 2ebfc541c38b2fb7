//! Queries, keys and values read from narrow latents.

use moescope_base::{HookPoint, Site};
use moescope_engine::Var;

use super::attention::part;
use crate::ModelError;
use crate::forward::Run;
use crate::parameters::{LatentIndex, Linear};
use crate::variation::{Latent, Pairs, Turning};

/// Queries and keys `[token, head * (plain + turned)]`, values `[token, head * value]`, and the size of a value head.
///
/// The turning part of a key is read from the stream and is the same for all heads.
pub(super) fn heads(
    run: &mut Run<'_, '_, '_>,
    layer: usize,
    x: Var,
    latent: &Latent,
    (from, turned): (LatentIndex, Linear),
) -> Result<(Var, Var, Var, usize), ModelError> {
    let model = run.model;
    let (sizes, index) = (model.description(), model.layout().blocks[layer].attention);
    let positions = run.tokens.positions();
    let rotary = run.rotary.clone().expect("a latent model turns by position");
    let pairs = sizes.variation.turning().map_or(Pairs::Halves, |turning: &Turning| turning.pairs);

    let query_input = match index.query_latent {
        Some(from) => narrow(run, x, from, latent)?,
        None => x,
    };
    let query = run.linear(query_input, index.query)?;
    let query_part = part(pairs, sizes.heads, sizes.head_dim, latent.plain_dim, positions);
    let query = run.tape.rotary_part(query, &rotary, query_part)?;
    let query = run.at(HookPoint::block(Site::AttnQ, layer), query)?;

    let narrowed = narrow(run, x, from, latent)?;
    let plain = run.linear(narrowed, index.key)?; // [token, head * plain]
    let shared = run.linear(x, turned)?; // [token, turned]
    let shared_part = part(pairs, 1, latent.turned_dim, 0, positions);
    let shared = run.tape.rotary_part(shared, &rotary, shared_part)?;
    let key = run.tape.join_heads(plain, shared, sizes.heads)?;
    let key = run.at(HookPoint::block(Site::AttnK, layer), key)?;

    let value = run.linear(narrowed, index.value)?;
    let value = run.at(HookPoint::block(Site::AttnV, layer), value)?;
    run.forget(&[plain, shared, narrowed]);
    Ok((query, key, value, latent.value_dim))
}

/// A normalised latent, `[token, rank]`.
fn narrow(run: &mut Run<'_, '_, '_>, x: Var, index: LatentIndex, latent: &Latent) -> Result<Var, ModelError> {
    let narrow = run.linear(x, index.down)?;
    run.rms_norm(narrow, index.norm, latent.norm_epsilon as f32)
}
