//! The tensors of a folder: their headers, and their numbers when asked.
//!
//! Files are read in place, tensor by tensor, so that opening a model needs the memory of its weights once, and looking at the
//! headers touches no weight. Mapping files into memory would be unsound the moment another process shortens one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use moescope_engine::Tensor;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::ModelError;

/// Longest header that the format allows, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// All tensors of a folder, by name.
pub(crate) struct Tensors {
    folder: PathBuf,
    entries: BTreeMap<String, Entry>,
    files: Vec<PathBuf>,
}

/// One tensor in a file.
pub(crate) struct Entry {
    /// Place of the file in the folder's list.
    file: usize,
    /// First byte, counted from the beginning of the file.
    start: u64,
    /// Length; shape and format were checked against it.
    bytes: usize,
    format: Dtype,
    /// Lengths of the axes, slowest first.
    pub(crate) shape: Vec<usize>,
}

impl Tensors {
    /// Reads the headers of `model.safetensors`, or of all shards that the index names.
    pub(crate) fn of(folder: &Path) -> Result<Tensors, ModelError> {
        let single = folder.join("model.safetensors");
        let files = match single.exists() {
            true => vec![single],
            false => shards(folder)?,
        };
        let mut entries = BTreeMap::new();
        for (index, path) in files.iter().enumerate() {
            read_header(path, index, &mut entries)?;
        }
        Ok(Tensors { folder: folder.into(), entries, files })
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
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Bytes of all tensors.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.bytes as u64).sum()
    }

    /// Numbers of all tensors.
    pub(crate) fn numbers(&self) -> u64 {
        self.entries.values().map(|entry| entry.shape.iter().product::<usize>() as u64).sum()
    }

    /// The numbers of one tensor, all finite.
    pub(crate) fn read(&self, name: &str) -> Result<Tensor, ModelError> {
        let entry = self.entries.get(name).expect("the source of a parameter was found before");
        let path = &self.files[entry.file];
        let failed = |source| ModelError::File { action: "read", path: path.clone(), source };
        let mut file = File::open(path).map_err(failed)?;
        file.seek(SeekFrom::Start(entry.start)).map_err(failed)?;
        let mut bytes = vec![0; entry.bytes];
        file.read_exact(&mut bytes).map_err(failed)?;
        let numbers = decode(name, entry.format, &bytes)?;
        if let Some(place) = numbers.iter().position(|x| !x.is_finite()) {
            return Err(ModelError::NotFinite { name: name.into(), entry: place, found: numbers[place] });
        }
        Ok(Tensor::new(entry.shape.clone(), numbers)?)
    }
}

/// The shard files that the index names, each once.
fn shards(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let path = folder.join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&path).map_err(|source| ModelError::File {
        action: "read (there is no model.safetensors either)",
        path: path.clone(),
        source,
    })?;
    let index: Index =
        serde_json::from_str(&text).map_err(|source| ModelError::Json { path: path.clone(), source })?;
    let names: std::collections::BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(name) = names.iter().find(|name| name.contains(['/', '\\'])) {
        let reason = format!("the index names the shard `{name}`, which is not a plain file name");
        return Err(ModelError::Broken { path, reason });
    }
    Ok(names.iter().map(|name| folder.join(name)).collect())
}

/// Adds the tensors of one file. Every offset is checked here against the length of the file, so that no later read can
/// reach beyond its end.
fn read_header(path: &Path, index: usize, entries: &mut BTreeMap<String, Entry>) -> Result<(), ModelError> {
    let failed = |source| ModelError::File { action: "read", path: path.into(), source };
    let broken = |reason: String| ModelError::Broken { path: path.into(), reason };
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut prefix = [0; 8];
    if length < 8 {
        return Err(broken(format!("it has {length} bytes, fewer than the length of its header takes")));
    }
    file.read_exact(&mut prefix).map_err(failed)?;
    let header_length = u64::from_le_bytes(prefix);
    if header_length > LONGEST_HEADER || header_length + 8 > length {
        return Err(broken(format!("its header claims {header_length} bytes, and the file has {length}")));
    }
    let mut header = vec![0; header_length as usize];
    file.read_exact(&mut header).map_err(failed)?;
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|e| broken(format!("its header does not read: {e}")))?;
    let (start, room) = (8 + header_length, length - 8 - header_length);
    for (name, info) in metadata.tensors() {
        let (first, last) = info.data_offsets;
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, axis| bits.checked_mul(*axis));
        let fits = first <= last && last as u64 <= room && bits == (last - first).checked_mul(8);
        if !fits {
            return Err(broken(format!(
                "the tensor `{name}` of shape {:?} claims the bytes {first}..{last}, and there are {room}",
                info.shape
            )));
        }
        let shape = info.shape.clone();
        let entry = Entry {
            file: index,
            start: start + first as u64,
            bytes: last - first,
            format: info.dtype,
            shape,
        };
        if entries.insert(name.clone(), entry).is_some() {
            return Err(broken(format!("the tensor `{name}` also stands in another shard")));
        }
    }
    match metadata.data_len() as u64 == room {
        true => Ok(()),
        false => Err(broken(format!("its tensors take {} bytes, and there are {room}", metadata.data_len()))),
    }
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
