//! Recorded values as safetensors, under their full hook names.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use moescope_base::{Axis, HookPoint, Tokens, Value, ValueData, nearest_name};
use moescope_host::write_tensors;
use safetensors::tensor::{Dtype, View};

use crate::tensor_reader::TensorReader;
use crate::{Export, Recording, TraceError};

/// Writes a recording: the file of `moescope record --out`.
///
/// Values are `F32`, expert indices `I64`; the leading axes are `[batch, pos]`, of attention patterns `[batch, head, query, key]`.
/// The values of one expert are `[row, ...]` with a companion `NAME.rows`, `I64`, that holds the token (`batch * positions + pos`)
/// of each row. `loss` is `[batch, pos - 1]` in nats, and `grad/NAME` the gradient of its mean; or of the weighted sum of logits that stands as
/// `objective`, `[batch]`, where one was asked for. `input_ids` repeats the input. What is exported for another tool stands beside them
/// under its own names.
///
/// # Errors
/// [`TraceError::Host`] when the file cannot be written.
pub fn write_recording(path: &Path, recording: &Recording, exports: &[Export]) -> Result<(), TraceError> {
    let mut tensors = Vec::new();
    let axes = [recording.tokens.batch(), recording.tokens.positions()];
    let ids = recording.tokens.ids().iter().map(|id| i64::from(*id)).collect();
    tensors.push(("input_ids".to_owned(), Entry::integers(axes.to_vec(), ids)));
    let loss = Entry { shape: vec![axes[0], axes[1] - 1], data: Data::Real(Cow::Borrowed(&recording.loss)) };
    tensors.push(("loss".to_owned(), loss));
    if let Some(objective) = &recording.objective {
        let data = Data::Real(Cow::Borrowed(objective));
        tensors.push(("objective".to_owned(), Entry { shape: vec![axes[0]], data }));
    }
    push_values(&mut tensors, "", &recording.values);
    push_values(&mut tensors, "grad/", &recording.gradients);
    for Export { name, shape, data } in exports {
        tensors.push((name.clone(), Entry { shape: shape.clone(), data: borrowed(data) }));
    }
    Ok(write_tensors(path, tensors, None)?)
}

/// Reads `input_ids` `I64` `[batch, pos]` from a safetensors file.
///
/// # Errors
/// If the file is damaged, lacks the tensor, or holds it in another form.
pub fn read_input_ids(path: &Path) -> Result<Tokens, TraceError> {
    let reader = TensorReader::open(path)?;
    let (shape, ids) = reader.integers("input_ids")?;
    let [batch, positions] = shape[..] else {
        return Err(reader.complain("input_ids", format!("of shape {shape:?}"), "two axes, [batch, pos]"));
    };
    let narrow = |id: &i64| {
        u32::try_from(*id).map_err(|_| {
            reader.complain("input_ids", format!("with the id {id}"), "ids from 0 to 4294967295")
        })
    };
    let ids = ids.iter().map(narrow).collect::<Result<_, TraceError>>()?;
    Ok(Tokens::new(ids, batch, positions)?)
}

/// Reads one value of such a file, ragged ones with their tokens.
///
/// # Errors
/// If the file is damaged, or does not hold the value in the form of its site; an absent one with the nearest names that are there.
pub fn read_recorded(path: &Path, point: HookPoint) -> Result<Value, TraceError> {
    let reader = TensorReader::open(path)?;
    let name = point.to_string();
    if !reader.names().any(|stored| stored == name) {
        let hooks: Vec<&str> = reader.names().filter(|n| n.parse::<HookPoint>().is_ok()).collect();
        let near = nearest_name(&name, hooks.iter().copied()).map(|n| format!("; the nearest is `{n}`"));
        let found = format!("absent among {} recorded values{}", hooks.len(), near.unwrap_or_default());
        return Err(reader.complain(&name, found, format!("a recording with `--hooks {name}`")));
    }
    let (shape, data) = if reader.is_integer(&name) {
        let (shape, numbers) = reader.integers(&name)?;
        (shape, ValueData::Integer(numbers))
    } else {
        let (shape, numbers) = reader.reals(&name)?;
        (shape, ValueData::Real(numbers))
    };
    let rows = match point.site().axes()[0] {
        Axis::Row => Some(narrow(&reader, &format!("{name}.rows"))?),
        _ => None,
    };
    let found = format!("of shape {shape:?}");
    Value::new(point, shape, data, rows)
        .map_err(|_| reader.complain(&name, found, format!("the axes {:?}", point.site().axes())))
}

/// Token numbers.
fn narrow(reader: &TensorReader, name: &str) -> Result<Vec<u32>, TraceError> {
    let (_, numbers) = reader.integers(name)?;
    let one = |number: &i64| u32::try_from(*number).ok();
    numbers
        .iter()
        .map(one)
        .collect::<Option<_>>()
        .ok_or_else(|| reader.complain(name, "a number below 0", "tokens, batch * positions + pos"))
}

fn push_values<'v>(
    tensors: &mut Vec<(String, Entry<'v>)>,
    prefix: &str,
    values: &'v BTreeMap<HookPoint, Value>,
) {
    for (point, value) in values {
        let data = borrowed(value.data());
        if let Some(rows) = value.rows() {
            let rows: Vec<i64> = rows.iter().map(|row| i64::from(*row)).collect();
            tensors.push((format!("{prefix}{point}.rows"), Entry::integers(vec![rows.len()], rows)));
        }
        tensors.push((format!("{prefix}{point}"), Entry { shape: value.shape().to_vec(), data }));
    }
}

fn borrowed(data: &ValueData) -> Data<'_> {
    match data {
        ValueData::Real(numbers) => Data::Real(Cow::Borrowed(numbers)),
        ValueData::Integer(numbers) => Data::Integer(Cow::Borrowed(numbers)),
    }
}

/// A tensor as the writer wants it.
pub(crate) struct Entry<'v> {
    shape: Vec<usize>,
    data: Data<'v>,
}

enum Data<'v> {
    Real(Cow<'v, [f32]>),
    Integer(Cow<'v, [i64]>),
}

impl Entry<'_> {
    /// Numbers that are given away.
    pub(crate) fn of(shape: Vec<usize>, data: ValueData) -> Entry<'static> {
        let data = match data {
            ValueData::Real(numbers) => Data::Real(Cow::Owned(numbers)),
            ValueData::Integer(numbers) => Data::Integer(Cow::Owned(numbers)),
        };
        Entry { shape, data }
    }

    fn integers(shape: Vec<usize>, numbers: Vec<i64>) -> Entry<'static> {
        Entry { shape, data: Data::Integer(Cow::Owned(numbers)) }
    }
}

impl View for Entry<'_> {
    fn dtype(&self) -> Dtype {
        match self.data {
            Data::Real(_) => Dtype::F32,
            Data::Integer(_) => Dtype::I64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(match &self.data {
            Data::Real(numbers) => bytemuck::cast_slice(numbers),
            Data::Integer(numbers) => bytemuck::cast_slice(numbers),
        })
    }

    fn data_len(&self) -> usize {
        self.data().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::record_tensors;
    use crate::testing::{Planted, batch};
    use moescope_base::Site;
    use moescope_host::HostError;

    fn written(folder: &Path) -> std::path::PathBuf {
        let (tokens, _) = batch(&[0, 1, 2, 3]);
        let points = [HookPoint::block(Site::RouterIndices, 1), HookPoint::expert(Site::ExpertPost, 1, 2)];
        let gradients = [HookPoint::expert(Site::ExpertPost, 1, 2)];
        let recording = record_tensors(&mut Planted::new(), &tokens, &points, &[], &gradients).unwrap();
        let path = folder.join("out.safetensors");
        write_recording(&path, &recording, &[]).unwrap();
        path
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_to_and_stays_a_device() {
        use std::os::unix::fs::FileTypeExt;
        let (tokens, _) = batch(&[0, 1]);
        let recording = record_tensors(&mut Planted::new(), &tokens, &[], &[], &[]).unwrap();
        // Nothing is lost if this fails: the full device refuses every byte, and a test does not replace what it may not.
        let full = Path::new("/dev/full");
        if full.exists() {
            assert!(write_recording(full, &recording, &[]).is_err());
            assert!(full.metadata().unwrap().file_type().is_char_device());
        }
    }

    #[test]
    fn the_contract_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let reader = TensorReader::open(&written(folder.path())).unwrap();
        assert_eq!(reader.reals("logits").unwrap().0, [1, 4, 4]);
        assert_eq!(reader.reals("loss").unwrap(), (vec![1, 3], vec![0.0, 1.0, 2.0]));
        let indices = reader.integers("blocks.1.mlp.router.hook_indices").unwrap();
        assert_eq!(indices, (vec![1, 4, 2], vec![0, 1, 1, 2, 2, 3, 3, 0]));
        assert_eq!(reader.reals("blocks.1.mlp.experts.2.hook_post").unwrap().0, [2, 2]);
        assert_eq!(reader.integers("blocks.1.mlp.experts.2.hook_post.rows").unwrap(), (vec![2], vec![1, 2]));
        let gradient = reader.reals("grad/blocks.1.mlp.experts.2.hook_post").unwrap().1;
        assert_eq!(gradient, [1.0 / 3.0, -1.0 / 3.0, 2.0 / 3.0, -1.0 / 3.0]);
    }

    #[test]
    fn input_ids_come_back_and_damage_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        assert_eq!(read_input_ids(&path).unwrap(), batch(&[0, 1, 2, 3]).0);
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 5, 8, 40, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = read_input_ids(&path).unwrap_err();
            assert!(matches!(error, TraceError::Host(HostError::Broken { .. })), "{length}: {error}");
        }
    }

    #[test]
    fn a_recorded_value_comes_back_and_an_absent_one_is_named_with_the_nearest() {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path());
        let expert = read_recorded(&path, HookPoint::expert(Site::ExpertPost, 1, 2)).unwrap();
        assert_eq!((expert.shape(), expert.rows()), (&[2, 2][..], Some(&[1, 2][..])));
        let indices = read_recorded(&path, HookPoint::block(Site::RouterIndices, 1)).unwrap();
        assert_eq!(indices.integer().unwrap(), [0, 1, 1, 2, 2, 3, 3, 0]);
        let error = read_recorded(&path, HookPoint::expert(Site::ExpertPost, 1, 3)).unwrap_err().to_string();
        assert!(error.contains("experts.2.hook_post") && error.contains("--hooks"), "{error}");
    }

    #[test]
    fn ids_in_another_form_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.safetensors");
        let write = |name: &str, entry: Entry<'static>| {
            write_tensors(&path, vec![(name.to_owned(), entry)], None).unwrap();
            read_input_ids(&path).unwrap_err().to_string()
        };
        assert!(write("ids", Entry::integers(vec![1, 2], vec![1, 2])).contains("absent"));
        assert!(write("input_ids", Entry::integers(vec![2], vec![1, 2])).contains("two axes"));
        assert!(write("input_ids", Entry::integers(vec![1, 2], vec![1, -2])).contains("-2"));
        let reals = Entry { shape: vec![1, 1], data: Data::Real(Cow::Owned(vec![1.0])) };
        assert!(write("input_ids", reals).contains("F32"));
    }
}
