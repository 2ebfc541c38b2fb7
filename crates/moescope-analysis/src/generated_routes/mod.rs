//! Routes of what a model generates beside those of the text that it was given: decoding against prefill.
//!
//! Experts are placed, cached and balanced by what they carry while a model speaks, and mostly measured on texts that others wrote. Here the
//! first half of a sequence is the prompt. The model goes on from it token by token, drawn from its own predictions, and its routes are
//! held against those of the text's own second half, at the same positions of the same documents; and against those of the prompt itself.

mod compare;
mod generate;
mod gives;
mod instrument;
mod prompt;

pub use instrument::PrefillDecode;

/// The name in errors.
const METHOD: &str = "generated routes";
