//! The tuned lens: an affine translator after each block, trained to predict what the model predicts in the end.

mod gives;
mod instrument;
mod measure;
mod readout;
#[cfg(test)]
mod tests;
mod told;
mod train;
mod translator;

use moescope_base::Seed;

pub use instrument::TunedLens;
pub use measure::tuned_lens;

use crate::statistics::{Bootstrap, Resampling};

const METHOD: &str = "tuned lens";

/// How lenses are trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TunedLensOptions {
    /// Tokens that lenses are trained and tested on, at most.
    pub tokens: usize,
    /// Blocks that get a lens, at most; evenly spaced where there are more.
    pub layers: usize,
    /// Rank of each expert's correction.
    pub rank: usize,
    /// Corrections trained on shuffled routes, behind the null.
    pub shuffles: usize,
    /// Intervals over documents.
    pub resampling: Resampling,
    /// Source of the split, the batches and the shuffles.
    pub seed: Seed,
}

/// The lenses after one block, on documents that none of them has seen.
///
/// The translator is `h + A h + b`, with `A` and `b` zero at first, so that training begins at the logit lens; it minimises the divergence of the
/// model's final prediction from the lens', and stops where documents set aside say so. The conditioned lenses add to it a vector and a map of low
/// rank: one for the expert that has the largest weight in this block, the other for the path so far, which is that expert and the one before.
///
/// - **Unit and range:** divergences are in nats per token, 0 or more; gains are differences of divergences of the same tokens, above 0
///   where the second lens is nearer. Intervals resample the documents that were held out.
/// - **Null:** of the divergences that of one constant prediction, the mean over the training tokens; of `gain` 0; of `conditioned_gain` 0: the
///   other side of the difference is the same lens, with as many parameters, trained and tested on routes shuffled between tokens; of the lens
///   by path, with the expert before shuffled between tokens of the same expert, so that it has to tell something beyond that one.
/// - **Does not show:** that the model uses what the lens reads: a translator may compute what later blocks would. With few training
///   tokens a lens is stopped early and stays near the logit lens; the gain is then a lower limit.
/// - **Source:** Belrose et al. 2023 (arXiv 2303.08112).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerLenses {
    /// After this block.
    pub layer: usize,
    /// Divergence under the logit lens.
    pub logit: Bootstrap,
    /// Divergence under the tuned lens.
    pub tuned: Bootstrap,
    /// Divergence of the constant prediction.
    pub constant: f64,
    /// Logit minus tuned.
    pub gain: Bootstrap,
    /// The lens by expert; none after a block that is not routed.
    pub conditioned: Option<Conditioned>,
    /// The lens by path so far; none after a block without a routed one before it.
    pub by_path: Option<Conditioned>,
}

/// A lens that knows which expert has the largest weight, or the path so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditioned {
    /// Divergence under it.
    pub divergence: Bootstrap,
    /// The same with shuffled routes: the best of the shuffles.
    pub shuffled: f64,
    /// Shuffled minus conditioned, on the same tokens.
    pub gain: Bootstrap,
}

/// What the lenses say, and on what.
#[derive(Clone, Debug, PartialEq)]
pub struct TunedLenses {
    /// One entry for each block that got a lens, in order.
    pub layers: Vec<LayerLenses>,
    /// Training tokens.
    pub trained: usize,
    /// Held-out tokens.
    pub tested: usize,
}
