//! A model as a command is given it: a folder, a `.gguf` file, or a name on the Hugging Face Hub.
//!
//! The one place that turns what was typed into files, so that every command takes the same forms.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moescope_corpus::{Tokenizer, TokenizerParts};
use moescope_weights::{
    DownloadProgress, HubSettings, Metadata, MetadataValue, Outline, Weights, locate, locate_headers,
};

use crate::context::Context;
use crate::failure::Failure;

/// A model on this machine.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    /// Keeps the headers of a model that is not on this machine for as long as somebody looks at them.
    _outline: Option<Arc<Outline>>,
}

impl Checkpoint {
    /// Finds a model: a run or Hugging Face folder, a `.gguf` or `.safetensors` file, or `org/name[@revision]`, which is fetched
    /// if it is not in the cache. A path that exists wins over such a name; nothing else is ever fetched.
    ///
    /// # Errors
    /// If it is neither, or cannot be fetched.
    pub fn find(model: &str, context: &Context) -> Result<Checkpoint, Failure> {
        let path = telling(context, |tell| locate(model, &HubSettings::from_environment(), tell))?;
        Ok(Checkpoint { path, _outline: None })
    }

    /// As [`find`](Checkpoint::find), but of a model of the hub that is not in the cache only the headers of its weights are fetched,
    /// whose numbers then read as zero: for what looks at shapes alone. `tokenizer`: what belongs to text is fetched, too.
    ///
    /// # Errors
    /// As [`find`](Checkpoint::find).
    pub fn find_headers(model: &str, tokenizer: bool, context: &Context) -> Result<Checkpoint, Failure> {
        let settings = HubSettings::from_environment();
        let outline = telling(context, |tell| locate_headers(model, &settings, tokenizer, tell))?;
        if !outline.is_whole() {
            context.name_path(outline.path(), model);
        }
        for file in outline.unranged() {
            context.progress().note(&format!(
                "the server sends no part of a file: reading of {file} was stopped behind its header"
            ));
        }
        Ok(Checkpoint { path: outline.path().into(), _outline: Some(Arc::new(outline)) })
    }

    /// The model of a command that works with it, or that only plans: then its headers suffice, and what belongs to text.
    ///
    /// # Errors
    /// As [`find`](Checkpoint::find).
    pub fn find_for(model: &str, only_plans: bool, context: &Context) -> Result<Checkpoint, Failure> {
        match only_plans {
            true => Checkpoint::find_headers(model, true, context),
            false => Checkpoint::find(model, context),
        }
    }

    /// Folder or file, for the library.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file that belongs to the model beside its weights, such as `tokenizer.json`, if it is there. What lies beside a
    /// `.gguf` file does not belong to it: it holds everything itself.
    pub fn companion(&self, name: &str) -> Option<PathBuf> {
        let folder = if self.path.is_dir() { &self.path } else { self.path.parent()? };
        let file = folder.join(name);
        (file.exists() && (self.path.is_dir() || !self.is_gguf())).then_some(file)
    }

    /// Whether the model is a `.gguf` file.
    pub fn is_gguf(&self) -> bool {
        self.path.extension().is_some_and(|ending| ending == "gguf")
    }

    /// The tokenizer: `tokenizer.json` of the folder, or what a GGUF file says about it.
    ///
    /// # Errors
    /// If there is none, or it is of a kind that is not known.
    pub fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        if let Some(file) = self.companion("tokenizer.json") {
            return Ok(Tokenizer::from_file(&file)?);
        }
        match Weights::open(&self.path)?.metadata() {
            Some(metadata) => from_metadata(metadata),
            // It is not there, and the message says so.
            None => Ok(Tokenizer::from_file(&self.path.join("tokenizer.json"))?),
        }
    }
}

/// Runs what may fetch, and shows how far it is.
fn telling<T>(
    context: &Context,
    fetch: impl FnOnce(&mut dyn FnMut(&DownloadProgress)) -> Result<T, moescope_weights::WeightsError>,
) -> Result<T, Failure> {
    let progress = context.progress();
    let mut begun = 0;
    let mut tell = |now: &DownloadProgress| {
        let what = format!("fetching {} ({} of {})", now.file, now.number, now.files);
        if begun != now.number {
            begun = now.number;
            progress.note(&what);
        }
        if let Some(total) = now.total.filter(|total| *total > 0) {
            progress.advance(now.done as f64 / total as f64, None, &what);
        }
    };
    let found = fetch(&mut tell)?;
    progress.clear();
    Ok(found)
}

/// The tokenizer that a GGUF file describes.
fn from_metadata(metadata: &Metadata) -> Result<Tokenizer, Failure> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let texts = |name: &str| metadata.texts(&key(name)).unwrap_or_default();
    let Some(model) = metadata.text(&key("model")) else {
        return Err(Failure::input(
            "the file has no tokenizer (`tokenizer.ggml.model` is absent); `record` takes token ids (--ids), other commands need text",
        ));
    };
    // An empty list of whole numbers may stand where one of reals is meant.
    let scores = match metadata.get(&key("scores")) {
        Some(MetadataValue::Reals(scores)) => scores.as_slice(),
        _ => &[],
    };
    Ok(Tokenizer::from_parts(&TokenizerParts {
        model,
        splitter: metadata.text(&key("pre")),
        tokens: texts("tokens"),
        kinds: metadata.integers(&key("token_type")).unwrap_or_default(),
        merges: texts("merges"),
        scores,
        leading_blank: metadata.flag(&key("add_space_prefix")).unwrap_or(true),
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of llama.cpp for the test texts that come with its vocabularies, which are too large to be kept here. Set
    /// `MOESCOPE_GGUF_VOCABULARIES` to the folder `models` of its source to compare.
    #[test]
    fn tokens_are_those_of_llama_cpp_where_its_vocabularies_are_at_hand() {
        let Some(folder) = std::env::var_os("MOESCOPE_GGUF_VOCABULARIES") else { return };
        let mut compared = 0;
        for name in
            ["gpt-2", "mpt", "llama-bpe", "qwen2", "starcoder", "refact", "command-r", "llama-spm", "phi-3"]
        {
            let path = Path::new(&folder).join(format!("ggml-vocab-{name}.gguf"));
            let tokenizer = Checkpoint { path: path.clone(), _outline: None }.tokenizer().unwrap();
            let read =
                |ending: &str| std::fs::read_to_string(format!("{}.{ending}", path.display())).unwrap();
            let (inputs, outputs) = (read("inp"), read("out"));
            for (text, ids) in inputs.split("\n__ggml_vocab_test__\n").zip(outputs.lines()) {
                let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
                assert_eq!(tokenizer.encode(text).unwrap(), ids, "{name}: {text:?}");
                compared += 1;
            }
        }
        assert!(compared > 300, "{compared}");
    }
}
