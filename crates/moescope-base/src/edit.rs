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
}

/// What to do with the routes of a layer.
///
/// All act between scores and choice, so that weights, renormalisation and everything downstream follow from the
/// changed choice exactly as if the router had made it.
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
