use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo, View};

use crate::{HostError, replace};

/// Writes a safetensors file, whole or not at all, without a second copy of its numbers in memory.
///
/// Tensors are ordered by size of their numbers, then by name, as the format's own writer has it. `about` is one entry of the
/// file's metadata, since more would have no fixed order.
///
/// # Errors
/// [`HostError::File`] when the file cannot be written.
pub fn write_tensors<V: View>(
    path: &Path,
    mut tensors: Vec<(String, V)>,
    about: Option<(&str, &str)>,
) -> Result<(), HostError> {
    tensors.sort_by(|(one, left), (two, right)| right.dtype().cmp(&left.dtype()).then(one.cmp(two)));
    let mut end = 0;
    let places = tensors.iter().map(|(name, tensor)| {
        let start = end;
        end += tensor.data_len();
        let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
        (name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
    });
    let about = about.map(|(key, value)| [(key.to_owned(), value.to_owned())].into());
    let refused = |error| HostError::file("write", path, std::io::Error::other(error));
    let metadata = Metadata::new(about, places.collect()).map_err(|error| refused(error.to_string()))?;
    let mut header = serde_json::to_vec(&metadata).expect("a header is plain data");
    // The numbers begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    replace(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|(_, tensor)| file.write_all(&tensor.data()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::{Dtype, TensorView, serialize};

    #[test]
    fn the_bytes_are_those_of_the_formats_own_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let bytes: Vec<u8> = (0..16).collect();
        let view = |dtype, shape: &[usize]| TensorView::new(dtype, shape.to_vec(), &bytes).unwrap();
        let tensors = || {
            vec![
                ("b".to_owned(), view(Dtype::F32, &[2, 2])),
                ("c".to_owned(), view(Dtype::I64, &[2])),
                ("a".to_owned(), view(Dtype::F32, &[4])),
            ]
        };
        write_tensors(&path, tensors(), Some(("format", "pt"))).unwrap();
        let about = [("format".to_owned(), "pt".to_owned())].into();
        assert_eq!(std::fs::read(&path).unwrap(), serialize(tensors(), Some(about)).unwrap());
    }
}
