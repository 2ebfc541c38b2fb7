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
    /// Participation ratio of single experts, averaged likewise.
    pub(crate) expert_participation: f64,
    /// The same as a share of the most that an expert of this width could have.
    pub(crate) expert_participation_share: f64,
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
        let seen = subject.run(&Request::recording(&pass.tokens, &points))?;
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
    let (mut ranks, mut participations) = (Vec::new(), Vec::new());
    for (expert, rows) in outputs.experts.iter().enumerate() {
        if rows.len() >= EXPERT_ROWS * d_model {
            let seed = seed.child("expert rows").index(expert as u64);
            let expert = spectrum(rows, d_model, EXPERT_ROWS, seed)?;
            ranks.push(expert.effective_rank);
            participations.push(expert.participation_ratio);
        }
    }
    // A matrix of `expert_width` columns cannot write to more dimensions than that.
    let most = expert_width.min(d_model) as f64;
    Ok(LayerSpectrum {
        layer_rank: layer.effective_rank,
        layer_participation: layer.participation_ratio,
        expert_rank: mean(&ranks),
        expert_rank_share: mean(&ranks) / most,
        expert_participation: mean(&participations),
        expert_participation_share: mean(&participations) / most,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rows` outputs in four dimensions whose deviations are `sizes`, one dimension at a time with both signs: the
    /// eigenvalues of their covariance are the squares of the sizes, up to one factor.
    fn outputs(rows: usize, sizes: [f32; 4]) -> Vec<f32> {
        let row = |i: usize| {
            let sign = if (i / 4).is_multiple_of(2) { 1.0 } else { -1.0 };
            (0..4).map(move |d| if d == i % 4 { sign * sizes[d] } else { 0.0 })
        };
        (0..rows).flat_map(row).collect()
    }

    #[test]
    fn ranks_and_participation_of_experts_are_means_over_those_with_enough_tokens() {
        let experts = vec![
            outputs(EXPERT_ROWS, [2.0, 1.0, 0.0, 0.0]), // eigenvalues 4 : 1
            outputs(EXPERT_ROWS, [1.0, 1.0, 0.0, 0.0]), // eigenvalues 1 : 1
            outputs(EXPERT_ROWS - 4, [1.0; 4]),         // too few tokens
        ];
        let layer = Outputs { layer: outputs(EXPERT_ROWS, [1.0; 4]), experts };
        let found = layer_spectrum(&layer, 4, 2, Seed(1)).unwrap();
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-6, "{found}, not {wanted}");
        near(found.layer_rank, 4.0);
        near(found.layer_participation, 4.0);
        // (4 + 1)² / (16 + 1) of the first, 2 of the second; an expert of width 2 has at most 2.
        near(found.expert_participation, (25.0 / 17.0 + 2.0) / 2.0);
        near(found.expert_participation_share, (25.0 / 17.0 + 2.0) / 4.0);
        let entropy = -(0.8 * 0.8_f64.ln() + 0.2 * 0.2_f64.ln());
        near(found.expert_rank, (entropy.exp() + 2.0) / 2.0);
        near(found.expert_rank_share, (entropy.exp() + 2.0) / 4.0);
    }
}
