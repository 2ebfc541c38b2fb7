//! How alike two models are, measured on the same validation tokens.
//!
//! A similarity means nothing by itself: two networks that learned the same text agree to some degree whatever they
//! are. So each comparison has a ceiling (two wide models that differ in the seed only) and a floor (an untrained
//! one), and every partner is a model of *another* seed, so that none has the advantage of a shared beginning.

use moescope_analysis::matrix::Features;
use moescope_analysis::similarity::cka;
use moescope_analysis::statistics::pearson;
use moescope_base::{HookPoint, Request, Site, Subject};
use serde::{Deserialize, Serialize};

use crate::dataset::Pass;
use crate::{StudyConfig, StudyError};

/// Comparisons of models for one seed, each with the wide model of the next seed (`wide′`; the last seed takes the
/// first).
///
/// The pairs of a study form a ring, so each `wide′` serves one seed only; still, the wide model of a seed appears in
/// two comparisons, and the values of different seeds are not strictly independent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The primary MoE with `wide′`.
    pub moe_wide: Pair,
    /// The wide model with `wide′`: the ceiling, what two models that differ in nothing but the seed have in common.
    pub wide_wide: Pair,
    /// The primary MoE with an untrained wide model: the floor, what architecture and input alone have in common.
    pub moe_untrained: Pair,
    /// The unrouted sparse model with `wide′`: separates sparsity from routing.
    pub topk_wide: Pair,
    /// The dense model of the active width with `wide′`.
    pub dense_wide: Pair,
}

/// How alike two models are, in what they represent and in what they find hard.
///
/// - **Does not show:** whether they compute it in the same way. CKA is dominated by the directions of large
///   variance, and losses correlate because some tokens are hard for every model: read both against ceiling and
///   floor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// `similarity[layer]`: unbiased linear CKA of the residual streams after each block, 1 for equal up to rotation
    /// and scale, about 0 for unrelated; it may fall a little below 0. Source: Kornblith et al. 2019, with the
    /// unbiased estimator of HSIC, so that few tokens do not look like similarity.
    pub similarity: Vec<f64>,
    /// Pearson correlation of the next-token losses over all validation tokens, −1 to 1.
    pub loss_correlation: f64,
}

impl Pair {
    /// Similarity after the last block, where the representation is nearest to the prediction. Panics for a model
    /// without blocks, which no configuration describes.
    pub fn last_similarity(&self) -> f64 {
        *self.similarity.last().expect("a model has blocks")
    }
}

/// What a comparison needs to know about a model: its view of the same tokens.
pub(crate) struct View {
    /// `streams[layer]`: residual streams after each block, `[sampled token, dimension]`; the sample is the same for
    /// every model.
    streams: Vec<Features>,
    /// Next-token losses in nats, one for each predicted token of all passes in order.
    losses: Vec<f64>,
}

impl View {
    /// Looks at the validation passes: losses at every token, residual streams at evenly spread ones.
    ///
    /// Only about `instruments.probe_tokens` rows are kept for each layer, so that the cost of CKA and the memory of
    /// a view follow the sample, not the text.
    ///
    /// # Errors
    /// If the model cannot answer, or the streams make no matrix.
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
    /// Both must come from the same passes and configuration, so that rows and losses belong to the same tokens;
    /// depths must agree.
    ///
    /// # Errors
    /// If there are fewer than four sampled tokens, the numbers of tokens differ, or a representation or a loss does
    /// not vary.
    pub(crate) fn compare(&self, other: &View) -> Result<Pair, StudyError> {
        let pairs = self.streams.iter().zip(&other.streams);
        let similarity = pairs.map(|(a, b)| cka(a, b)).collect::<Result<Vec<f64>, _>>()?;
        let loss_correlation = pearson(&self.losses, &other.losses)?.coefficient;
        Ok(Pair { similarity, loss_correlation })
    }
}
