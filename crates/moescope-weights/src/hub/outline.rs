//! A model of the hub as far as its headers tell: what a look at shapes and counts needs, for a few kilobytes.
//!
//! Each file of weights becomes a file of the same length that holds its header and, behind it, a hole that takes no room on the
//! disk. It opens like the whole file, with the same checks, so nothing else needs to know that the numbers are not there.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use moescope_host::{HostError, make_folder};

use super::beginning::Beginning;
use super::cache::Cache;
use super::fetch::Fetch;
use super::{COMPANIONS, DownloadProgress, HubSettings, INDEX, ModelName, here, weights};
use crate::{WeightsError, gguf, safetensors_files};

/// Bytes that are asked for first: most headers are shorter.
const FIRST: usize = 1 << 16;
/// Longest header that safetensors allow. One that claims more is refused when the file is opened.
const LONGEST_SAFETENSORS: u64 = 100_000_000;
/// Longest header of a GGUF file that is read over the network; those with large vocabularies have some ten megabytes.
const LONGEST_GGUF: usize = 256 << 20;

/// A model of which the headers are there, and perhaps all.
///
/// Where the weights are not on this machine, every number reads as zero. What was made for it is removed when it is dropped.
#[derive(Debug)]
pub struct Outline {
    path: PathBuf,
    scratch: Option<PathBuf>,
    unranged: Vec<String>,
}

impl Outline {
    /// Folder or file that opens as the model does: a local model itself, a snapshot of the cache, or a folder of headers that goes
    /// when this is dropped.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether weights are on this machine: nothing had to be left out, and what is read from it are the model's numbers.
    pub fn is_whole(&self) -> bool {
        self.scratch.is_none()
    }

    /// Files of which the server would not send a part; reading was stopped behind the header.
    ///
    /// Some bytes more than the header have then come over the network, as many as were under way.
    pub fn unranged(&self) -> &[String] {
        &self.unranged
    }

    fn whole(path: PathBuf) -> Outline {
        Outline { path, scratch: None, unranged: Vec::new() }
    }
}

impl Drop for Outline {
    fn drop(&mut self) {
        if let Some(scratch) = &self.scratch {
            // What cannot be removed is left to the system, which empties its folder of temporary files.
            let _ = fs::remove_dir_all(scratch);
        }
    }
}

/// As [`locate`](super::locate), but of weights that are not on this machine only the headers are fetched.
///
/// Small files are fetched whole and into the cache: the configuration and the index of shards, and with `tokenizer` what belongs to
/// text. What is in the cache is read there: of a model that is whole in it nothing is fetched but the list of files, and where the
/// server cannot be reached the latest whole snapshot serves.
///
/// `tell` hears before each file which it is, and how many there are.
///
/// # Errors
/// As [`locate`](super::locate); and for a GGUF file whose header is broken or longer than 256 MiB.
pub fn locate_headers(
    model: &str,
    settings: &HubSettings,
    tokenizer: bool,
    tell: &mut dyn FnMut(&DownloadProgress),
) -> Result<Outline, WeightsError> {
    let (name, cache) = match here(model, settings)? {
        Ok(path) => return Ok(Outline::whole(path)),
        Err(missing) => missing,
    };
    match outline(&name, settings, &cache, tokenizer, tell) {
        Err(error) if error.is_unreachable() => cache.latest(&name).map(Outline::whole).ok_or(error),
        done => done,
    }
}

/// Fetches the headers of a revision; the lock of the cache is held only while small files are added to it.
fn outline(
    name: &ModelName,
    settings: &HubSettings,
    cache: &Cache,
    tokenizer: bool,
    tell: &mut dyn FnMut(&DownloadProgress),
) -> Result<Outline, WeightsError> {
    let fetch = Fetch::new(name, settings);
    let listing = fetch.listing()?;
    let snapshot = cache.snapshot(&listing.commit);
    if cache.is_whole(&listing.commit) {
        return Ok(Outline::whole(snapshot));
    }
    let wanted = if tokenizer { &COMPANIONS[..] } else { &COMPANIONS[..1] };
    let mut small: Vec<String> =
        wanted.iter().filter(|file| listing.has(file)).map(|&file| file.to_owned()).collect();
    let mut large = weights(name, &listing)?;
    if large == [INDEX] {
        small.append(&mut large);
    }
    let lock = cache.lock()?;
    for (place, file) in small.iter().enumerate() {
        cache.add(&fetch, &listing.commit, file, (place + 1, small.len()), tell)?;
    }
    drop(lock);
    if large.is_empty() {
        large = safetensors_files::shard_names(&snapshot)?;
    }
    let scratch = scratch_folder(name)?;
    // From here on it is removed whatever happens.
    let mut made = Outline { path: scratch.clone(), scratch: Some(scratch.clone()), unranged: Vec::new() };
    for file in &small {
        link(&snapshot.join(file), &scratch.join(file))?;
    }
    let files = large.len();
    for (place, file) in large.iter().enumerate() {
        if snapshot.join(file).exists() {
            link(&snapshot.join(file), &scratch.join(file))?;
            continue;
        }
        let what = format!("the header of {file}");
        tell(&DownloadProgress { file: what, number: place + 1, files, done: 0, total: None });
        let remote = fetch.about(&listing.commit, file)?;
        let mut beginning = Beginning::new(&fetch, &remote);
        write_header(&fetch, file, &mut beginning, &scratch.join(file))?;
        if !beginning.is_ranged() {
            made.unranged.push(file.clone());
        }
    }
    Ok(made)
}

/// Writes the header of a file, and a hole for the rest, so that sizes and offsets are checked against the length that the file
/// has on the server.
fn write_header(
    fetch: &Fetch<'_>,
    file: &str,
    beginning: &mut Beginning<'_, '_>,
    path: &Path,
) -> Result<(), WeightsError> {
    let first = beginning.reach(FIRST)?.to_vec();
    let unknown = || fetch.refused(format!("the server does not say how long {file} is"));
    let size = beginning.size().unwrap_or(first.len() as u64);
    if beginning.size().is_none() && first.len() >= FIRST {
        return Err(unknown());
    }
    let length = match file.ends_with(".gguf") {
        true => gguf_header(beginning, size).map_err(|reason| match reason {
            Ok(error) => error,
            Err(reason) => fetch.refused(format!("the header of {file} cannot be read: {reason}")),
        })?,
        false => safetensors_header(&first, size),
    };
    let bytes = beginning.reach(length)?;
    let failed = |source| WeightsError::from(HostError::file("write", path, source));
    let mut made = File::create(path).map_err(failed)?;
    made.write_all(&bytes[..length.min(bytes.len())]).map_err(failed)?;
    made.set_len(size).map_err(failed)
}

/// Bytes of the header of a safetensors file, its length before it included.
///
/// Where the length is beyond the format or the file, only what is there already: opening such a file says what is wrong with it.
fn safetensors_header(first: &[u8], size: u64) -> usize {
    let claimed = first.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    match claimed {
        // Opening refuses it, and says why.
        claimed if claimed > LONGEST_SAFETENSORS || claimed + 8 > size => first.len(),
        claimed => claimed as usize + 8,
    }
}

/// Bytes of the header of a GGUF file. It does not say how long it is, so ever more is read until it ends. The error is that of
/// the network, or what is wrong with the header.
fn gguf_header(beginning: &mut Beginning<'_, '_>, size: u64) -> Result<usize, Result<WeightsError, String>> {
    let mut wanted = FIRST;
    loop {
        let bytes = beginning.reach(wanted).map_err(Ok)?;
        match gguf::header_length(bytes, usize::try_from(size).unwrap_or(usize::MAX)) {
            Ok(length) => return Ok(length),
            Err(reason) if bytes.len() < wanted || wanted >= LONGEST_GGUF || !gguf::has_magic(bytes) => {
                return Err(Err(reason));
            }
            Err(_) => wanted *= 4,
        }
    }
}

/// A new folder among the temporary files of the system, named for people who find it.
fn scratch_folder(name: &ModelName) -> Result<PathBuf, WeightsError> {
    let base = std::env::temp_dir();
    make_folder(&base)?;
    let plain = name.repository().replace('/', "--");
    for number in 0_u32.. {
        let path = base.join(format!("moescope-headers-{plain}-{}-{number}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(HostError::file("make", &path, source).into()),
        }
    }
    unreachable!("a number is free")
}

/// Makes a file of the cache appear in the outline.
fn link(file: &Path, link: &Path) -> Result<(), WeightsError> {
    let failed = |source| WeightsError::from(HostError::file("link", link, source));
    let file = file.canonicalize().map_err(failed)?;
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink(file, link);
    #[cfg(not(unix))]
    let made = fs::hard_link(&file, link).or_else(|_| fs::copy(&file, link).map(drop));
    made.map_err(failed)
}
