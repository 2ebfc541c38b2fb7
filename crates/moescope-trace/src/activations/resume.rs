//! The folder of a recording between its first file and its last.

use std::io::Write;
use std::path::Path;

use moescope_host::{make_folder, replace};

use super::folder::read_manifest;
use super::manifest::ActivationManifest;
use super::run::DocumentLabel;
use crate::TraceError;
use crate::columns::{self, Cells};

/// What is recorded; written first.
pub(super) const BEGUN: &str = "recording.json";
/// The same; written last.
pub(super) const WHOLE: &str = "manifest.json";
/// Rows of single experts, and after how many windows.
pub(super) const STATE: &str = "state.safetensors";
/// Rows of single experts.
pub(super) const EXPERTS: &str = "experts.safetensors";
/// Names of the documents.
pub(super) const DOCUMENTS: &str = "documents.parquet";

const DOCUMENT_FIELDS: [&str; 3] = [
    "REQUIRED INT32 document (INTEGER(32,false));",
    "REQUIRED BYTE_ARRAY domain (STRING);",
    "REQUIRED BYTE_ARRAY name (STRING);",
];

/// Name of a part.
pub(super) fn part(index: usize) -> String {
    format!("part-{index:05}.safetensors")
}

/// Whether the folder is whole.
pub(super) fn is_whole(folder: &Path) -> bool {
    folder.join(WHOLE).exists()
}

/// Refuses a folder that holds another recording, or any that is not to be taken up; makes one that is not there.
pub(super) fn open(folder: &Path, wanted: &ActivationManifest, resume: bool) -> Result<(), TraceError> {
    make_folder(folder)?;
    let begun = folder.join(BEGUN);
    if !begun.exists() {
        return Ok(());
    }
    if !resume {
        return Err(TraceError::Taken { folder: folder.into() });
    }
    match read_manifest(&begun)?.difference(wanted) {
        None => Ok(()),
        Some((what, found, wanted)) => {
            Err(TraceError::OtherRecording { folder: folder.into(), what: what.into(), found, wanted })
        }
    }
}

/// Writes what is recorded, and which documents there are.
pub(super) fn begin(
    folder: &Path,
    manifest: &ActivationManifest,
    documents: &[DocumentLabel],
) -> Result<(), TraceError> {
    let text = |of: fn(&DocumentLabel) -> &String| Cells::Text(documents.iter().map(of).cloned().collect());
    let numbers = Cells::Unsigned((0..documents.len() as u32).collect());
    let cells = vec![numbers, text(|d| &d.domain), text(|d| &d.name)];
    columns::write(&folder.join(DOCUMENTS), &DOCUMENT_FIELDS, [cells])?;
    write_manifest(&folder.join(BEGUN), manifest)
}

/// Writes the last file and removes the state.
pub(super) fn finish(folder: &Path, manifest: &ActivationManifest) -> Result<(), TraceError> {
    write_manifest(&folder.join(WHOLE), manifest)?;
    let state = folder.join(STATE);
    if state.exists() {
        std::fs::remove_file(&state).map_err(|source| TraceError::File {
            action: "remove",
            path: state.clone(),
            source,
        })?;
    }
    Ok(())
}

fn write_manifest(path: &Path, manifest: &ActivationManifest) -> Result<(), TraceError> {
    let text = serde_json::to_string_pretty(manifest).expect("a manifest is plain data") + "\n";
    Ok(replace(path, |file| file.write_all(text.as_bytes()))?)
}
