//! Training the byte-level pipeline, and each token's text.

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer as Pipeline};

use super::{END, TokenText};

/// Number of bytes, each of which is a token.
pub(super) const BYTES: usize = 256;

/// Trains the pipeline: separator, bytes, then merges of pairs seen at least twice.
///
/// The trainer merges the most frequent pair, of equally frequent ones the one with the smaller ids.
/// A pair enters its queue once (in the step that makes the younger of its two pieces), so that order
/// is total, and neither hash maps nor threads can change the outcome.
pub(super) fn train(texts: &[&str], vocabulary: usize) -> Result<Pipeline, String> {
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocabulary)
        .min_frequency(2)
        .special_tokens(vec![AddedToken::from(END, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut pipeline = Pipeline::new(BPE::default());
    pipeline.with_pre_tokenizer(Some(splitter()));
    pipeline.with_decoder(Some(byte_level()));
    pipeline.train(&mut TrainerWrapper::from(trainer), texts.iter()).map_err(|error| error.to_string())?;
    Ok(pipeline)
}

/// The text of every id of any tokenizer.
pub(super) fn token_texts(pipeline: &Pipeline) -> Vec<TokenText> {
    let added = pipeline.get_added_tokens_decoder();
    let greatest = pipeline.get_vocab(true).into_values().max();
    let text = |id: u32| TokenText {
        text: pipeline.decode(&[id], false).unwrap_or_default(),
        special: added.get(&id).is_some_and(|token| token.special),
    };
    greatest.map_or_else(Vec::new, |greatest| (0..=greatest).map(text).collect())
}

fn byte_level() -> ByteLevel {
    ByteLevel::new(false, false, true)
}

fn splitter() -> PreTokenizerWrapper {
    let digits = PreTokenizerWrapper::Digits(Digits::new(true));
    let bytes = PreTokenizerWrapper::ByteLevel(byte_level());
    PreTokenizerWrapper::Sequence(Sequence::new(vec![digits, bytes]))
}
