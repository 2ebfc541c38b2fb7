//! Files of a run, with the errors of training.

use std::fs;
use std::io;
use std::path::Path;

use crate::TrainError;

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
