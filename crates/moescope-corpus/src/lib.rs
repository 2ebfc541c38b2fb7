//! Text and tasks for moescope.

mod container;
mod corpus;
mod document;
mod draws;
mod error;
mod order;
mod permutation;
mod sections;
pub mod source;
mod split;
mod stream;
pub mod tasks;
mod tokenizer;
mod window;

pub use container::{pack, unpack};
pub use corpus::Corpus;
pub use document::{Document, Domain};
pub use error::CorpusError;
pub use order::{Balance, BatchOrder};
pub use split::{Split, SplitCorpus, SplitShares};
pub use stream::TokenSet;
pub use tokenizer::{END, TokenClass, Tokenizer};
pub use window::{Window, WindowSet};
