//! Safetensors: one file, or the shards that an index names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use moescope_host::{HostError, MappedFile, TensorFile, read_text};

use crate::stored::{Place, Stored};
use crate::{NumberFormat, Weights, WeightsError, gguf, quantised};

/// Name of the file of a model that is not sharded.
const SINGLE: &str = "model.safetensors";
/// Name of the list of shards.
const INDEX: &str = "model.safetensors.index.json";

/// Opens the weights of a folder: `model.safetensors`, or the shards of the index, or the only file with weights.
pub(crate) fn open_folder(folder: &Path) -> Result<Weights, WeightsError> {
    if folder.join(SINGLE).exists() {
        return open(folder, vec![folder.join(SINGLE)]);
    }
    if folder.join(INDEX).exists() {
        return open(folder, shards(folder)?);
    }
    let (safetensors, gguf) = (ending_in(folder, "safetensors")?, ending_in(folder, "gguf")?);
    let found = match (safetensors.as_slice(), gguf.as_slice()) {
        ([one], _) => return open(folder, vec![one.clone()]),
        ([], [first, ..]) if gguf::are_parts_of_one(&gguf) => return gguf::open(first),
        ([], []) => "there is none of these".into(),
        ([], many) => choose(many),
        (many, _) => choose(many),
    };
    Err(WeightsError::NoWeights { path: folder.into(), found })
}

/// Asks for one of several files.
fn choose(files: &[PathBuf]) -> String {
    let names: Vec<_> =
        files.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy()).collect();
    format!("there are {}; name one of them", names.join(", "))
}

/// The files of a folder with this ending, in the order of their names.
fn ending_in(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, WeightsError> {
    let failed = |source| WeightsError::from(HostError::file("read", folder, source));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.extension().is_some_and(|found| found == ending) && !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Opens safetensors files as one set of weights; `path` is what the user named.
pub(crate) fn open(path: &Path, files: Vec<PathBuf>) -> Result<Weights, WeightsError> {
    let mut weights =
        Weights { path: path.into(), files: Vec::new(), tensors: BTreeMap::new(), metadata: None };
    for file in files {
        add(&mut weights, TensorFile::open(&file)?)?;
    }
    quantised::combine(&mut weights)?;
    Ok(weights)
}

/// Adds the tensors of one file.
fn add(weights: &mut Weights, file: TensorFile) -> Result<(), WeightsError> {
    let map = MappedFile::open(file.path())?;
    for (name, found) in file.tensors() {
        let bytes = found.start as usize..found.start as usize + found.bytes;
        if bytes.end > map.len() {
            return Err(WeightsError::broken(file.path(), "it became shorter while it was opened"));
        }
        let stored = Stored {
            format: NumberFormat::from(found.format),
            shape: found.shape.clone(),
            place: Place { file: weights.files.len(), bytes },
            scales: None,
        };
        if weights.tensors.insert(name.clone(), stored).is_some() {
            let reason = format!("the tensor `{name}` also stands in another shard");
            return Err(WeightsError::broken(file.path(), reason));
        }
    }
    weights.files.push(map);
    Ok(())
}

/// The shard files that the index names, each once and all there.
fn shards(folder: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    let shards = shards_with_tensors(folder)?;
    if let Some((shard, tensor)) = shards.iter().find(|(shard, _)| !folder.join(shard).exists()) {
        let (shard, tensor) = (shard.clone(), tensor.clone());
        return Err(WeightsError::MissingShard { folder: folder.into(), shard, tensor });
    }
    Ok(shards.keys().map(|name| folder.join(name)).collect())
}

/// The shard files that the index names, each once.
pub(crate) fn shard_names(folder: &Path) -> Result<Vec<String>, WeightsError> {
    Ok(shards_with_tensors(folder)?.into_keys().collect())
}

/// The shard files that the index names, each with the first of its tensors.
fn shards_with_tensors(folder: &Path) -> Result<BTreeMap<String, String>, WeightsError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let path = folder.join(INDEX);
    let text = read_text(&path)?;
    let index: Index =
        serde_json::from_str(&text).map_err(|source| WeightsError::Json { path: path.clone(), source })?;
    let mut shards = BTreeMap::new();
    for (tensor, shard) in index.weight_map {
        shards.entry(shard).or_insert(tensor);
    }
    match shards.keys().find(|shard| shard.contains(['/', '\\']) || *shard == "..") {
        None => Ok(shards),
        Some(shard) => {
            let reason = format!("the index names the shard `{shard}`, which is not a plain file name");
            Err(WeightsError::broken(path, reason))
        }
    }
}
