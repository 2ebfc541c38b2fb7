use moescope_analysis::matrix::Features;
use moescope_analysis::similarity::cka;
use moescope_analysis::statistics::pearson;
use moescope_base::{HookPoint, Request, Site, Subject};
use serde::{Deserialize, Serialize};

use crate::dataset::Pass;
use crate::{StudyConfig, StudyError};

/// Comparisons of models for one seed, each with the wide model of another seed (`wide′`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The primary MoE with `wide′`.
    pub moe_wide: Pair,
    /// The wide model with `wide′`: the ceiling.
    pub wide_wide: Pair,
    /// The primary MoE with an untrained wide model: the floor.
    pub moe_untrained: Pair,
    /// The unrouted sparse model with `wide′`.
    pub topk_wide: Pair,
    /// The dense model of the active width with `wide′`.
    pub dense_wide: Pair,
}

/// How alike two models are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Unbiased linear CKA of the residual streams after each block.
    pub similarity: Vec<f64>,
    /// Pearson correlation of the losses of single tokens.
    pub loss_correlation: f64,
}

impl Pair {
    /// Similarity after the last block.
    pub fn last_similarity(&self) -> f64 {
        *self.similarity.last().expect("a model has blocks")
    }
}

/// What a comparison needs to know about a model: its view of the same tokens.
pub(crate) struct View {
    /// Residual streams after each block, at the sampled tokens.
    streams: Vec<Features>,
    /// Next-token losses of all tokens.
    losses: Vec<f64>,
}

impl View {
    /// Looks at the validation passes: losses at every token, residual streams at evenly spread ones.
    pub(crate) fn of(
        subject: &mut dyn Subject,
        passes: &[Pass],
        config: &StudyConfig,
    ) -> Result<View, StudyError> {
        let (layers, width) = (subject.shape().layers(), subject.shape().d_model);
        let points: Vec<HookPoint> =
            (0..layers).map(|layer| HookPoint::block(Site::ResidPost, layer)).collect();
        let all: usize = passes.iter().map(|p| p.tokens.len()).sum();
        let stride = all.div_ceil(config.instruments.probe_tokens).max(1);
        let mut streams = vec![Vec::new(); layers];
        let mut losses = Vec::new();
        for pass in passes {
            let seen = subject.run(&Request { record: &points, ..Request::of(&pass.tokens) })?;
            for (stream, point) in streams.iter_mut().zip(&points) {
                let rows = seen.values[point].real().expect("a residual stream is real").chunks(width);
                stream.extend(rows.step_by(stride).flatten().copied());
            }
            losses.extend(seen.loss.iter().map(|loss| f64::from(*loss)));
        }
        let streams =
            streams.iter().map(|stream| Features::from_single(width, stream)).collect::<Result<_, _>>()?;
        Ok(View { streams, losses })
    }

    /// How alike two views of the same tokens are.
    pub(crate) fn compare(&self, other: &View) -> Result<Pair, StudyError> {
        let pairs = self.streams.iter().zip(&other.streams);
        let similarity = pairs.map(|(a, b)| cka(a, b)).collect::<Result<Vec<f64>, _>>()?;
        let loss_correlation = pearson(&self.losses, &other.losses)?.coefficient;
        Ok(Pair { similarity, loss_correlation })
    }
}
