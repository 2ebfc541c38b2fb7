//! `moescope dictionary`: sparse dictionaries of what a model holds at a site, learned and measured.
//!
//! Training and measures are those of `moescope_dictionary`, which knows no model. Here a model and a text become a stream of rows
//! (`stream`), hook names become sites (`sites`), what a dictionary writes is put back into the model (`passes`), and the sums become
//! numbers with intervals and nulls (`measures`), tables (`tables`) and pictures (`figures`).

mod figures;
mod measure;
mod measures;
mod passes;
mod sites;
mod spelling;
mod stream;
mod tables;
mod train;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::failure::Failure;

/// Learn sparse dictionaries of a site, autoencoders and transcoders, and measure them against nulls.
///
/// Dictionaries are folders in the format of SAELens: cfg.json and sae_weights.safetensors.
#[derive(Debug, Args)]
pub struct DictionaryArgs {
    #[command(subcommand)]
    command: DictionaryCommand,
}

// What can be done with a dictionary.
#[derive(Debug, Subcommand)]
enum DictionaryCommand {
    Train(train::TrainArgs),
    Measure(measure::MeasureArgs),
}

/// Runs the command.
///
/// # Errors
/// If model, text, site or dictionary are wrong, something cannot be written, or the work is interrupted.
pub fn run(args: &DictionaryArgs, context: &Context) -> Result<(), Failure> {
    match &args.command {
        DictionaryCommand::Train(args) => train::run(args, context),
        DictionaryCommand::Measure(args) => measure::run(args, context),
    }
}
