//! Path patching from expert to expert: what the change of one expert's write does to a later receiver through its input alone.

mod edges;
mod gives;
mod instrument;
mod passes;
mod search;
#[cfg(test)]
mod tests;

use moescope_base::Seed;

pub use instrument::PathPatching;
pub use search::{looked_at, path_patch};

use crate::statistics::{Bootstrap, Resampling};

const METHOD: &str = "path patch";

/// One expert of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expert {
    /// Block.
    pub layer: usize,
    /// Expert of the block.
    pub expert: usize,
}

/// What reads the changed stream, while all else reads the unchanged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Receiver {
    /// The router of a layer; what its experts read stays.
    Router,
    /// All experts of a layer; choice and weights stay.
    Experts,
    /// All heads of a layer.
    Heads,
    /// One expert of a layer; choice and weights stay.
    Expert(usize),
}

impl Receiver {
    /// Its name in tables.
    pub fn name(self) -> String {
        match self {
            Receiver::Router => "router".to_owned(),
            Receiver::Experts => "experts".to_owned(),
            Receiver::Heads => "heads".to_owned(),
            Receiver::Expert(expert) => format!("expert {expert}"),
        }
    }
}

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathPatchOptions {
    /// Senders, at most: those whose writes differ most between clean and corrupted.
    pub senders: usize,
    /// Routed layers above a sender that are looked at.
    pub receiving: usize,
    /// Random directions behind the null.
    pub turns: usize,
    /// Intervals over documents.
    pub resampling: Resampling,
    /// Source of the random directions.
    pub seed: Seed,
}

/// What one receiver does to the prediction when the sender's change reaches it alone.
///
/// The clean text is a sequence, the corrupted one the next of its batch, position by position. The sender's write is replaced by the
/// corrupted one; the difference goes along the residual stream, past all layers between, to the receiver's input, and nowhere else. What
/// follows from the receiver is computed as usual.
///
/// - **Unit and range:** `kl` is the divergence of the next-token prediction from the clean one, nats per token, 0 or more; `loss` the change
///   of the next-token loss. Intervals resample documents.
/// - **Null:** a change of the same length in a random direction at the same tokens.
/// - **Does not show:** what reaches the receiver through layers between, nor effects that need two receivers at once.
/// - **Source:** path patching, Goldowsky-Dill et al. 2023 and Wang et al. 2022, here with experts and routers as nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathEffect {
    /// Whose write changes.
    pub sender: Expert,
    /// Block of the receiver.
    pub layer: usize,
    /// Who reads the change.
    pub receiver: Receiver,
    /// Whether all choices of experts, of the corrupted pass as well, are those of the clean one.
    pub held: bool,
    /// Divergence from the clean prediction.
    pub kl: Bootstrap,
    /// The same for a random direction; NaN where routes are held.
    pub kl_null: f64,
    /// Change of the loss.
    pub loss: Bootstrap,
    /// Share of tokens whose set of experts in the receiving layer is another one.
    pub other_routes: f64,
}

/// How strongly one expert's write answers to the change of an earlier expert's.
///
/// - **Unit and range:** `gain` is the change of the receiver's write, before its weight, for each unit of length of the sender's change, over
///   the tokens that the receiver sees: root of the ratio of mean squares, 0 or more. Intervals resample documents.
/// - **Null:** the root mean square of the gains of changes turned in random directions, lengths and angles among them kept.
/// - **p-value:** rank of the gain, in units of the edge's root mean square over all other draws, among the largest of all edges under each turn: corrected for the number of edges
///   (Westfall and Young 1993, single step).
/// - **Does not show:** whether the prediction depends on the receiver.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// Whose write changes.
    pub sender: Expert,
    /// Who reads the change.
    pub receiver: Expert,
    /// Change of the receiver's write over that of the sender's.
    pub gain: Bootstrap,
    /// Root mean square of the gains of random directions.
    pub null: f64,
    /// Probability of so large a gain in any edge, were all directions read alike.
    pub p: f64,
}

/// What path patching found.
#[derive(Clone, Debug, PartialEq)]
pub struct PathPatch {
    /// Effects on the prediction, by sender, receiving layer and receiver.
    pub effects: Vec<PathEffect>,
    /// Effects on single experts.
    pub edges: Vec<Edge>,
}
