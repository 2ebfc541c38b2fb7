//! The place of `--out`, which must not be somebody else's, nor what the command reads.

use std::path::Path;

use crate::failure::Failure;

/// Refuses a folder that holds something else than `what`, an earlier result, of which it would have one of the files `marks`.
///
/// # Errors
/// If the folder is not empty and has none of these files. A folder that is not there is none.
pub fn require_own(folder: &Path, what: &str, marks: &[&str]) -> Result<(), Failure> {
    let Ok(mut entries) = std::fs::read_dir(folder) else { return Ok(()) };
    let own = marks.iter().any(|name| folder.join(name).exists());
    match entries.next() {
        Some(Ok(entry)) if !own => Err(Failure::input(format!(
            "{} exists and is not {what}: it holds {}; choose a new or empty folder as --out",
            folder.display(),
            entry.file_name().to_string_lossy()
        ))),
        _ => Ok(()),
    }
}

/// Refuses a file that is there and is one of the inputs, or lies in a folder that is one: a checkpoint, say.
///
/// # Errors
/// If it is so, under whatever path or link. A file that is not there yet is none.
pub fn require_no_input<'p>(file: &Path, inputs: impl IntoIterator<Item = &'p Path>) -> Result<(), Failure> {
    let Ok(place) = file.canonicalize() else { return Ok(()) };
    let read = |input: &&Path| input.canonicalize().is_ok_and(|input| input == place) || holds(input, &place);
    match inputs.into_iter().find(read) {
        Some(input) => Err(Failure::input(format!(
            "{} is read, as {}, and would be written over; choose another file as --out",
            file.display(),
            input.display()
        ))),
        None => Ok(()),
    }
}

/// Whether a folder holds the file, or a link to it as the hub's cache does.
fn holds(folder: &Path, place: &Path) -> bool {
    let Ok(mut entries) = std::fs::read_dir(folder) else { return false };
    entries.any(|entry| entry.is_ok_and(|entry| entry.path().canonicalize().is_ok_and(|file| file == place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_not_written_over() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        std::fs::create_dir(path("model")).unwrap();
        for name in ["model/model.safetensors", "ids.safetensors", "old.safetensors"] {
            std::fs::write(path(name), name).unwrap();
        }
        let (model, ids) = (path("model"), path("ids.safetensors"));
        let refused = |name: &str| require_no_input(&path(name), [model.as_path(), ids.as_path()]).is_err();
        assert!(refused("ids.safetensors") && refused("model/../ids.safetensors"));
        assert!(refused("model/model.safetensors"));
        assert!(
            !refused("old.safetensors") && !refused("new.safetensors") && !refused("model/new.safetensors")
        );
    }
}
