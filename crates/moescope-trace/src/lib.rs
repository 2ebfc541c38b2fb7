//! What was seen: routes, tokens and activations, in memory and on disk.
//!
//! ```
//! use moescope_trace::{LayerRouting, RoutingTrace, TokenTable, TraceFolder, write_trace};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tokens = TokenTable {
//!     ids: vec![5, 6], next_ids: vec![6, 7], domains: vec![0, 0], documents: vec![0, 0], positions: vec![0, 1],
//!     classes: vec![0, 0], domain_names: vec!["prose".into()], class_names: vec!["word".into()],
//! };
//! let layer = LayerRouting {
//!     layer: 0, experts: 4, per_token: 1, choices: vec![2, 0], weights: vec![0.7, 0.4],
//!     entropy: vec![0.9, 1.2], margin: vec![0.5, 0.1], relative_margin: vec![0.2, 0.01],
//! };
//! let trace = RoutingTrace::new(tokens, vec![layer])?;
//! let folder = tempfile::tempdir()?;
//! write_trace(folder.path(), &trace, None, "hash of the model", "0.1.0")?;
//! assert_eq!(TraceFolder::open(folder.path())?.routing()?, trace);
//! # Ok(())
//! # }
//! ```
//!
//! A trace is asked of a model through `&mut dyn Subject` alone, so planted models, our own runs and downloaded checkpoints are
//! recorded by the same code. On disk it is Parquet, which any query engine reads, and safetensors under full hook names, with a
//! manifest that says what it was made from; routes lie in one row group for each layer, so that one layer is read without the
//! others.

mod activations;
mod columns;
mod compat;
mod error;
mod folder;
mod manifest;
mod near_tie;
mod pieces;
mod recorder;
mod routing;
mod sums;
mod tensor_file;
mod tensor_reader;
#[cfg(test)]
mod testing;
mod write;

pub use activations::{
    ActivationFolder, ActivationJob, ActivationManifest, CorpusWindow, DocumentLabel, Kept, RecordOutcome,
    RecordedHook, SiteRows, Watch, record_activations,
};
pub use compat::{Compat, Export};
pub use error::TraceError;
pub use folder::TraceFolder;
pub use manifest::{Manifest, ManifestLayer, token_hash};
pub use near_tie::{BF16_ERROR, F32_ERROR, margin_exports, margins, relative_margins};
pub use pieces::{PieceFolder, RoutingOutcome, record_routing_in_pieces};
pub use recorder::{Recording, record_request, record_routing, record_tensors, routing_points};
pub use routing::{LayerRouting, RoutingTrace, TokenTable};
pub use sums::{SumGroup, read_sums, write_sums};
pub use tensor_file::{read_input_ids, read_recorded, write_recording};
pub use tensor_reader::TensorReader;
pub use write::write_trace;
