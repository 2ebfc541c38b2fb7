//! The models that `--against` names, to be compared with the one that is asked about.
//!
//! Two models can be compared token by token only if they cut text into the same tokens, so their
//! vocabularies are held against each other before any of them is run. The other models are not opened here:
//! an instrument gets their names and opens each when it comes to it.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use moescope_analysis::AnalysisError;
use moescope_analysis::instrument::Other;
use moescope_base::{HookPoint, Site, Subject, SubjectError, SubjectShape};
use moescope_corpus::Tokenizer;
use moescope_model::{MemoryPlan, Model, ModelError, ModelSubject, Work};
use moescope_trace::routing_points;

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::failure::Failure;

/// Another model on this machine.
#[derive(Debug)]
pub struct OtherModel {
    name: String,
    checkpoint: Checkpoint,
}

/// How other models are opened and run: as the first one is.
#[derive(Clone, Debug)]
pub struct Running {
    /// Sequences in a pass.
    pub sequences: usize,
    /// Tokens in a sequence.
    pub positions: usize,
    /// Threads.
    pub threads: usize,
    /// Bytes that may be taken.
    pub bound: u64,
    /// Ends a pass.
    pub stop: Arc<AtomicBool>,
}

impl OtherModel {
    /// The models of a list; a folder without a model in it stands for the models in its sub-folders, in the order of their names.
    ///
    /// # Errors
    /// If one is not found, is named twice, or has other tokens than the first model.
    pub fn find_all(
        named: &[String],
        tokenizer: &Tokenizer,
        only_plans: bool,
        context: &Context,
    ) -> Result<Vec<OtherModel>, Failure> {
        let mut models: Vec<String> = Vec::new();
        for model in named {
            let inside = checkpoints(Path::new(model));
            if inside.is_empty() {
                models.push(model.clone());
            }
            models.extend(inside.iter().map(|path| path.to_string_lossy().into_owned()));
        }
        let mut found: Vec<OtherModel> = Vec::new();
        let mut places: Vec<PathBuf> = Vec::new();
        for (model, name) in models.iter().zip(distinct(&models)) {
            let checkpoint = Checkpoint::find_for(model, only_plans, context)?;
            let place = checkpoint.path().canonicalize().unwrap_or_else(|_| checkpoint.path().to_owned());
            if let Some(before) = places.iter().position(|known| *known == place) {
                return Err(Failure::input(format!(
                    "--against: {} and {model} are one model; name each once",
                    models[before]
                )));
            }
            places.push(place);
            found.push(OtherModel { name, checkpoint });
        }
        for other in &found {
            other.require_same_tokens(tokenizer)?;
        }
        Ok(found)
    }

    /// Refuses a model whose tokens are others; checkpoints without a tokenizer are believed to have that of their last.
    ///
    /// The sizes of the vocabularies and the text of every token are compared, not the rules by which tokens
    /// are merged.
    fn require_same_tokens(&self, tokenizer: &Tokenizer) -> Result<(), Failure> {
        if self.checkpoint.companion("tokenizer.json").is_none() && !self.checkpoint.is_gguf() {
            return Ok(());
        }
        let other = self.checkpoint.tokenizer()?;
        let (own, theirs) = (tokenizer.vocabulary(), other.vocabulary());
        let differs = (0..own.min(theirs) as u32).any(|id| tokenizer.text(id) != other.text(id));
        if own != theirs || differs {
            return Err(Failure::input(format!(
                "--against {}: its tokens are not those of the first model; models are compared token by token, so name one with the same \
                 tokenizer",
                self.name
            )));
        }
        Ok(())
    }

    /// Bytes that the model takes beside the first.
    ///
    /// # Errors
    /// If its files are no model.
    pub fn memory(&self, running: &Running) -> Result<u64, Failure> {
        let shape = moescope_model::describe(self.checkpoint.path())?.subject_shape();
        let record = record(&shape);
        let plan = MemoryPlan::new(self.checkpoint.path(), &running.work(&record), u64::MAX)?;
        Ok(plan.in_memory)
    }

    /// The model as instruments take it.
    pub fn to_open<'a>(&'a self, running: &Running) -> Other<'a> {
        let running = running.clone();
        let open = move || {
            let subject = self.open(&running).map_err(SubjectError::from).map_err(AnalysisError::from)?;
            Ok(Box::new(subject) as Box<dyn Subject + Send>)
        };
        Other::named(&self.name, Box::new(open))
    }

    fn open(&self, running: &Running) -> Result<ModelSubject, ModelError> {
        let shape = moescope_model::describe(self.checkpoint.path())?.subject_shape();
        let record = record(&shape);
        let (model, _) = Model::open_within(self.checkpoint.path(), &running.work(&record), running.bound)?;
        // What is left of memory may be the first model's already.
        Ok(ModelSubject::new(model).keeping_streams(0).stopped_by(Arc::clone(&running.stop)))
    }
}

impl Running {
    fn work<'a>(&self, record: &'a [HookPoint]) -> Work<'a> {
        Work {
            batch: self.sequences,
            positions: self.positions,
            record,
            edits: &[],
            gradients: false,
            kept: 0,
            threads: self.threads,
        }
    }
}

/// What is looked at in another model: routes and the stream after each block.
fn record(shape: &SubjectShape) -> Vec<HookPoint> {
    let streams = (0..shape.layers()).map(|layer| HookPoint::block(Site::ResidPost, layer));
    routing_points(shape).into_iter().chain(streams).collect()
}

/// Models in the sub-folders of a folder that is none itself.
fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    if folder.join("config.json").exists() {
        return Vec::new();
    }
    let entries = std::fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()));
    let mut found: Vec<PathBuf> = entries
        .map(|paths| paths.filter(|path| path.join("config.json").is_file()).collect())
        .unwrap_or_default();
    found.sort();
    found
}

/// Names for models: the last part of each path, or as many more parts as it takes until no two are called alike.
///
/// Paths that are equal to the letter keep one name; that they are one model is told where they are opened.
fn distinct(models: &[String]) -> Vec<String> {
    let parts: Vec<Vec<String>> = models.iter().map(|model| parts(Path::new(model))).collect();
    let name = |parts: &[String], taken: usize| parts[parts.len().saturating_sub(taken)..].join("/");
    let of = |own: &Vec<String>| {
        let alone = |taken: &usize| {
            let others = parts.iter().filter(|other| *other != own);
            others.map(|other| name(other, *taken)).all(|other| other != name(own, *taken))
        };
        name(own, (1..=own.len()).find(alone).unwrap_or(own.len()))
    };
    parts.iter().map(of).collect()
}

/// The parts of a path that name something.
fn parts(path: &Path) -> Vec<String> {
    let named = path.components().filter(|part| !matches!(part, Component::CurDir));
    let found: Vec<String> = named.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if found.is_empty() { vec![path.to_string_lossy().into_owned()] } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_one_last_name_are_told_apart_by_what_comes_before() {
        let of =
            |models: &[&str]| distinct(&models.iter().map(|model| (*model).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["runs/a/final", "runs/b/step-5"]), ["final", "step-5"]);
        assert_eq!(of(&["runs/a/final", "runs/b/final/", "x"]), ["a/final", "b/final", "x"]);
        assert_eq!(of(&["final", "./b/final"]), ["final", "b/final"]);
        assert_eq!(of(&["a/x", "a/x"]), ["x", "x"], "one model named twice is refused elsewhere");
    }
}
