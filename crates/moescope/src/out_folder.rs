//! The folder of `--out`, which must not be somebody else's.

use std::path::Path;

use crate::failure::Failure;

/// Refuses a folder that holds something else than `what`, an earlier result, of which it would have one of the files `marks`.
///
/// # Errors
/// If the folder is not empty and has none of these files. A folder that is not there is none.
pub fn require_own(folder: &Path, what: &str, marks: &[&str]) -> Result<(), Failure> {
    let Ok(mut entries) = std::fs::read_dir(folder) else { return Ok(()) };
    let own = marks.iter().any(|name| folder.join(name).exists());
    match entries.next() {
        Some(Ok(entry)) if !own => Err(Failure::input(format!(
            "{} exists and is not {what}: it holds {}; choose a new or empty folder as --out",
            folder.display(),
            entry.file_name().to_string_lossy()
        ))),
        _ => Ok(()),
    }
}
