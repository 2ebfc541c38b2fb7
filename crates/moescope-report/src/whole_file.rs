//! Files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::ReportError;

/// Writes `bytes` to `path` so that a reader sees the old file or the new one, never a part.
///
/// The bytes go to a file beside it, reach the disk, and take the name in one step.
///
/// # Errors
/// [`ReportError::NoFileName`] for a path such as `..`; [`ReportError::Write`] with the cause. The folder must exist.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    let partial = Partial::beside(path)?;
    let written = partial.fill(bytes).and_then(|()| fs::rename(&partial.0, path));
    written.map_err(|source| ReportError::Write { path: path.to_owned(), source })
}

/// A file under a name that nobody reads; dropping it removes whatever is still there.
struct Partial(PathBuf);

impl Partial {
    /// A hidden name in the same folder: a rename is one step only within a file system.
    fn beside(path: &Path) -> Result<Partial, ReportError> {
        let name = path.file_name().ok_or_else(|| ReportError::NoFileName { path: path.to_owned() })?;
        // The process number keeps two writers of one folder apart.
        let hidden = format!(".{}.{}.partial", name.to_string_lossy(), std::process::id());
        Ok(Partial(path.with_file_name(hidden)))
    }

    /// Writes and waits for the disk, so that after a power cut the new name never stands on an empty file.
    fn fill(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(&self.0)?;
        file.write_all(bytes)?;
        file.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a successful rename there is nothing to remove, and that is no error.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.html");
        write_whole(&path, b"old").unwrap();
        write_whole(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["a.html"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_whole(&folder.path().join("no/a.html"), b"x").unwrap_err();
        assert!(error.to_string().contains("no/a.html"), "{error}");
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_name_that_cannot_be_taken_leaves_no_partial_file() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("a.html");
        fs::create_dir(&taken).unwrap(); // a folder cannot be replaced by a file
        assert!(matches!(write_whole(&taken, b"x"), Err(ReportError::Write { .. })));
        assert_eq!(names(folder.path()), ["a.html"]);
    }

    /// `/dev/full` refuses every write as a full disk does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_no_partial_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.html");
        fs::write(&path, "old").unwrap();
        let partial = Partial::beside(&path).unwrap();
        std::os::unix::fs::symlink("/dev/full", &partial.0).unwrap();
        drop(partial.fill(b"x").unwrap_err());
        drop(partial);
        assert_eq!(names(folder.path()), ["a.html"]);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        assert!(matches!(write_whole(Path::new("/"), b""), Err(ReportError::NoFileName { .. })));
    }
}
