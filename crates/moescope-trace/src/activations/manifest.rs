//! What a recording of activations says about itself.

use serde::{Deserialize, Serialize};

/// Version of the format that this code writes and reads.
pub(super) const SCHEMA: u32 = 1;
/// What tells this manifest from that of routes.
pub(super) const KIND: &str = "activations";

/// What is recorded, from what and with what. It holds before the first pass as after the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationManifest {
    /// Version of the format.
    pub schema: u32,
    /// `activations`.
    pub kind: String,
    /// The model as it was named.
    pub model: String,
    /// Hash of the model, as its reader gives it.
    pub model_hash: String,
    /// Hash of the token ids of all windows, in order: see [`token_hash`](crate::token_hash).
    pub token_hash: String,
    /// Version of the code that recorded.
    pub code_version: String,
    /// Sites, by layer, expert and order in the forward pass.
    pub hooks: Vec<RecordedHook>,
    /// Which rows are kept.
    pub kept: Kept,
    /// Tokens of a window.
    pub positions: usize,
    /// Windows of the corpus.
    pub windows: usize,
    /// Windows that go through the model; of a sample without single experts those with a drawn token.
    pub windows_run: usize,
    /// Windows in one part, the last one left out.
    pub part_windows: usize,
    /// Tokens of the documents that fill no window and are left out.
    pub tokens_left_out: usize,
    /// Documents of the corpus.
    pub documents: usize,
    /// Names of the domains, in order.
    pub domain_names: Vec<String>,
}

/// One recorded site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedHook {
    /// Full hook name.
    pub name: String,
    /// Names of the axes of the site, outermost first.
    pub axes: Vec<String>,
}

/// Which rows of each site are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kept {
    /// All.
    Whole,
    /// So many, drawn without replacement, each set of rows as likely as any other; all where there are fewer.
    ///
    /// The same tokens at every site; of a single expert the first by lot among its own.
    Sample {
        /// Rows of each site.
        rows: usize,
        /// Seed of the draw.
        seed: u64,
    },
}

impl Kept {
    /// What was asked for, as a sentence has it.
    pub(super) fn in_words(&self) -> String {
        match self {
            Kept::Whole => "all rows".into(),
            Kept::Sample { rows, seed } => format!("{rows} rows of each site with seed {seed}"),
        }
    }
}

impl ActivationManifest {
    /// What differs between two recordings, found and wanted, if anything does.
    pub(super) fn difference(&self, wanted: &ActivationManifest) -> Option<(&'static str, String, String)> {
        let hooks =
            |m: &ActivationManifest| m.hooks.iter().map(|h| h.name.clone()).collect::<Vec<_>>().join(",");
        let pairs = [
            ("the version of the code", self.code_version.clone(), wanted.code_version.clone()),
            ("the hooks", hooks(self), hooks(wanted)),
            ("what is kept", self.kept.in_words(), wanted.kept.in_words()),
            ("the tokens of a window", self.positions.to_string(), wanted.positions.to_string()),
            ("the number of windows", self.windows.to_string(), wanted.windows.to_string()),
            ("the text or its tokens, by hash,", self.token_hash.clone(), wanted.token_hash.clone()),
            ("the model, by hash,", self.model_hash.clone(), wanted.model_hash.clone()),
            ("the recording", format!("{self:?}"), format!("{wanted:?}")),
        ];
        // The name of the model is how it was called, not what it is.
        let alike = ActivationManifest { model: wanted.model.clone(), ..self.clone() } == *wanted;
        if alike { None } else { pairs.into_iter().find(|(_, found, wanted)| found != wanted) }
    }
}
