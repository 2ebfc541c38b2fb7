//! The place of `--out`, which must not be somebody else's, nor what the command reads, and which is whole or says that it is not.

use std::io::{ErrorKind, Write};
use std::path::Path;

use moescope_base::Table;
use moescope_host::HostError;

use crate::failure::Failure;

/// File of a folder that is being written.
const UNFINISHED: &str = "unfinished.txt";

/// Refuses a folder that holds something else than `what`, an earlier result, of which it would have one of the files `marks`, or
/// what is left of one that could not be finished; and a place where no folder can be made, before the work is done rather than after.
///
/// # Errors
/// If the folder is not empty and has none of these files, is a file, or cannot be made.
pub fn require_own(folder: &Path, what: &str, marks: &[&str]) -> Result<(), Failure> {
    let Ok(mut entries) = std::fs::read_dir(folder) else { return require_place(folder) };
    let own = marks.iter().chain([&UNFINISHED]).any(|name| folder.join(name).exists());
    match entries.next() {
        Some(Ok(entry)) if !own => Err(Failure::input(format!(
            "{} exists and is not {what}: it holds {}; choose a new or empty folder as --out",
            folder.display(),
            entry.file_name().to_string_lossy()
        ))),
        _ => Ok(()),
    }
}

/// Refuses a place at which there is no folder and none can be made. Nothing is left there.
fn require_place(folder: &Path) -> Result<(), Failure> {
    if folder.is_file() {
        return Err(Failure::input(format!(
            "{} is a file; choose a new or empty folder as --out",
            folder.display()
        )));
    }
    if folder.is_dir() {
        // It is there and cannot be read: whoever writes will say why.
        return Ok(());
    }
    let lacking: Vec<&Path> = folder.ancestors().take_while(|part| !part.exists()).collect();
    let made = moescope_host::make_folder(folder);
    // Those that were made are empty; what another has put there meanwhile stays.
    lacking.iter().for_each(|part| drop(std::fs::remove_dir(part)));
    Ok(made?)
}

/// Writes a result, whose file `last` tells that the folder is whole: an earlier one goes first, `write` is to write it last, and while
/// there is none a note in the folder says that it is not finished.
///
/// # Errors
/// Those of writing, with the next step. What was written by then stays, and may be written over.
pub fn finish(folder: &Path, last: &str, write: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    moescope_host::make_folder(folder)?;
    let (note, last) = (folder.join(UNFINISHED), folder.join(last));
    moescope_host::replace(&note, |file| {
        writeln!(file, "What is here is not whole. The same command writes it anew.")
    })?;
    let remove = |file: &Path| match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(HostError::file("remove", file, error)),
        _ => Ok(()),
    };
    remove(&last)?;
    write().map_err(|mut failure| {
        let folder = folder.display();
        failure.message += &format!("\n  {folder} is not whole: the same command writes it anew");
        failure
    })?;
    Ok(remove(&note)?)
}

/// Writes each table as `tables/NAME.parquet`, and takes away those of an earlier result that this one does not have: tables of another
/// model or text beside these would be taken for its.
///
/// # Errors
/// If the folder cannot be made, or a table cannot be written or taken away.
pub fn write_tables<'t>(out: &Path, tables: impl IntoIterator<Item = &'t Table>) -> Result<(), Failure> {
    let folder = out.join("tables");
    moescope_host::make_folder(&folder)?;
    let mut written = Vec::new();
    for table in tables {
        let file = folder.join(format!("{}.parquet", table.name()));
        moescope_report::write_parquet(table, &file)?;
        written.push(file);
    }
    let earlier = std::fs::read_dir(&folder).map_err(|error| HostError::file("read", &folder, error))?;
    for file in earlier.filter_map(|entry| Some(entry.ok()?.path())) {
        if file.extension().is_some_and(|kind| kind == "parquet") && !written.contains(&file) {
            std::fs::remove_file(&file).map_err(|error| HostError::file("remove", &file, error))?;
        }
    }
    Ok(())
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
    fn a_file_is_no_folder_and_trying_a_new_place_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        std::fs::write(&file, "text").unwrap();
        let refused = |folder: &Path| require_own(folder, "a result", &["result.json"]).unwrap_err().message;
        assert!(refused(&file).contains("is a file; choose a new or empty folder"));
        assert!(refused(&file.join("below")).contains("below"));
        require_own(&scratch.path().join("new/below"), "a result", &["result.json"]).unwrap();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1, "the file alone");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    }

    #[test]
    fn tables_of_an_earlier_result_go_and_other_files_stay() {
        let scratch = tempfile::tempdir().unwrap();
        let table = |name: &str| {
            Table::new(name, name, "", vec![moescope_base::Column::key("a", "a", vec!["b".into()])]).unwrap()
        };
        write_tables(scratch.path(), &[table("first"), table("both")]).unwrap();
        std::fs::write(scratch.path().join("tables/notes.txt"), "mine").unwrap();
        write_tables(scratch.path(), &[table("second"), table("both")]).unwrap();
        let names = std::fs::read_dir(scratch.path().join("tables")).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["both.parquet", "notes.txt", "second.parquet"]);
    }

    #[test]
    fn a_folder_without_its_last_file_is_not_whole_and_may_be_written_anew() {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("out");
        let put = |name: &str| std::fs::write(out.join(name), name).unwrap();
        let own = || require_own(&out, "a result", &["last.json"]).is_ok();
        let broken = finish(&out, "last.json", || {
            put("table");
            Err(Failure::input("the disk is full"))
        });
        let message = broken.unwrap_err().message;
        assert!(message.starts_with("the disk is full") && message.contains("not whole"), "{message}");
        assert!(out.join(UNFINISHED).exists() && own());
        let all = || {
            put("table");
            put("last.json");
            Ok(())
        };
        finish(&out, "last.json", all).unwrap();
        assert!(!out.join(UNFINISHED).exists() && own());
        // An earlier result is not left beside a half of the next.
        assert!(finish(&out, "last.json", || Err(Failure::input("full"))).is_err());
        assert!(!out.join("last.json").exists() && out.join(UNFINISHED).exists());
        std::fs::remove_file(out.join(UNFINISHED)).unwrap();
        assert!(!own(), "of somebody else");
    }

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
