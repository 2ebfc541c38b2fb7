//! The report on the routes of a trace: chapters with tables, pictures and the findings in words.

mod chapters;
mod counted;
mod counted_words;
mod passages;
mod words;

pub use chapters::{Chapter, chapters};
pub(crate) use chapters::{
    load_finding, locality_finding, paths_finding, sharpness_finding, specialisation_finding,
    together_finding,
};
pub use counted::counted_chapters;
pub use passages::{PassageToken, Passages, passages};
