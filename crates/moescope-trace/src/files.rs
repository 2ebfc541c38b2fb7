//! Files that are whole or absent.

use std::path::{Path, PathBuf};

use crate::TraceError;

/// Writes under another name beside it, then renames.
pub(crate) fn write_then_rename(
    path: &Path,
    write: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), TraceError> {
    let unfinished = unfinished(path);
    write(&unfinished).and_then(|()| std::fs::rename(&unfinished, path)).map_err(|source| TraceError::File {
        action: "write",
        path: path.into(),
        source,
    })
}

fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.unfinished"))
}
