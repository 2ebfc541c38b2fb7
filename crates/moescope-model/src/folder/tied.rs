//! Whether a model that says that embedding and unembedding are one table has files that agree.

use super::sources::Source;
use super::tensors::Tensors;
use crate::ModelError;
use crate::families::Reading;
use crate::parameters::Layout;

/// Names under which an unembedding is stored.
pub(super) const UNEMBEDDINGS: [&str; 2] = ["lm_head.weight", "embed_out.weight"];
/// Numbers that are compared at a time.
const PIECE: usize = 1 << 22;

/// Refuses a second table with other numbers: implementations differ in which of the two they then use, so either choice would be a
/// guess. Files that hold the same table twice are fine.
///
/// # Errors
/// [`ModelError::Configuration`] for `tie_word_embeddings`, or if a table cannot be read.
pub(super) fn require_one_table(
    tensors: &Tensors,
    reading: &Reading,
    layout: &Layout,
    sources: &[Source],
) -> Result<(), ModelError> {
    let second = UNEMBEDDINGS
        .into_iter()
        .find(|name| reading.description.tied_embeddings && tensors.get(name).is_some());
    let Some(second) = second else { return Ok(()) };
    let place = layout.specifications.iter().position(|wanted| wanted.name == "model.embed_tokens.weight");
    let Some(Source::Whole(first)) = place.map(|place| &sources[place]) else { return Ok(()) };
    if same(tensors, first, second)? {
        return Ok(());
    }
    Err(ModelError::Configuration {
        path: tensors.folder().join("config.json"),
        key: "tie_word_embeddings".into(),
        found: format!("true, while `{second}` holds another table than `{first}`"),
        wanted: "false if that table is meant, or files without it".into(),
    })
}

/// Whether two matrices hold the same numbers.
fn same(tensors: &Tensors, first: &str, second: &str) -> Result<bool, ModelError> {
    let shape = |name: &str| tensors.get(name).map(|entry| entry.shape.clone()).unwrap_or_default();
    let [rows, columns] = shape(first)[..] else { return Ok(false) };
    if shape(second) != [rows, columns] {
        return Ok(false);
    }
    if !tensors.is_plain(first) || !tensors.is_plain(second) {
        return Ok(tensors.read(first)?.data() == tensors.read(second)?.data());
    }
    let step = (PIECE / columns.max(1)).max(1);
    let (mut a, mut b) = (vec![0.0; step * columns], vec![0.0; step * columns]);
    for start in (0..rows).step_by(step) {
        let here = start..(start + step).min(rows);
        let length = here.len() * columns;
        tensors.read_rows(first, here.clone(), &mut a[..length])?;
        tensors.read_rows(second, here, &mut b[..length])?;
        if a[..length] != b[..length] {
            return Ok(false);
        }
    }
    Ok(true)
}
