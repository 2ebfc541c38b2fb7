//! Text and tasks for moescope: documents by domain, a tokenizer, packed token windows with
//! provenance, and synthetic tasks whose truth is planted.
//!
//! ```
//! use moescope_base::Seed;
//! use moescope_corpus::{
//!     Balance, BatchOrder, Corpus, Document, Domain, Split, SplitCorpus, SplitShares, TokenSet, Tokenizer,
//!     WindowSet,
//! };
//!
//! let domain = |name: &str, word: &str| {
//!     let text = |i| format!("{word} number {i} is followed by {word} number {}. ", i + 1).repeat(9);
//!     Domain::new(name, (0..40).map(|i| Document::new(i.to_string(), text(i))).collect())
//! };
//! let corpus = Corpus::new(vec![domain("cats", "cat"), domain("dogs", "dog")])?;
//! let split = SplitCorpus::new(&corpus, SplitShares::default())?;
//! let tokenizer = Tokenizer::train(split.texts(Split::Train), 300)?;
//! let windows = WindowSet::new(TokenSet::encode(&split, Split::Train, &tokenizer)?, 32)?;
//! let order = BatchOrder::new(Seed(1), &windows, 4, Balance::Equal)?;
//!
//! // Step 7 of this seed, whichever steps were asked for before.
//! let batch = windows.batch(&order.batch(7))?;
//! assert_eq!((batch.batch(), batch.positions()), (4, 32));
//! # Ok::<(), moescope_corpus::CorpusError>(())
//! ```
//!
//! Why this way: what a run sees must follow from its arguments alone. So the split is decided by
//! the text, merges of the tokenizer by frequency and then by the pair, the order of batches by seed
//! and step, a task's example by seed, split and index; and a hash says which tokens a result is
//! about. Windows never mix domains and know each token's document, because the questions asked of
//! the experts are about domains, and an answer must be free to leave a document out.

mod container;
mod corpus;
mod document;
mod draws;
mod error;
mod order;
mod permutation;
mod prepared;
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
pub use prepared::{PreparedText, Vocabulary};
pub use split::{Split, SplitCorpus, SplitShares};
pub use stream::TokenSet;
pub use tokenizer::{END, TokenClass, Tokenizer, TokenizerParts};
pub use window::{Window, WindowSet};
