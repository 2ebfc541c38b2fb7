use moescope_base::{FeedForwardShape, HookPoint, Observation, Site, SubjectShape};

use crate::AnalysisError;
use crate::recorded::real;

/// Something that writes into the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The embedding of the token, and of its position where positions are learned.
    Embedding,
    /// A head.
    Head(usize, usize),
    /// What attention adds beyond its heads: a bias, or what a norm or a factor after it changes; all of attention where heads are not
    /// told apart.
    Attention(usize),
    /// A routed expert, weighted.
    Expert(usize, usize),
    /// What the feed-forward layer adds beyond routed experts: all of a dense layer, a shared expert, a bias, or what a norm or
    /// factor after it changes.
    FeedForward(usize),
}

impl Part {
    /// What it is, without its place.
    pub fn kind(self) -> &'static str {
        match self {
            Part::Embedding => "embedding",
            Part::Head(..) => "head",
            Part::Attention(_) => "attention, rest",
            Part::Expert(..) => "expert",
            Part::FeedForward(_) => "feed-forward, rest",
        }
    }

    /// Its name in tables.
    pub fn name(self) -> String {
        match self {
            Part::Embedding => "embedding".into(),
            Part::Head(layer, head) => format!("head {layer}:{head}"),
            Part::Attention(layer) => format!("attention {layer}, rest"),
            Part::Expert(layer, expert) => format!("expert {layer}:{expert}"),
            Part::FeedForward(layer) => format!("feed-forward {layer}, rest"),
        }
    }
}

/// What has to be recorded to tell the parts.
pub(super) fn points(shape: &SubjectShape) -> Vec<HookPoint> {
    let mut points = vec![HookPoint::global(Site::Embed)];
    points.extend(shape.options.learned_positions.then(|| HookPoint::global(Site::PosEmbed)));
    for (layer, feed_forward) in shape.feed_forward.iter().enumerate() {
        let mut sites = vec![Site::AttnOut, Site::MlpOut];
        sites.extend(shape.options.has(Site::AttnResult).then_some(Site::AttnResult));
        if let FeedForwardShape::Routed { experts, .. } = feed_forward {
            sites.extend([Site::RouterIndices, Site::RouterWeights]);
            points.extend((0..*experts).map(|expert| HookPoint::expert(Site::ExpertOut, layer, expert)));
        }
        points.extend(sites.into_iter().map(|site| HookPoint::block(site, layer)));
    }
    points.extend([Site::FinalScale, Site::Logits].map(HookPoint::global));
    points
}

/// Calls `tell(part, token, vector)` for everything that any part writes; `tokens` is their number. The vectors of a token sum to the
/// stream that enters the final norm.
pub(super) fn each_part(
    seen: &Observation,
    shape: &SubjectShape,
    tokens: usize,
    tell: &mut dyn FnMut(Part, usize, &[f32]),
) -> Result<(), AnalysisError> {
    let width = shape.d_model;
    let mut sites = vec![Site::Embed];
    sites.extend(shape.options.learned_positions.then_some(Site::PosEmbed));
    for site in sites {
        let values = real(seen, HookPoint::global(site))?;
        values.chunks_exact(width).enumerate().for_each(|(token, row)| tell(Part::Embedding, token, row));
    }
    for layer in 0..shape.layers() {
        attention(seen, shape, layer, tell)?;
        feed_forward(seen, shape, layer, tokens, tell)?;
    }
    Ok(())
}

fn attention(
    seen: &Observation,
    shape: &SubjectShape,
    layer: usize,
    tell: &mut dyn FnMut(Part, usize, &[f32]),
) -> Result<(), AnalysisError> {
    let (width, heads) = (shape.d_model, shape.heads);
    let mut rest = real(seen, HookPoint::block(Site::AttnOut, layer))?.to_vec();
    if shape.options.has(Site::AttnResult) {
        let results = real(seen, HookPoint::block(Site::AttnResult, layer))?; // [token, head, model]
        for (row, vector) in results.chunks_exact(width).enumerate() {
            let (token, head) = (row / heads, row % heads);
            tell(Part::Head(layer, head), token, vector);
            subtract(&mut rest[token * width..(token + 1) * width], vector);
        }
    }
    rest.chunks_exact(width).enumerate().for_each(|(token, row)| tell(Part::Attention(layer), token, row));
    Ok(())
}

fn feed_forward(
    seen: &Observation,
    shape: &SubjectShape,
    layer: usize,
    tokens: usize,
    tell: &mut dyn FnMut(Part, usize, &[f32]),
) -> Result<(), AnalysisError> {
    let width = shape.d_model;
    let mut rest = real(seen, HookPoint::block(Site::MlpOut, layer))?.to_vec();
    if let FeedForwardShape::Routed { experts, per_token, .. } = shape.feed_forward[layer] {
        let indices = HookPoint::block(Site::RouterIndices, layer);
        let chosen = seen.values.get(&indices).and_then(|value| value.integer());
        let chosen = chosen.ok_or(AnalysisError::NotRecorded { point: indices })?;
        let weights = real(seen, HookPoint::block(Site::RouterWeights, layer))?;
        debug_assert_eq!(chosen.len(), tokens * per_token);
        for expert in 0..experts {
            let point = HookPoint::expert(Site::ExpertOut, layer, expert);
            let value = seen.values.get(&point).ok_or(AnalysisError::NotRecorded { point })?;
            let rows = value.rows().ok_or(AnalysisError::NotRecorded { point })?;
            for (token, output) in rows.iter().zip(real(seen, point)?.chunks_exact(width)) {
                let token = *token as usize;
                let slots = token * per_token..(token + 1) * per_token;
                let slot = chosen[slots.clone()].iter().position(|other| *other == expert as i64);
                let weight = slot.map_or(0.0, |slot| weights[slots.start + slot]);
                let vector: Vec<f32> = output.iter().map(|x| weight * x).collect();
                tell(Part::Expert(layer, expert), token, &vector);
                subtract(&mut rest[token * width..(token + 1) * width], &vector);
            }
        }
    }
    rest.chunks_exact(width).enumerate().for_each(|(token, row)| tell(Part::FeedForward(layer), token, row));
    Ok(())
}

fn subtract(from: &mut [f32], vector: &[f32]) {
    from.iter_mut().zip(vector).for_each(|(from, x)| *from -= x);
}
