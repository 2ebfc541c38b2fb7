//! From a corpus to what a language model is trained and judged on, the same way for every command.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::Corpus;
use crate::error::CorpusError;
use crate::split::{Split, SplitCorpus, SplitShares};
use crate::stream::TokenSet;
use crate::tokenizer::Tokenizer;
use crate::window::WindowSet;

/// Where the tokens of a text come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Vocabulary {
    /// Byte-level pairs, learned from the training split up to this many tokens.
    Learned(usize),
    /// A `tokenizer.json`.
    File(PathBuf),
}

/// A corpus that is split, tokenised and cut into windows.
///
/// The tokenizer sees the training split only, and whole documents are split before windows are cut, so nothing of the held-out
/// text reaches a model. The test split is left untouched.
#[derive(Clone, Debug)]
pub struct PreparedText {
    /// Learned from the training split, or read from a file.
    pub tokenizer: Tokenizer,
    /// All windows of the training split.
    pub training: WindowSet,
    /// All windows of the validation split.
    pub validation: WindowSet,
    /// Domains of fewer than three documents, whose validation text has passages of the same documents beside it in training.
    pub cut_domains: Vec<String>,
}

impl Corpus {
    /// The embedded corpus for the name `embedded`, otherwise the folder with one sub-folder for each domain.
    ///
    /// # Errors
    /// As [`Corpus::from_folder`].
    pub fn named(name: &Path) -> Result<Corpus, CorpusError> {
        if name == Path::new("embedded") { Corpus::embedded() } else { Corpus::from_folder(name) }
    }
}

impl PreparedText {
    /// Splits, tokenises and cuts a corpus into windows of `positions` tokens.
    ///
    /// Everything follows from the arguments; no seed is involved.
    ///
    /// # Errors
    /// If a domain is too small to be split or to fill one window in each split, or the tokenizer cannot be had.
    pub fn cut(
        corpus: &Corpus,
        vocabulary: &Vocabulary,
        positions: usize,
    ) -> Result<PreparedText, CorpusError> {
        let split = SplitCorpus::new(corpus, SplitShares::default())?;
        let tokenizer = match vocabulary {
            Vocabulary::Learned(size) => Tokenizer::train(split.texts(Split::Train), *size)?,
            Vocabulary::File(path) => Tokenizer::from_file(path)?,
        };
        let windows = |part| WindowSet::new(TokenSet::encode(&split, part, &tokenizer)?, positions);
        let (training, validation) = (windows(Split::Train)?, windows(Split::Validation)?);
        let cut_domains = split.cut().map(str::to_owned).collect();
        Ok(PreparedText { tokenizer, training, validation, cut_domains })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, Domain};

    #[test]
    fn only_the_training_split_shapes_the_tokenizer_and_no_text_is_in_both_splits() {
        // Each document has a word that no other has, so that a tokenizer shows which of them it has seen.
        let word = |i: usize| {
            [b'a' + (i % 26) as u8, b'A' + (i / 26) as u8].map(char::from).iter().collect::<String>()
        };
        let text = |i: usize| format!("{} of many. ", word(i).repeat(3)).repeat(8);
        let documents = (0..60).map(|i| Document::new(i.to_string(), text(i))).collect();
        let corpus = Corpus::new(vec![Domain::new("one", documents)]).unwrap();
        let prepared = PreparedText::cut(&corpus, &Vocabulary::Learned(400), 16).unwrap();
        let split = SplitCorpus::new(&corpus, SplitShares::default()).unwrap();
        let alone = Tokenizer::train(split.texts(Split::Train), 400).unwrap();
        assert_eq!(prepared.tokenizer.hash(), alone.hash());
        let all: Vec<&str> = corpus.domains()[0].documents.iter().map(|d| d.text.as_str()).collect();
        assert_ne!(prepared.tokenizer.hash(), Tokenizer::train(all, 400).unwrap().hash());
        assert_ne!(prepared.training.hash(), prepared.validation.hash());
    }

    #[test]
    fn a_missing_folder_and_a_missing_tokenizer_are_named() {
        let error = Corpus::named(Path::new("/no/such/corpus")).unwrap_err().to_string();
        assert!(error.contains("/no/such/corpus"), "{error}");
        let corpus = Corpus::named(Path::new("embedded")).unwrap();
        let absent = Vocabulary::File("/no/tokenizer.json".into());
        let error = PreparedText::cut(&corpus, &absent, 64).unwrap_err().to_string();
        assert!(error.contains("/no/tokenizer.json"), "{error}");
    }
}
