//! The folder of a study on disk: what may be opened, and how results are kept so that a study can stop at any
//! moment.
//!
//! There is no log of progress beside the results: a result that is there under its final name is done, one that is
//! not is made. So nothing can disagree with the files, however the program ended.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moescope_host::{FolderLock, hash_text, replace, sweep};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::roster::Run;
use crate::{StudyConfig, StudyError};

/// Name of the file that makes a folder a study.
/// It holds the complete configuration, which is what a resumed study is compared with.
const MARKER: &str = "study.toml";

/// The folder of one study. Every file in it is written beside its place and renamed, so that what has its final
/// name is whole.
#[derive(Clone, Debug)]
pub struct StudyFolder {
    root: PathBuf,
    /// Keeps a second program out; taken once the folder is known to be a study.
    _lock: Option<Arc<FolderLock>>,
}

/// A result on disk, with the checksum of its text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    blake3: String,
    content: Box<RawValue>,
}

/// Whether the text of a configuration is this one but for the instruments of the case.
fn same_but_for_case(text: &str, config: &StudyConfig) -> bool {
    let (mut wanted, found) = (config.clone(), toml::from_str::<StudyConfig>(text));
    wanted.instruments.case.clear();
    found.is_ok_and(|mut found| {
        found.instruments.case.clear();
        found == wanted
    })
}

/// What a finished study has and an unfinished one has not.
const CONCLUSION: [&str; 2] = ["answers.json", "report.html"];

impl StudyFolder {
    /// Opens the folder of a study, or makes it.
    ///
    /// A folder is compared by the text of its configuration, so that any changed value counts as another study:
    /// results of two configurations must never be mixed. What differs only in its comments is the same, and so is what asks other
    /// instruments of the case, on which no other result depends.
    ///
    /// The folder is held until the value is dropped. Leftovers of a program that was killed are removed, and so are
    /// answers and report of an earlier call: should this one fail, because a file was damaged say, nothing may look
    /// finished that is not.
    ///
    /// # Errors
    /// If the path is a file or holds something that is no study, a study of another configuration, or a study when `resume` is
    /// not asked for; if another program is at work in it; or if it cannot be written.
    pub fn open(root: &Path, config: &StudyConfig, resume: bool) -> Result<StudyFolder, StudyError> {
        StudyFolder::require_place(root)?;
        let folder = StudyFolder { root: root.to_owned(), _lock: None };
        let marker = root.join(MARKER);
        let wanted = toml::to_string(config).expect("a study configuration is plain data");
        match fs::read_to_string(&marker) {
            Ok(found) if !resume => Err(folder.refuse(
                &format!("already holds the study `{}`", name_of(&found)),
                "add `--resume` to go on with it, or choose another `--out`",
            )),
            Ok(found) if found != wanted && !same_but_for_case(&found, config) => Err(folder.refuse(
                &format!("holds the study `{}` with another configuration", name_of(&found)),
                "resume with the configuration in its study.toml, or choose another `--out`",
            )),
            Ok(found) => {
                let folder = folder.held()?.cleared()?;
                if found != wanted {
                    folder.write_text(&marker, &wanted)?;
                }
                Ok(folder)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                folder.require_empty()?;
                create_folder(&folder.root)?;
                let folder = folder.held()?;
                folder.write_text(&marker, &wanted)?;
                Ok(folder)
            }
            Err(error) => Err(StudyError::file("read", &marker, error)),
        }
    }

    /// Refuses a path that is a file, or leads through one, so that no folder can be there.
    pub(crate) fn require_place(root: &Path) -> Result<(), StudyError> {
        let Some(file) = root.ancestors().find(|path| path.exists() && !path.is_dir()) else { return Ok(()) };
        Err(StudyError::Folder {
            folder: file.to_owned(),
            found: "is a file".into(),
            wanted: "choose a folder as `--out`".into(),
        })
    }

    /// The folder with its lock.
    fn held(self) -> Result<StudyFolder, StudyError> {
        let lock = FolderLock::take(&self.root)?;
        Ok(StudyFolder { _lock: Some(Arc::new(lock)), ..self })
    }

    /// The folder without what an earlier call may have left behind.
    fn cleared(self) -> Result<StudyFolder, StudyError> {
        sweep(&self.root)?;
        for name in CONCLUSION {
            let path = self.root.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StudyError::file("remove", &path, error));
                }
                _ => {}
            }
        }
        Ok(self)
    }

    /// Refuses a folder with anything in it, so that no file of somebody else is ever written over.
    fn require_empty(&self) -> Result<(), StudyError> {
        match fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StudyError::file("open", &self.root, error)),
            // A marker that was being written when the disk filled up or the machine stopped is no foreign file.
            Ok(entries) => match entries
                .flatten()
                .find(|e| !e.file_name().to_string_lossy().starts_with(&format!(".{MARKER}.")))
            {
                None => Ok(()),
                Some(entry) => Err(self.refuse(
                    &format!("exists and is not a study: it holds {}", entry.file_name().to_string_lossy()),
                    "choose a new or empty folder as `--out`",
                )),
            },
        }
    }

    /// An error that names the folder, what is in it, and what to do instead.
    fn refuse(&self, found: &str, wanted: &str) -> StudyError {
        StudyError::Folder { folder: self.root.clone(), found: found.into(), wanted: wanted.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of one run, `runs/NAME`; it need not exist yet.
    pub fn run(&self, run: &Run) -> PathBuf {
        self.root.join("runs").join(run.to_string())
    }

    /// Folder of the result tables, `tables/`, made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn tables(&self) -> Result<PathBuf, StudyError> {
        let tables = self.root.join("tables");
        create_folder(&tables)?;
        Ok(tables)
    }

    /// Reads a result, or makes and keeps it. What is kept is what a second reading gives, so that a resumed study
    /// and one that ran through see the same numbers.
    ///
    /// # Errors
    /// If the file is damaged or cannot be written, or whatever `make` fails with.
    pub fn kept<T: Serialize + DeserializeOwned>(
        &self,
        path: &Path,
        make: impl FnOnce() -> Result<T, StudyError>,
    ) -> Result<T, StudyError> {
        if let Some(found) = self.read_kept(path)? {
            return Ok(found);
        }
        let made = make()?;
        let content = serde_json::to_string(&made).expect("results are plain data");
        let sealed = Sealed {
            blake3: hash_text(&content),
            content: RawValue::from_string(content).expect("JSON was just written"),
        };
        let text = serde_json::to_string(&sealed).expect("results are plain data") + "\n";
        self.write_text(path, &text)?;
        self.read_kept(path)?.ok_or_else(|| StudyError::Damaged {
            path: path.to_owned(),
            reason: "it vanished after it was written".into(),
        })
    }

    /// Reads what [`kept`](Self::kept) wrote, if it is there.
    ///
    /// # Errors
    /// If the file is damaged, or its content is not the one that its checksum was taken of: a changed number would
    /// otherwise be believed.
    pub fn read_kept<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, StudyError> {
        let Some(sealed) = self.read_json::<Sealed>(path)? else { return Ok(None) };
        let damaged = |reason| StudyError::Damaged { path: path.to_owned(), reason };
        let found = hash_text(sealed.content.get());
        if found != sealed.blake3 {
            return Err(damaged(format!("the BLAKE3 hash of its content is {found}, not {}", sealed.blake3)));
        }
        serde_json::from_str(sealed.content.get()).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// Reads a result if it is there.
    ///
    /// A file that is not there is `None` and no error, so that the caller makes it; a file that is there and does
    /// not read is never made anew over the old one, since it may be evidence of what went wrong.
    ///
    /// # Errors
    /// If it is there and is not what the study writes.
    pub fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, StudyError> {
        match fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| StudyError::Damaged { path: path.to_owned(), reason: error.to_string() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StudyError::file("read", path, error)),
        }
    }

    /// Writes a text file whole or not at all.
    ///
    /// The text goes to a file beside the place, which is then renamed; missing folders on the way are made.
    ///
    /// # Errors
    /// If the disk is full, or the folder may not be written; nothing is then left under the final name.
    pub fn write_text(&self, path: &Path, text: &str) -> Result<(), StudyError> {
        if let Some(parent) = path.parent() {
            create_folder(parent)?;
        }
        Ok(replace(path, |file| file.write_all(text.as_bytes()))?)
    }
}

/// Makes a folder with its parents; one that is there already is no error.
fn create_folder(path: &Path) -> Result<(), StudyError> {
    fs::create_dir_all(path).map_err(|error| StudyError::file("create", path, error))
}

/// Name of the study in a marker, for error messages.
fn name_of(marker: &str) -> String {
    toml::from_str::<StudyConfig>(marker).map_or_else(|_| "unreadable".into(), |config| config.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str) -> StudyConfig {
        StudyConfig::parse(StudyConfig::preset_text(name).unwrap(), name).unwrap()
    }

    #[test]
    fn a_study_is_resumed_only_when_asked_and_only_with_its_own_configuration() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("study");
        StudyFolder::open(&root, &config("smoke"), false).unwrap();
        assert!(StudyFolder::open(&root, &config("smoke"), true).is_ok());
        let again = StudyFolder::open(&root, &config("smoke"), false).unwrap_err().to_string();
        assert!(again.contains("--resume"), "{again}");
        let other = StudyFolder::open(&root, &config("quick"), true).unwrap_err().to_string();
        assert!(other.contains("another configuration"), "{other}");
    }

    #[test]
    fn one_program_at_a_time_and_nothing_old_looks_finished() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("study");
        let held = StudyFolder::open(&root, &config("smoke"), false).unwrap();
        let error = StudyFolder::open(&root, &config("smoke"), true).unwrap_err().to_string();
        assert!(error.contains("another"), "{error}");
        drop(held);
        for name in ["answers.json", "report.html", ".run.json.7.unfinished"] {
            fs::write(root.join(name), "old").unwrap();
        }
        let _held = StudyFolder::open(&root, &config("smoke"), true).unwrap();
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
    }

    #[test]
    fn a_foreign_folder_is_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("thesis.tex"), "precious").unwrap();
        let error = StudyFolder::open(scratch.path(), &config("smoke"), true).unwrap_err().to_string();
        assert!(error.contains("not a study") && error.contains("thesis.tex"), "{error}");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_no_place_for_a_study() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("afile");
        fs::write(&file, "precious").unwrap();
        for root in [file.clone(), file.join("study")] {
            let error = StudyFolder::open(&root, &config("smoke"), false).unwrap_err().to_string();
            let wanted = format!("{} is a file; choose a folder as `--out`", file.display());
            assert_eq!(error, wanted);
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }

    #[test]
    fn a_kept_result_is_made_once() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = StudyFolder::open(&scratch.path().join("s"), &config("smoke"), false).unwrap();
        let path = folder.root().join("x.json");
        let first: f64 = folder.kept(&path, || Ok(0.1 + 0.2)).unwrap();
        let second: f64 = folder.kept(&path, || panic!("made twice")).unwrap();
        assert_eq!(first.to_bits(), second.to_bits());
        let whole = fs::read_to_string(&path).unwrap();
        for damaged in ["{", &whole.replace("0.30000000000000004", "0.20000000000000004")] {
            assert_ne!(damaged, whole);
            fs::write(&path, damaged).unwrap();
            assert!(matches!(folder.kept::<f64>(&path, || Ok(0.0)), Err(StudyError::Damaged { .. })));
        }
    }
}
