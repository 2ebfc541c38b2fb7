use serde::{Deserialize, Serialize};

use crate::HookPoint;

/// A change made inside the forward pass. Edits of one request are applied in order.
///
/// An edit takes effect downstream of its place, as documented on each variant, or the request is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Edit {
    /// Changes the value at one hook point.
    Value {
        /// Where.
        at: HookPoint,
        /// On which tokens.
        #[serde(default)]
        tokens: TokenSelection,
        /// What to do.
        #[serde(flatten)]
        change: ValueEdit,
    },
    /// Changes which experts the tokens of one layer go to.
    Route {
        /// Layer whose routes change.
        layer: u32,
        /// What to do.
        #[serde(flatten)]
        change: RouteEdit,
    },
}

/// What to do with a value. The last axis of the value is called a vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum ValueEdit {
    /// Sets every entry to zero.
    Zero,
    /// Multiplies every entry.
    Scale {
        /// Factor.
        factor: f32,
    },
    /// Adds one vector to every selected token.
    Add {
        /// As long as the last axis.
        vector: Vec<f32>,
    },
    /// Replaces every selected token's vector by one vector.
    Set {
        /// As long as the last axis.
        vector: Vec<f32>,
    },
    /// Replaces the vector of each selected token by its own row.
    Patch {
        /// Rows in the order of the selected tokens, one after the other.
        rows: Vec<f32>,
    },
    /// Replaces the vector of each selected token by the row that names this token; a selected token that is here and has no
    /// row is an error, a row whose token is not here or not selected is left out.
    PatchByToken {
        /// Token (`batch * positions + pos`) of each row. Where a token has several rows, as an attention pattern has one for
        /// each head, they are taken in order.
        of: Vec<u32>,
        /// `[row, column]`.
        rows: Vec<f32>,
    },
    /// Replaces every selected token's vector by the mean over all tokens that are here, selected or not, as the value stands
    /// when the edit is reached. In attention scores and patterns, the mean is over sequences, of the same head and query.
    Mean,
    /// Replaces every selected token's vector by that of another token: all tokens that are here stand in a random circle, and
    /// each takes the vector of the next. With all tokens selected, vectors are exchanged and none is lost or used twice.
    ///
    /// In attention scores and patterns the circle is one of sequences, for the same head and query. One seed gives one circle
    /// for all points with equally many rows, so several points can be exchanged alike.
    Resample {
        /// Source of the circle.
        seed: u64,
    },
}

/// What to do with the routes of a layer.
///
/// What changes the choice acts between scores and choice, so that weights, renormalisation and everything downstream follow
/// from it exactly as if the router had made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum RouteEdit {
    /// These experts cannot be chosen; the next best are.
    Ban {
        /// Experts.
        experts: Vec<u32>,
    },
    /// These experts are always among the chosen; the best others fill up.
    Force {
        /// Experts, at most as many as a token chooses.
        experts: Vec<u32>,
    },
    /// Only these sets of experts may be chosen: each token takes the set whose scores have the largest sum.
    AllowSets {
        /// Sets, each of as many distinct experts as a token chooses.
        sets: Vec<Vec<u32>>,
    },
    /// Uses routes recorded before: `choices[token, slot]`.
    Replay {
        /// Experts of every token of the batch.
        choices: Vec<u32>,
    },
    /// Exchanges the routes of this layer and another: each uses the experts that the other chose in a pass with all edits
    /// that stand before this one. Weights come from the scores of the layer that uses them.
    Swap {
        /// The other layer, with as many experts and as many of them for each token.
        with: u32,
    },
    /// Deals the choices anew among the tokens: each token takes the whole choice of another, the next in a random circle. Every
    /// expert keeps its load and its company exactly; only who goes there changes. Routes then depend on later tokens, too.
    Shuffle {
        /// Source of the circle.
        seed: u64,
    },
    /// Each token chooses so many experts.
    TopK {
        /// From 1 to the number of experts.
        k: u32,
    },
    /// Divides the logits before they become scores: above 1 scores are flatter, below 1 sharper. The logits that are recorded
    /// are those before the division. Several multiply.
    Temperature {
        /// Above zero.
        temperature: f32,
    },
    /// Whether the weights of the chosen experts are divided by their sum, whatever the model does.
    Renormalise {
        /// Whether they are.
        renormalise: bool,
    },
    /// Gives these experts a weight wherever a selected token chooses them. Acts last, on the weights as applied.
    SetWeight {
        /// Experts.
        experts: Vec<u32>,
        /// Their weight; no gradient flows through it.
        weight: f32,
        /// Whether the weights of such a token are then divided by their sum (and multiplied by the model's constant, if it has
        /// one). If not, the other weights stay.
        renormalise: bool,
        /// On which tokens.
        #[serde(default)]
        tokens: TokenSelection,
    },
}

impl RouteEdit {
    /// Whether it says which experts may be or are chosen, rather than how the choice is made or weighted.
    pub fn chooses(&self) -> bool {
        matches!(
            self,
            RouteEdit::Ban { .. }
                | RouteEdit::Force { .. }
                | RouteEdit::AllowSets { .. }
                | RouteEdit::Replay { .. }
        )
    }
}

/// Which tokens of the batch an edit touches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenSelection {
    /// Every token.
    #[default]
    All,
    /// These tokens, as `batch * positions + pos`, ascending. Tokens that an expert does not see are skipped there.
    Rows(Vec<u32>),
}

impl TokenSelection {
    /// Whether the token is touched.
    pub fn contains(&self, token: u32) -> bool {
        match self {
            TokenSelection::All => true,
            TokenSelection::Rows(rows) => rows.binary_search(&token).is_ok(),
        }
    }
}
