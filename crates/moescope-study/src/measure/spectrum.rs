//! How many dimensions routed layers and single experts write to.

use moescope_analysis::spectrum::spectrum;
use moescope_base::{FeedForwardShape, HookPoint, Request, Seed, Site, Subject};

use crate::StudyError;
use crate::dataset::Pass;
use crate::results::mean;

/// Rows from which every spectrum of a layer is computed: ranks compare at an equal number of rows only.
const LAYER_ROWS: usize = 1024;
/// Rows from which the spectrum of one expert is computed; experts with fewer tokens are left out.
const EXPERT_ROWS: usize = 128;

/// How many dimensions a layer and its experts write to; units and limits as in [`super::LayerMeasure`].
pub(crate) struct LayerSpectrum {
    pub(crate) layer_rank: f64,
    pub(crate) layer_participation: f64,
    /// Mean over the experts with enough tokens; NaN if none has.
    pub(crate) expert_rank: f64,
    /// The same as a share of the most that an expert of this width could have.
    pub(crate) expert_rank_share: f64,
}

/// Outputs of one routed layer, gathered over passes: `layer[token, dimension]`, and for each expert `[token of the
/// expert, dimension]`, as it writes before weighting by the router. All flat.
struct Outputs {
    layer: Vec<f32>,
    experts: Vec<Vec<f32>>,
}

/// Spectra of every routed layer, in order of depth.
///
/// The outputs of all passes are held at once, as f32: tokens × width × (1 + chosen experts) for each routed layer.
pub(crate) fn spectra(
    subject: &mut dyn Subject,
    passes: &[Pass],
    seed: Seed,
) -> Result<Vec<LayerSpectrum>, StudyError> {
    let shape = subject.shape().clone();
    let layers = shape.routed_layers();
    let experts_of = |layer: usize| match shape.feed_forward[layer] {
        FeedForwardShape::Routed { experts, .. } => experts,
        FeedForwardShape::Dense { .. } => 0,
    };
    let mut outputs: Vec<Outputs> = layers
        .iter()
        .map(|layer| Outputs { layer: Vec::new(), experts: vec![Vec::new(); experts_of(*layer)] })
        .collect();
    let mut points = Vec::new();
    for layer in &layers {
        points.push(HookPoint::block(Site::MlpOut, *layer));
        points
            .extend((0..experts_of(*layer)).map(|expert| HookPoint::expert(Site::ExpertOut, *layer, expert)));
    }
    for pass in passes {
        let seen = subject.run(&Request { record: &points, ..Request::of(&pass.tokens) })?;
        for (layer, outputs) in layers.iter().zip(&mut outputs) {
            let real = |point: HookPoint| seen.values[&point].real().expect("outputs are real");
            outputs.layer.extend(real(HookPoint::block(Site::MlpOut, *layer)));
            for (expert, rows) in outputs.experts.iter_mut().enumerate() {
                rows.extend(real(HookPoint::expert(Site::ExpertOut, *layer, expert)));
            }
        }
    }
    let width_of = |layer: usize| match shape.feed_forward[layer] {
        FeedForwardShape::Routed { expert_width, .. } => expert_width,
        FeedForwardShape::Dense { width } => width,
    };
    let pairs = outputs.iter().zip(&layers);
    pairs.map(|(outputs, layer)| layer_spectrum(outputs, shape.d_model, width_of(*layer), seed)).collect()
}

/// Spectra of one layer from seeded samples of its rows. All experts are seen through equally many rows, since
/// effective rank grows with the number of rows.
fn layer_spectrum(
    outputs: &Outputs,
    d_model: usize,
    expert_width: usize,
    seed: Seed,
) -> Result<LayerSpectrum, StudyError> {
    let rows = (outputs.layer.len() / d_model).min(LAYER_ROWS);
    let layer = spectrum(&outputs.layer, d_model, rows, seed.child("layer rows"))?;
    let mut ranks = Vec::new();
    for (expert, rows) in outputs.experts.iter().enumerate() {
        if rows.len() >= EXPERT_ROWS * d_model {
            let seed = seed.child("expert rows").index(expert as u64);
            ranks.push(spectrum(rows, d_model, EXPERT_ROWS, seed)?.effective_rank);
        }
    }
    Ok(LayerSpectrum {
        layer_rank: layer.effective_rank,
        layer_participation: layer.participation_ratio,
        expert_rank: mean(&ranks),
        // A matrix of `expert_width` columns cannot write to more dimensions than that.
        expert_rank_share: mean(&ranks) / expert_width.min(d_model) as f64,
    })
}
