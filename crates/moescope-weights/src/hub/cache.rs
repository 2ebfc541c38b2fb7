//! The cache of the hub's own tools: `blobs/` hold what was fetched under its hash, `snapshots/COMMIT/` links to it by name,
//! `refs/` remember which commit a branch was at.

use std::fs;
use std::path::{Path, PathBuf};

use moescope_host::{FolderLock, HostError, make_folder, replace};

use super::content::hash_like;
use super::fetch::{Fetch, Remote};
use super::{DownloadProgress, ModelName};
use crate::{Weights, WeightsError};

/// The folder of one model.
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(super) fn new(cache: &Path, name: &ModelName) -> Cache {
        Cache { folder: cache.join(name.folder()) }
    }

    /// Where the files of a commit are.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Whether a commit is there with weights that open.
    pub(super) fn is_whole(&self, commit: &str) -> bool {
        Weights::open(&self.snapshot(commit)).is_ok()
    }

    /// The snapshot that was last fetched for this revision, if it is whole.
    pub(super) fn latest(&self, name: &ModelName) -> Option<PathBuf> {
        let commit = match name.is_commit() {
            true => name.revision().to_owned(),
            false => fs::read_to_string(self.folder.join("refs").join(name.revision())).ok()?,
        };
        let commit = commit.trim();
        let plain = !commit.is_empty() && commit.chars().all(|c| c.is_ascii_alphanumeric());
        (plain && self.is_whole(commit)).then(|| self.snapshot(commit))
    }

    /// Keeps other programs of ours from writing to the same files.
    pub(super) fn lock(&self) -> Result<FolderLock, HostError> {
        make_folder(&self.folder.join("blobs"))?;
        FolderLock::take(&self.folder)
    }

    /// Writes down that the revision is at this commit.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> Result<(), HostError> {
        if revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        make_folder(path.parent().unwrap_or(&self.folder))?;
        replace(&path, |file| std::io::Write::write_all(file, commit.as_bytes()))
    }

    /// Brings one file of a commit into the cache, if it is not there.
    pub(super) fn add(
        &self,
        fetch: &Fetch<'_>,
        commit: &str,
        file: &str,
        (number, files): (usize, usize),
        tell: &mut dyn FnMut(&DownloadProgress),
    ) -> Result<(), WeightsError> {
        let link = self.snapshot(commit).join(file);
        if link.exists() {
            return Ok(());
        }
        let remote = fetch.about(commit, file)?;
        let blob = self.folder.join("blobs").join(&remote.hash);
        if !blob.exists() {
            let part = self.folder.join("blobs").join(format!("{}.incomplete", remote.hash));
            let mut progress =
                DownloadProgress { file: file.into(), number, files, done: 0, total: remote.size };
            fetch.write_file(&remote, &part, &mut |done| {
                progress.done = done;
                tell(&progress);
            })?;
            require_content(fetch, &remote, &part)?;
            fs::rename(&part, &blob).map_err(|source| HostError::file("rename", &part, source))?;
        }
        Ok(link_to(&blob, &link, file)?)
    }
}

/// Refuses a file whose content is not what its name says, and removes it: it would be found whole next time.
fn require_content(fetch: &Fetch<'_>, remote: &Remote, part: &Path) -> Result<(), WeightsError> {
    match hash_like(&remote.hash, part)? {
        Some(found) if !found.eq_ignore_ascii_case(&remote.hash) => {
            fs::remove_file(part).map_err(|source| HostError::file("remove", part, source))?;
            Err(fetch.damaged(remote, &found))
        }
        _ => Ok(()),
    }
}

/// Makes a blob appear under the name of its file.
fn link_to(blob: &Path, link: &Path, file: &str) -> Result<(), HostError> {
    let failed = |source| HostError::file("link", link, source);
    make_folder(link.parent().unwrap_or(link))?;
    // What exists here by now is a link that leads nowhere.
    let _ = fs::remove_file(link);
    let up = "../".repeat(2 + file.matches('/').count());
    let relative =
        PathBuf::from(format!("{up}blobs/{}", blob.file_name().unwrap_or_default().to_string_lossy()));
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink(relative, link);
    // Links need rights there that few have: the file goes where the link would be.
    #[cfg(not(unix))]
    let made = fs::rename(blob, link).map(|()| drop(relative));
    made.map_err(failed)
}
