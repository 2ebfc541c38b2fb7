//! `moescope export`: a plain Hugging Face folder from a run.
//!
//! A run holds more than a model: manifest, metrics, resume points, measurements. Other tools expect a folder with
//! nothing of that.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use moescope_model::Model;

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::failure::Failure;
use crate::say;

/// Files of a run that belong to the plain model beside configuration and weights.
const COMPANIONS: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json"];

/// Write a plain Hugging Face folder: configuration, weights and tokenizer, nothing else.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A run, or any model that moescope opens: a Hugging Face folder, a .gguf file, or org/name[@revision].
    run: String,
    /// Folder to make; it must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// If the run cannot be opened, the folder is not empty, or a file cannot be written.
pub fn run(args: &ExportArgs, context: &Context) -> Result<(), Failure> {
    require_empty(&args.out)?;
    let checkpoint = Checkpoint::find(&args.run, context)?;
    let model = Model::open(checkpoint.path())?;
    model.save(&args.out)?;
    for name in COMPANIONS {
        if let Some(file) = checkpoint.companion(name) {
            copy(&file, &args.out.join(name))?;
        }
    }
    if checkpoint.is_gguf() {
        // The weights are written by now, so that a tokenizer of a kind that is not known is worth a word and no failure.
        match checkpoint.tokenizer() {
            Ok(tokenizer) => tokenizer.save(&args.out.join("tokenizer.json"))?,
            Err(failure) => context.progress().note(&format!("no tokenizer.json: {}", failure.message)),
        }
    }
    if context.json() {
        context.print_json(&serde_json::json!({ "exported": args.out }));
    } else {
        say!("{}", args.out.display());
    }
    Ok(())
}

/// Refuses a folder that holds anything, so that an export is all of what lies there.
fn require_empty(folder: &Path) -> Result<(), Failure> {
    let taken = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if taken {
        let place = folder.display();
        return Err(Failure::input(format!("{place} is not empty; choose a new or empty folder as --out")));
    }
    Ok(())
}

/// Copies a file, whole or not at all.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let partial = to.with_extension("partial");
    let copied = fs::copy(from, &partial).and_then(|_| fs::rename(&partial, to));
    copied.map_err(|error| {
        Failure::input(format!("cannot copy {} to {}: {error}", from.display(), to.display()))
    })
}
