//! Models by name: `org/name[@revision]` of the Hugging Face Hub, kept in the cache that its own tools use.

mod beginning;
mod cache;
mod content;
mod fetch;
mod name;
mod outline;
mod settings;

use std::path::{Path, PathBuf};

use crate::WeightsError;
use cache::Cache;
use fetch::Fetch;
pub use name::ModelName;
pub use outline::{Outline, locate_headers};
pub use settings::HubSettings;

/// How far a download has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadProgress {
    /// Name of the file in the repository.
    pub file: String,
    /// Place of the file among those that are fetched, from 1.
    pub number: usize,
    /// How many files are fetched.
    pub files: usize,
    /// Bytes of the file that are there.
    pub done: u64,
    /// Bytes of the file; `None` where the server does not say.
    pub total: Option<u64>,
}

/// Small files of a model that are fetched where they are there.
const COMPANIONS: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Where a model is on this machine: a path that exists, or the folder in the cache of a model of the hub.
///
/// What exists as a path is never looked up elsewhere, even if it is named like a model of the hub. A model of the hub is
/// fetched first if it is not in the cache, or if its revision has moved on; downloads that were broken off are taken up
/// again. `tell` hears how far they are.
///
/// # Errors
/// [`WeightsError::NoModel`] for what is neither a path nor a name, [`WeightsError::Hub`] for a model that cannot be fetched
/// and is not in the cache.
pub fn locate(
    model: &str,
    settings: &HubSettings,
    tell: &mut dyn FnMut(&DownloadProgress),
) -> Result<PathBuf, WeightsError> {
    let (name, cache) = match here(model, settings)? {
        Ok(path) => return Ok(path),
        Err(missing) => missing,
    };
    match download(&name, settings, &cache, tell) {
        // What is there is better than nothing when the hub cannot be reached.
        Err(error) if error.is_unreachable() => cache.latest(&name).ok_or(error),
        done => done,
    }
}

/// Where a model is if that is known without the hub; else its name, and the cache that lacks it.
fn here(model: &str, settings: &HubSettings) -> Result<Result<PathBuf, (ModelName, Cache)>, WeightsError> {
    if Path::new(model).exists() {
        return Ok(Ok(model.into()));
    }
    let Some(name) = ModelName::parse(model) else {
        return Err(WeightsError::NoModel { found: model.into() });
    };
    let cache = Cache::new(settings.cache(), &name);
    if name.is_commit() && cache.is_whole(name.revision()) {
        return Ok(Ok(cache.snapshot(name.revision())));
    }
    if settings.offline() {
        return cache.latest(&name).map(Ok).ok_or_else(|| WeightsError::Hub {
            model: name.to_string(),
            reason: "it is not in the cache, and HF_HUB_OFFLINE forbids to fetch it".into(),
        });
    }
    Ok(Err((name, cache)))
}

/// Fetches what is missing of a revision.
fn download(
    name: &ModelName,
    settings: &HubSettings,
    cache: &Cache,
    tell: &mut dyn FnMut(&DownloadProgress),
) -> Result<PathBuf, WeightsError> {
    let fetch = Fetch::new(name, settings);
    let listing = fetch.listing()?;
    let lock = cache.lock()?;
    let mut wanted: Vec<String> =
        COMPANIONS.iter().filter(|file| listing.has(file)).map(|&file| file.to_owned()).collect();
    wanted.extend(weights(name, &listing)?);
    let mut fetched = 0;
    while fetched < wanted.len() {
        let file = wanted[fetched].clone();
        fetched += 1;
        let place = (fetched, wanted.len());
        cache.add(&fetch, &listing.commit, &file, place, tell)?;
        if file == INDEX {
            wanted.extend(crate::safetensors_files::shard_names(&cache.snapshot(&listing.commit))?);
        }
    }
    cache.remember(name.revision(), &listing.commit)?;
    drop(lock);
    Ok(cache.snapshot(&listing.commit))
}

/// The files with weights, or the index that names them.
fn weights(name: &ModelName, listing: &fetch::Listing) -> Result<Vec<String>, WeightsError> {
    if let Some(file) = [SINGLE, INDEX].into_iter().find(|file| listing.has(file)) {
        return Ok(vec![file.to_owned()]);
    }
    let gguf: Vec<String> =
        listing.files.iter().filter(|file| file.ends_with(".gguf") && !file.contains('/')).cloned().collect();
    let reason = match gguf.len() {
        1 => return Ok(gguf),
        0 => "it holds neither model.safetensors nor an index of shards nor a .gguf file".into(),
        _ => format!(
            "it holds {} .gguf files; fetch one of them yourself and give its path: {}",
            gguf.len(),
            gguf.join(", ")
        ),
    };
    Err(WeightsError::Hub { model: name.to_string(), reason })
}

#[cfg(test)]
mod tests;
