//! Writing that leaves either the old file or the new one, whatever happens in between.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use crate::HostError;

/// Ending of a file that is being written; its name begins with a dot.
const UNFINISHED: &str = ".unfinished";

/// Replaces a file in one go: writes a file beside it, forces it to disk, and renames it.
///
/// The new file has the permissions of any new file. Where `path` is a link, the file that it leads to is replaced; where
/// it is no regular file but a device or a pipe, `write` goes straight to it, since it cannot be replaced without
/// destroying it.
///
/// # Errors
/// [`HostError::File`]. The file under `path` is then as before, and the half-written one is removed.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), HostError> {
    let failed = |source| HostError::file("write", path, source);
    // A link that leads nowhere yet is replaced itself.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    match fs::metadata(&target) {
        Ok(found) if found.is_dir() => return Err(failed(io::ErrorKind::IsADirectory.into())),
        Ok(found) if !found.is_file() => {
            let device = fs::OpenOptions::new().write(true).open(&target);
            return device.and_then(|device| flushed(device, write)).map(drop).map_err(failed);
        }
        _ => {}
    }
    let unfinished = beside(&target);
    let written = File::create(&unfinished)
        .and_then(|file| flushed(file, write)?.sync_all())
        .and_then(|()| fs::rename(&unfinished, &target));
    written.map_err(|source| {
        // The first failure is the one to report; a leftover that cannot be removed now is swept later.
        let _ = fs::remove_file(&unfinished);
        failed(source)
    })
}

/// Makes a folder and those above it; one that is there already is no error.
///
/// # Errors
/// [`HostError::File`].
pub fn make_folder(path: &Path) -> Result<(), HostError> {
    fs::create_dir_all(path).map_err(|source| HostError::file("make the folder", path, source))
}

/// Removes what an interrupted [`replace`] has left in a folder and those below it. Only for whoever holds the folder: it
/// would take the file of another writer away.
///
/// # Errors
/// [`HostError::File`] for a folder that cannot be read or a leftover that cannot be removed.
pub fn sweep(folder: &Path) -> Result<(), HostError> {
    let failed = |source| HostError::file("sweep", folder, source);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // The kind of the entry itself, so that no link leads out of the folder.
        if entry.file_type().map_err(failed)?.is_dir() {
            sweep(&entry.path())?;
        } else if is_unfinished(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())
                .map_err(|source| HostError::file("remove", &entry.path(), source))?;
        }
    }
    Ok(())
}

/// Whether a name is that of a file being written.
fn is_unfinished(name: &str) -> bool {
    // The report writes under `.partial`, by the same rules.
    name.starts_with('.') && (name.ends_with(UNFINISHED) || name.ends_with(".partial"))
}

/// Writes all of it, as far as the program is concerned.
fn flushed(file: File, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<File> {
    let mut file = BufWriter::new(file);
    write(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)
}

/// A hidden name in the same folder: a rename is one step only within a file system. The number of the process keeps two
/// writers apart.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}{UNFINISHED}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

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
        assert_eq!(count(folder.path()), 1);
        assert!(replace(folder.path(), |_| Ok(())).unwrap_err().to_string().contains("directory"));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("state");
        assert!(replace(&path, |_| Ok(())).unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn only_leftovers_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("runs/a");
        make_folder(&below).unwrap();
        for name in
            [".model.safetensors.12.unfinished", ".report.html.1.partial", "kept.unfinished", ".hidden"]
        {
            fs::write(below.join(name), "").unwrap();
        }
        sweep(folder.path()).unwrap();
        assert_eq!(count(&below), 2);
        assert!(below.join("kept.unfinished").exists() && below.join(".hidden").exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_has_the_permissions_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        fs::write(folder.path().join("plain"), "").unwrap();
        replace(&folder.path().join("ours"), |_| Ok(())).unwrap();
        assert_eq!(mode("ours"), mode("plain"));
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_devices_are_written_to() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        symlink(&file, &link).unwrap();
        replace(&link, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let null = Path::new("/dev/null");
        replace(null, |out| out.write_all(b"gone")).unwrap();
        assert!(fs::metadata(null).unwrap().file_type().is_char_device());
        if Path::new("/dev/full").exists() {
            assert!(replace(Path::new("/dev/full"), |out| out.write_all(b"x")).is_err());
        }
    }
}
