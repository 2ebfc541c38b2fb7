//! Writing that leaves either the old file or the new one, whatever happens in between.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::TrainError;

/// Replaces a file in one go: writes a file beside it, forces it to disk, and renames it.
///
/// # Errors
/// [`TrainError::File`]. The file under `path` is then as before, and the half-written one is removed.
pub(crate) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), TrainError> {
    let partial = beside(path);
    let written = write_through(&partial, write).and_then(|()| fs::rename(&partial, path));
    if let Err(source) = written {
        // The first failure is the one to report; a leftover that cannot be removed is overwritten next time.
        let _ = fs::remove_file(&partial);
        return Err(failure("write", path, source));
    }
    Ok(())
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<(), TrainError> {
    fs::create_dir_all(path).map_err(|source| failure("make the folder", path, source))
}

/// Removes a file; one that is not there is no error.
pub(crate) fn remove(path: &Path) -> Result<(), TrainError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failure("remove", path, source)),
        _ => Ok(()),
    }
}

pub(crate) fn failure(doing: &'static str, path: &Path, source: io::Error) -> TrainError {
    TrainError::File { doing, path: path.into(), source }
}

fn write_through(
    partial: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(partial)?);
    write(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        replace(&path, |file| file.write_all(b"good")).unwrap();
        let full = |file: &mut BufWriter<File>| {
            file.write_all(b"half of")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        let error = replace(&path, full).unwrap_err().to_string();
        assert!(error.contains("cannot write") && error.contains("state"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"good");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("state");
        assert!(replace(&path, |_| Ok(())).unwrap_err().to_string().contains("missing"));
        remove(&path).unwrap();
    }
}
