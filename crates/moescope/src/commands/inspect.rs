//! `moescope inspect`: what a model is, from its headers alone.
//!
//! Headers suffice for shapes and counts, so a checkpoint larger than memory is inspected in moments. Whether its
//! numbers are sound is not looked at.

use clap::Args;
use moescope_model::family_support;
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::failure::Failure;
use crate::families_page::families_page;
use crate::say;

/// Say what a model is, from its headers alone: no weight is read, and of org/name none is fetched.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A run, a Hugging Face folder, a .gguf file, or org/name[@revision].
    #[arg(required_unless_present = "families", conflicts_with = "families")]
    model: Option<String>,
    /// Print the families of checkpoints that open, with the keys that are read and refused, and stop.
    #[arg(long)]
    families: bool,
}

/// Runs the command.
///
/// # Errors
/// If the folder is no model that moescope knows.
pub fn run(args: &InspectArgs, context: &Context) -> Result<(), Failure> {
    let Some(model) = &args.model else {
        tell_families(context);
        return Ok(());
    };
    let inspection = moescope_model::inspect(Checkpoint::find_headers(model, false, context)?.path())?;
    if context.json() {
        context.print_json(&inspection);
    } else {
        let document = serde_json::to_value(&inspection).expect("an inspection is plain data");
        for (key, value) in document.as_object().expect("an inspection has fields") {
            match value {
                Value::Null => {}
                Value::String(text) => say!("{key:18} {text}"),
                other => say!("{key:18} {other}"),
            }
        }
    }
    Ok(())
}

/// The families, as a page or as one document.
fn tell_families(context: &Context) {
    let families = family_support();
    match context.json() {
        true => context.print_json(&families),
        false => say!("{}", families_page(&families).trim_end()),
    }
}
