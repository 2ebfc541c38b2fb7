//! The tensors of a folder: their headers, and their numbers when asked.
//!
//! Files are read in place, tensor by tensor, so that opening a model needs the memory of its weights once, and looking at the
//! headers touches no weight.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use moescope_engine::Tensor;
use moescope_host::{HostError, TensorFile, TensorPlace, read_text};
use safetensors::Dtype;

use crate::ModelError;

/// All tensors of a folder, by name.
pub(crate) struct Tensors {
    folder: PathBuf,
    entries: BTreeMap<String, Entry>,
    files: Vec<TensorFile>,
}

/// One tensor in one of the files.
struct Entry {
    /// Place of the file in the folder's list.
    file: usize,
    place: TensorPlace,
}

impl Tensors {
    /// Reads the headers of `model.safetensors`, or of all shards that the index names.
    pub(crate) fn of(folder: &Path) -> Result<Tensors, ModelError> {
        let single = folder.join("model.safetensors");
        let paths = match single.exists() {
            true => vec![single],
            false => shards(folder)?,
        };
        let mut tensors = Tensors { folder: folder.into(), entries: BTreeMap::new(), files: Vec::new() };
        for path in paths {
            tensors.add(TensorFile::open(&path)?)?;
        }
        Ok(tensors)
    }

    /// Adds the tensors of one file.
    fn add(&mut self, file: TensorFile) -> Result<(), HostError> {
        for (name, place) in file.tensors() {
            let entry = Entry { file: self.files.len(), place: place.clone() };
            if self.entries.insert(name.clone(), entry).is_some() {
                let reason = format!("the tensor `{name}` also stands in another shard");
                return Err(HostError::Broken { path: file.path().into(), reason });
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// The folder, for messages.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// All names in alphabetical order, so that the first complaint is always the same.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// What the header says about a tensor.
    pub(crate) fn get(&self, name: &str) -> Option<&TensorPlace> {
        self.entries.get(name).map(|entry| &entry.place)
    }

    /// Bytes of all tensors.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.place.bytes as u64).sum()
    }

    /// Numbers of all tensors.
    pub(crate) fn numbers(&self) -> u64 {
        self.entries.values().map(|entry| entry.place.shape.iter().product::<usize>() as u64).sum()
    }

    /// The numbers of one tensor, all finite.
    pub(crate) fn read(&self, name: &str) -> Result<Tensor, ModelError> {
        let entry = self.entries.get(name).expect("the source of a parameter was found before");
        let bytes = self.files[entry.file].read(&entry.place)?;
        let numbers = decode(name, entry.place.format, &bytes)?;
        if let Some(place) = numbers.iter().position(|x| !x.is_finite()) {
            return Err(ModelError::NotFinite { name: name.into(), entry: place, found: numbers[place] });
        }
        Ok(Tensor::new(entry.place.shape.clone(), numbers)?)
    }
}

/// The shard files that the index names, each once.
fn shards(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let path = folder.join("model.safetensors.index.json");
    let text = read_text(&path).map_err(|error| match error {
        HostError::File { path, source, .. } => {
            HostError::File { action: "read (there is no model.safetensors either)", path, source }
        }
        other => other,
    })?;
    let index: Index =
        serde_json::from_str(&text).map_err(|source| ModelError::Json { path: path.clone(), source })?;
    let names: std::collections::BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(name) = names.iter().find(|name| name.contains(['/', '\\'])) {
        let reason = format!("the index names the shard `{name}`, which is not a plain file name");
        return Err(HostError::Broken { path, reason }.into());
    }
    Ok(names.iter().map(|name| folder.join(name)).collect())
}

/// Little-endian numbers as `f32`.
fn decode(name: &str, format: Dtype, bytes: &[u8]) -> Result<Vec<f32>, ModelError> {
    let pairs = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match format {
        Dtype::F32 => {
            Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        }
        Dtype::BF16 => Ok(pairs().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect()),
        Dtype::F16 => Ok(pairs().map(half_to_single).collect()),
        other => Err(ModelError::NumberFormat { name: name.into(), found: format!("{other:?}") }),
    }
}

/// The value of an IEEE 754 binary16.
fn half_to_single(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f32::from(bits & 0x3ff) / 1024.0;
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-14),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction) * 2f32.powi(exponent - 15),
    };
    sign * magnitude
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_by_hand() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x0400, 6.103_515_6e-5),
        ];
        for (bits, value) in cases {
            assert_eq!(half_to_single(bits), value, "{bits:#x}");
        }
        assert!(half_to_single(0x7c00).is_infinite() && half_to_single(0x7e00).is_nan());
    }

    #[test]
    fn brain_floats_are_the_upper_half_of_a_single() {
        assert_eq!(decode("x", Dtype::BF16, &[0x80, 0x3f, 0x49, 0xc0]).unwrap(), [1.0, -3.140_625]);
        assert!(decode("x", Dtype::I64, &[0; 8]).unwrap_err().to_string().contains("I64"));
    }
}
