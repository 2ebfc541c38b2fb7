use std::fs::{File, TryLockError};
use std::path::Path;

use crate::HostError;

/// Keeps other processes out of a folder for as long as it lives.
///
/// The lock is advisory and on the folder itself: no file is left behind, and the system takes it back when the process
/// ends, however it ends. It keeps out only those who ask for it.
#[derive(Debug)]
pub struct FolderLock {
    /// Holds the lock; `None` where the file system knows none.
    _held: Option<File>,
}

impl FolderLock {
    /// Takes the lock of a folder that exists.
    ///
    /// A file system without locks (some network file systems) lets everybody in: not to work there at all would help
    /// nobody.
    ///
    /// # Errors
    /// [`HostError::Busy`] if another process, or another lock of this one, has it.
    pub fn take(folder: &Path) -> Result<FolderLock, HostError> {
        let Ok(file) = File::open(folder) else { return Ok(FolderLock { _held: None }) };
        match file.try_lock() {
            Ok(()) => Ok(FolderLock { _held: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(HostError::Busy { folder: folder.into() }),
            Err(TryLockError::Error(_)) => Ok(FolderLock { _held: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_folder_has_one_holder_at_a_time_and_nothing_is_left_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let held = FolderLock::take(folder.path()).unwrap();
        let error = FolderLock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another moescope is at work"), "{error}");
        drop(held);
        drop(FolderLock::take(folder.path()).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
