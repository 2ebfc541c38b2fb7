//! Activations of a corpus on disk: every row of a site, or a sample of them.
//!
//! | file | holds |
//! |---|---|
//! | `recording.json` | what is recorded, from what and with what; written first |
//! | `documents.parquet` | domain and name of each document |
//! | `part-00000.safetensors`, … | the values of so many windows, in their order |
//! | `experts.safetensors` | of a sample, the rows of single experts |
//! | `manifest.json` | the same as `recording.json`; written last, so a folder that has it is whole |
//!
//! A part of a whole recording has the form of [`write_recording`](crate::write_recording), with `window.document` and `window.start`,
//! `[batch]`. A part of a sample has `NAME` as `[row, …]`, and `rows.document`, `rows.position` and `rows.token_id`, `[row]`, which
//! hold for all of its values; `experts.safetensors` has them for each expert's site under its own name, as `NAME.document`.
//! Positions are those in the document.
//!
//! Where a value of a router is recorded, `blocks.L.mlp.router.margin` and `relative_margin` stand beside it, one number for each
//! token: see [`margins`](crate::margins) and [`relative_margins`](crate::relative_margins).
//!
//! Which rows a sample has is decided by a keyed hash of document and position alone, the smallest first. It therefore depends neither
//! on the order and size of passes nor on interruptions, all sites have the same tokens, and samples of two corpora without a
//! document in common are merged by keeping the smallest of both.

mod folder;
mod manifest;
mod margins;
mod part;
mod priority;
mod reservoir;
mod resume;
mod rows;
mod run;
#[cfg(test)]
mod tests;

pub use folder::{ActivationFolder, SiteRows};
pub use manifest::{ActivationManifest, Kept, RecordedHook};
pub use run::{ActivationJob, CorpusWindow, DocumentLabel, RecordOutcome, Watch, record_activations};
