//! The Jacobian lens: the average derivative of the final residual stream by that of a block, as a map that carries changes to the end; one for all tokens, one for each expert,
//! one for each path.

mod gives;
mod instrument;
mod passes;
mod subspace;
#[cfg(test)]
mod tests;
mod transport;

use moescope_base::{Seed, Subject};

pub use instrument::JacobianLens;

use crate::statistics::{Bootstrap, Resampling};
use crate::{AnalysisError, Sample, check};

const METHOD: &str = "Jacobian lens";

/// How derivatives are estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JacobianOptions {
    /// Blocks that are looked at, at most; evenly spaced where there are more.
    pub layers: usize,
    /// Principal directions of the stream along which it is moved, at most.
    pub directions: usize,
    /// Tokens of each sequence.
    pub rounds: usize,
    /// Shuffles of experts between tokens.
    pub shuffles: usize,
    /// Intervals over documents.
    pub resampling: Resampling,
    /// Source of the split, the tokens and the shuffles.
    pub seed: Seed,
}

/// How well an averaged Jacobian carries a change of the stream after one block to the end, on held-out documents.
///
/// The derivative is taken along the principal directions of the stream, by central differences through the model with all choices of
/// experts held, at single tokens of half of the documents. On the other half the part of a token's vector in these directions is
/// exchanged for another token's, and the true change of its final vector is held against what the averaged derivative says.
///
/// - **Unit and range:** cosines from −1 to 1, 1 where the direction of the change is told exactly. Gains are differences of cosines of the
///   same tokens. Intervals resample documents.
/// - **Null:** of `cosine` the change itself, as if no block came after (what the logit lens assumes); of a gain by expert or by path 0: the other
///   side of the difference are averages by expert with experts shuffled between tokens, and averages by path with the second expert shuffled
///   between tokens that share the first.
/// - **Does not show:** the length of the change, changes outside these directions, nor what happens at other tokens. Against `cosine_free`
///   the true change may flip routes on its way, which no derivative sees.
/// - **Source:** linear short cuts and averaged Jacobians of transformers, Hernandez et al. 2023 (arXiv 2308.09124) and Din et al. 2023
///   (arXiv 2303.09435), here with averages by the chosen expert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transport {
    /// After this block.
    pub layer: usize,
    /// Directions along which the stream was moved.
    pub directions: usize,
    /// Share of the variance of the stream in these directions.
    pub variance: f64,
    /// Cosine of prediction and true change with routes held.
    pub cosine: Bootstrap,
    /// Cosine of the change itself and the true change.
    pub identity: f64,
    /// `cosine` minus that, on the same tokens.
    pub gain: Bootstrap,
    /// Cosine of prediction and true change with routes free.
    pub cosine_free: Bootstrap,
    /// Share of changes that flip a route of their token.
    pub flips: f64,
    /// What averages by the expert with the largest weight in the next routed layer add; none without one above.
    pub by_expert: Option<Given>,
    /// What averages by the path, that expert and the same of the routed layer after it, add to those by the expert; none without two above.
    pub by_path: Option<Given>,
}

/// Averages over the tokens that are routed alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given {
    /// Cosine with these averages, minus the mean of those with shuffled experts.
    pub gain: Bootstrap,
    /// Share of shuffles, the true order included, that carry changes as well.
    pub p: f64,
}

/// Carries changes of the stream after several blocks to the end.
///
/// # Errors
/// If the subject has one block or cannot answer, no batch has two sequences, or there are fewer than four documents.
pub fn jacobian_lens(
    subject: &mut dyn Subject,
    samples: &[Sample],
    options: JacobianOptions,
) -> Result<Vec<Transport>, AnalysisError> {
    let all = subject.shape().layers();
    check::at_least(METHOD, "blocks", all, 2)?;
    check::at_least(METHOD, "directions", options.directions, 1)?;
    check::at_least(METHOD, "shuffles", options.shuffles, 1)?;
    let samples: Vec<&Sample> = samples.iter().filter(|sample| sample.tokens().batch() > 1).collect();
    check::at_least(METHOD, "batches of several sequences", samples.len(), 1)?;
    let count = (all - 1).min(options.layers.max(1));
    let layers = (0..count).map(|at| at * (all - 1) / count);
    layers.map(|layer| passes::moved(subject, &samples, layer, options)?.transport(layer, options)).collect()
}
