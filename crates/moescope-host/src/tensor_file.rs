//! Reading single tensors out of a safetensors file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};

use crate::HostError;

/// Longest header that the format allows, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// A safetensors file of which only the header has been read.
///
/// [`read`](TensorFile::read) reads it in place, tensor by tensor; [`TensorPlace::start`] says where to look in a
/// [`MappedFile`](crate::MappedFile).
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    tensors: BTreeMap<String, TensorPlace>,
}

/// One tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPlace {
    /// What its numbers are.
    pub format: Dtype,
    /// Lengths of the axes, slowest first.
    pub shape: Vec<usize>,
    /// Length in bytes; shape and format were checked against it.
    pub bytes: usize,
    /// First byte, counted from the beginning of the file.
    pub start: u64,
}

impl TensorFile {
    /// Reads the header. Every offset is checked against the length of the file, so that no later read can reach beyond
    /// its end.
    ///
    /// # Errors
    /// [`HostError::File`] or [`HostError::Broken`].
    pub fn open(path: &Path) -> Result<TensorFile, HostError> {
        let failed = |source| HostError::file("read", path, source);
        let broken = |reason: String| HostError::Broken { path: path.into(), reason };
        let mut file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if about.is_dir() {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        let length = about.len();
        let mut prefix = [0; 8];
        if length < 8 {
            return Err(broken(format!("it has {length} bytes, fewer than the length of its header takes")));
        }
        file.read_exact(&mut prefix).map_err(failed)?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > LONGEST_HEADER || header_length + 8 > length {
            return Err(broken(format!(
                "its header claims {header_length} bytes, and the file has {length}"
            )));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(failed)?;
        let (start, room) = (8 + header_length, length - 8 - header_length);
        Ok(TensorFile { path: path.into(), tensors: places(&header, start, room).map_err(broken)? })
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors by name, in alphabetical order.
    pub fn tensors(&self) -> &BTreeMap<String, TensorPlace> {
        &self.tensors
    }

    /// The bytes of a tensor of this file, little-endian and row-major.
    ///
    /// # Errors
    /// [`HostError::File`].
    pub fn read(&self, place: &TensorPlace) -> Result<Vec<u8>, HostError> {
        let failed = |source| HostError::file("read", &self.path, source);
        let mut bytes = vec![0; place.bytes];
        let mut file = File::open(&self.path).map_err(failed)?;
        file.seek(SeekFrom::Start(place.start)).map_err(failed)?;
        file.read_exact(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }
}

/// Where each tensor lies, given `room` bytes of numbers from `start` on; or what is wrong.
fn places(header: &[u8], start: u64, room: u64) -> Result<BTreeMap<String, TensorPlace>, String> {
    serde_json::from_slice::<DistinctNames>(header)
        .map_err(|error| format!("its header does not read: {error}"))?;
    let metadata: Metadata =
        serde_json::from_slice(header).map_err(|error| format!("its header does not read: {error}"))?;
    let mut tensors = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let (first, last) = info.data_offsets;
        if !fits(info, room) {
            let shape = &info.shape;
            return Err(format!(
                "the tensor `{name}` of shape {shape:?} claims the bytes {first}..{last}, and there are {room}"
            ));
        }
        let (format, shape) = (info.dtype, info.shape.clone());
        tensors.insert(name, TensorPlace { format, shape, bytes: last - first, start: start + first as u64 });
    }
    match metadata.data_len() as u64 == room {
        true => Ok(tensors),
        false => Err(format!("its tensors take {} bytes, and there are {room}", metadata.data_len())),
    }
}

/// A header in which no name stands twice: a map would keep one of two tensors, and not say which.
struct DistinctNames;

impl<'de> Deserialize<'de> for DistinctNames {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<DistinctNames, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = DistinctNames;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DistinctNames, A::Error> {
                let mut names = std::collections::BTreeSet::new();
                while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                    if let Some(name) = names.replace(name) {
                        return Err(A::Error::custom(format!("the name `{name}` stands twice")));
                    }
                }
                Ok(DistinctNames)
            }
        }
        deserializer.deserialize_map(Names)
    }
}

/// Whether the bytes of a tensor lie in the file and are as many as its shape takes.
fn fits(info: &TensorInfo, room: u64) -> bool {
    let (first, last) = info.data_offsets;
    let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, axis| bits.checked_mul(*axis));
    first <= last && last as u64 <= room && bits.is_some() && bits == (last - first).checked_mul(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with this header and so many bytes behind it.
    fn open(header: &str, room: usize) -> Result<TensorFile, HostError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend((0..room).map(|byte| byte as u8));
        std::fs::write(&path, bytes).unwrap();
        let file = TensorFile::open(&path)?;
        let read = file.read(&file.tensors["x"])?;
        assert_eq!(read, (0..room).map(|byte| byte as u8).collect::<Vec<u8>>());
        Ok(file)
    }

    #[test]
    fn a_header_by_hand() {
        let file = open(r#"{"x":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#, 8).unwrap();
        let place = &file.tensors()["x"];
        assert_eq!((place.format, place.shape.as_slice(), place.bytes), (Dtype::F32, &[2, 1][..], 8));
    }

    #[test]
    fn a_header_that_claims_too_much_is_refused() {
        let refused = |header: &str, room, part: &str| {
            let error = open(header, room).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("a.safetensors"), "{error}");
        };
        refused(r#"{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8, "header");
        refused(r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4, "claims the bytes");
        refused(r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 12, "there are 12");
        refused(r#"{"x":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]}}"#, 8, "");
        refused("[]", 0, "does not read");
        let twice = r#"{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
        refused(twice, 2, "`x` stands twice");
        let overlapping = r#"{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#;
        refused(overlapping, 3, "does not read");
        let gap = r#"{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"y":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}"#;
        refused(gap, 3, "does not read");
        let folder = tempfile::tempdir().unwrap();
        assert!(TensorFile::open(folder.path()).unwrap_err().to_string().contains("directory"));
    }
}
