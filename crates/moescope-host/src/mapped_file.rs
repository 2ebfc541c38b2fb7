//! A file seen as bytes without reading it: the system fetches a page when it is looked at.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::HostError;

/// The bytes of a file, mapped into memory, read only.
///
/// Pages are in memory only once they have been looked at, and the system takes them back when it needs room, so a file
/// larger than memory can be mapped.
///
/// The file must stay as it is for as long as the map lives. Where another program shortens it, looking at the part that is
/// gone ends this program by a signal; where it is written over, the new numbers are seen. Replacing the file by renaming
/// another one onto it, as [`replace`](crate::replace) does, is harmless: the map keeps the old one.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps a whole file; an empty one gives no bytes.
    ///
    /// # Errors
    /// [`HostError::File`] for what cannot be opened or is no regular file.
    pub fn open(path: &Path) -> Result<MappedFile, HostError> {
        let failed = |source| HostError::file("map", path, source);
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if about.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        if !about.is_file() {
            return Err(failed(std::io::Error::other("it is no regular file")));
        }
        // SAFETY: the map is read only and private to this value, which gives out nothing but shared slices of bytes, for
        // which every content is valid. That nobody shortens or rewrites the file meanwhile cannot be checked here and is
        // asked of the user, as the documentation of the type says; all other programs that map weights ask the same.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Ok(MappedFile { path: path.into(), map })
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the system that these bytes are not needed for now, so that they count no longer as memory of this program. They
    /// can be looked at again and are then fetched again; where the system has no such call, nothing happens.
    ///
    /// A range that reaches beyond the end is cut there.
    pub fn release(&self, range: Range<usize>) {
        let end = range.end.min(self.map.len());
        if range.start >= end {
            return;
        }
        #[cfg(unix)]
        {
            const DONT_NEED: memmap2::UncheckedAdvice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: what makes this advice dangerous is that it drops changes that were not written. This map is read only,
            // so there are none, and a page that is dropped is read from the file again with the same content.
            let told = unsafe { self.map.unchecked_advise_range(DONT_NEED, range.start, end - range.start) };
            // Advice that is not taken costs memory, not correctness.
            let _ = told;
        }
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_file_also_after_they_were_released() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let bytes: Vec<u8> = (0..100_000_usize).map(|n| (n * n % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = MappedFile::open(&path).unwrap();
        assert_eq!(&file[..], &bytes[..]);
        file.release(5000..90_000);
        file.release(0..usize::MAX);
        file.release(200_000..300_000);
        assert_eq!(&file[..], &bytes[..]);
    }

    #[test]
    fn an_empty_file_is_no_bytes_and_a_folder_or_device_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "").unwrap();
        assert!(MappedFile::open(&path).unwrap().is_empty());
        assert!(MappedFile::open(folder.path()).unwrap_err().to_string().contains("directory"));
        assert!(MappedFile::open(&folder.path().join("b")).unwrap_err().to_string().contains("cannot map"));
        #[cfg(unix)]
        assert!(MappedFile::open(Path::new("/dev/null")).unwrap_err().to_string().contains("regular"));
    }
}
