//! GGUF: the one file of a model that llama.cpp and its kin read.

mod header;
mod metadata;
mod reader;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use moescope_host::{HostError, MappedFile};

use crate::stored::{Place, Stored};
use crate::{Weights, WeightsError};
pub use metadata::{Metadata, MetadataValue};

/// The first four bytes of every file.
const MAGIC: &[u8; 4] = b"GGUF";

/// Whether a file says that it is one, or has a name that says so.
pub(crate) fn is_gguf(path: &Path) -> Result<bool, WeightsError> {
    if path.extension().is_some_and(|ending| ending == "gguf") {
        return Ok(true);
    }
    let mut first = [0; 4];
    let mut file = File::open(path).map_err(|source| HostError::file("read", path, source))?;
    Ok(file.read_exact(&mut first).is_ok() && &first == MAGIC)
}

/// Whether a file that begins so says that it is one.
pub(crate) fn has_magic(beginning: &[u8]) -> bool {
    beginning.starts_with(MAGIC)
}

/// Bytes that the header of a file takes, if the beginning holds all of it; else what is missing or wrong.
pub(crate) fn header_length(beginning: &[u8], file: usize) -> Result<usize, String> {
    header::read_beginning(beginning, file).map(|header| header.length)
}

/// Opens a file, and the other parts if it is one of several.
pub(crate) fn open(path: &Path) -> Result<Weights, WeightsError> {
    let mut weights =
        Weights { path: path.into(), files: Vec::new(), tensors: BTreeMap::new(), metadata: None };
    let metadata = add(&mut weights, path)?;
    match metadata.unsigned("split.count") {
        None | Some(0 | 1) => {
            weights.metadata = Some(metadata);
            return Ok(weights);
        }
        Some(count) => {
            let parts = parts(path, count)?;
            weights.files.clear();
            weights.tensors.clear();
            for part in &parts {
                let metadata = add(&mut weights, part)?;
                // Only the first part says what the model is.
                weights.metadata.get_or_insert(metadata);
            }
        }
    }
    Ok(weights)
}

/// Adds the tensors of one file, and gives back what it says about the model.
fn add(weights: &mut Weights, path: &Path) -> Result<Metadata, WeightsError> {
    let map = MappedFile::open(path)?;
    let broken = |reason: String| WeightsError::Gguf { path: path.into(), reason };
    let header = header::read(&map).map_err(broken)?;
    for tensor in header.tensors {
        let place = Place { file: weights.files.len(), bytes: tensor.bytes };
        let stored = Stored { format: tensor.format, shape: tensor.shape, place, scales: None };
        if weights.tensors.insert(tensor.name.clone(), stored).is_some() {
            return Err(broken(format!("the tensor `{}` stands twice", tensor.name)));
        }
    }
    weights.files.push(map);
    Ok(header.metadata)
}

/// The number of a part and of all parts, and what stands before them: `NAME-00001-of-00003.gguf`.
fn part_of(path: &Path) -> Option<(String, u64, u64)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (rest, count) = name.rsplit_once("-of-")?;
    let (base, number) = rest.rsplit_once('-')?;
    let number_of = |text: &str| if text.len() == 5 { text.parse().ok() } else { None };
    Some((base.to_owned(), number_of(number)?, number_of(count)?))
}

/// Whether these files are all parts of one model, or it is a single file.
pub(crate) fn are_parts_of_one(paths: &[PathBuf]) -> bool {
    let model = |path: &PathBuf| part_of(path).map(|(base, _, count)| (base, count));
    paths.len() == 1
        || (model(&paths[0]).is_some() && paths.iter().all(|path| model(path) == model(&paths[0])))
}

/// The paths of all parts, the first one first.
fn parts(path: &Path, count: u64) -> Result<Vec<PathBuf>, WeightsError> {
    let (base, count) = match part_of(path) {
        Some((base, _, said)) if said == count => (base, count),
        _ => {
            let reason = format!(
                "it is one of {count} parts, and its name does not end in -NNNNN-of-{count:05}.gguf, so that the others \
                 cannot be found"
            );
            return Err(WeightsError::Gguf { path: path.into(), reason });
        }
    };
    Ok((1..=count).map(|part| path.with_file_name(format!("{base}-{part:05}-of-{count:05}.gguf"))).collect())
}

#[cfg(test)]
mod tests;
