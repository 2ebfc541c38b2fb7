//! Text to token ids and back: a byte-level BPE trained here, or any given `tokenizer.json`.

mod classes;
mod parts;
mod pieces;

use std::path::Path;

use tokenizers::Tokenizer as Pipeline;

use crate::error::CorpusError;
pub use classes::TokenClass;
pub use parts::TokenizerParts;

/// The token that separates documents.
pub const END: &str = "<|end|>";
/// Separators of other tokenizers, tried in this order when `<|end|>` is absent.
const OTHER_ENDS: [&str; 4] = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"];

/// A tokenizer with the text of each of its tokens.
#[derive(Clone)]
pub struct Tokenizer {
    pipeline: Pipeline,
    texts: Vec<TokenText>, // [token]
    end: Option<u32>,
}

/// What a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TokenText {
    text: String,
    special: bool,
}

impl Tokenizer {
    /// Trains a byte-level BPE of exactly `vocabulary` tokens where the text has enough to merge,
    /// fewer otherwise.
    ///
    /// Pre-tokenisation is GPT-2's after splitting off every digit, so a number is a token per
    /// digit. Id 0 is [`END`], ids 1 to 256 are the bytes, then the merges, most frequent first.
    /// The same texts in any order and on any number of threads give the same tokenizer.
    ///
    /// # Errors
    /// [`CorpusError::VocabularyTooSmall`] below 257.
    ///
    /// - **Source:** Sennrich et al. 2016 (BPE); Radford et al. 2019 (byte level).
    pub fn train<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        vocabulary: usize,
    ) -> Result<Self, CorpusError> {
        let least = pieces::BYTES + 1;
        if vocabulary < least {
            return Err(CorpusError::VocabularyTooSmall { found: vocabulary, wanted: least });
        }
        let texts: Vec<&str> = texts.into_iter().collect();
        let pipeline = pieces::train(&texts, vocabulary)
            .map_err(|problem| CorpusError::Tokenizer { name: "training".into(), problem })?;
        Ok(Self::of(pipeline))
    }

    /// Reads a Hugging Face `tokenizer.json`.
    ///
    /// Padding and truncation written in the file are switched off: both would change the text.
    ///
    /// # Errors
    /// [`CorpusError::Tokenizer`] when the file is missing or is no tokenizer.
    pub fn from_file(path: &Path) -> Result<Self, CorpusError> {
        let failed = |problem: String| CorpusError::Tokenizer { name: path.display().to_string(), problem };
        let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        Self::parse(&bytes).map_err(failed)
    }

    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`CorpusError::Tokenizer`] when they are no tokenizer.
    pub fn from_json(json: &[u8]) -> Result<Self, CorpusError> {
        Self::parse(json).map_err(|problem| CorpusError::Tokenizer { name: "from memory".into(), problem })
    }

    fn parse(json: &[u8]) -> Result<Self, String> {
        let mut pipeline = Pipeline::from_bytes(json).map_err(|error| error.to_string())?;
        pipeline.with_padding(None);
        pipeline.with_truncation(None).map_err(|error| error.to_string())?;
        Ok(Self::of(pipeline))
    }

    fn of(pipeline: Pipeline) -> Self {
        let ends = std::iter::once(END).chain(OTHER_ENDS);
        let end = ends.into_iter().find_map(|name| pipeline.token_to_id(name));
        let texts = pieces::token_texts(&pipeline);
        Self { pipeline, texts, end }
    }

    /// The `tokenizer.json` of this tokenizer, with sorted keys, so that equal tokenizers give equal bytes.
    pub fn to_json(&self) -> String {
        let value = serde_json::to_value(&self.pipeline).expect("a tokenizer is plain data");
        serde_json::to_string_pretty(&value).expect("JSON values always serialise") + "\n"
    }

    /// Writes `tokenizer.json`, replacing it in one step.
    ///
    /// # Errors
    /// [`CorpusError::Access`] when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), CorpusError> {
        let access = |source| CorpusError::Access { path: path.into(), source };
        let unfinished = path.with_extension("json.unfinished");
        std::fs::write(&unfinished, self.to_json()).map_err(access)?;
        std::fs::rename(&unfinished, path).map_err(access)
    }

    /// Number of token ids: one above the greatest id.
    pub fn vocabulary(&self) -> usize {
        self.texts.len()
    }

    /// The document separator's id, or `None` when a given tokenizer has none.
    pub fn end(&self) -> Option<u32> {
        self.end
    }

    /// The ids of a text, without special tokens around it. Special tokens spelled in the text are
    /// read as such.
    ///
    /// # Errors
    /// [`CorpusError::Tokenizer`] when a given tokenizer cannot encode the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, CorpusError> {
        let encoding = self.pipeline.encode_fast(text, false).map_err(|error| CorpusError::Tokenizer {
            name: "encoding".into(),
            problem: error.to_string(),
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids. Bytes that form no character become U+FFFD; ids beyond the vocabulary are
    /// left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.pipeline.decode(ids, false).unwrap_or_default()
    }

    /// The text of one token; parts of a character show as U+FFFD, ids without a token are empty.
    pub fn text(&self, id: u32) -> &str {
        self.texts.get(id as usize).map_or("", |token| token.text.as_str())
    }

    /// The class of one token.
    pub fn class(&self, id: u32) -> TokenClass {
        match self.texts.get(id as usize) {
            Some(token) if token.special => TokenClass::Special,
            Some(token) => TokenClass::of(&token.text),
            None => TokenClass::Other,
        }
    }

    /// The class of every token, by id.
    pub fn classes(&self) -> Vec<TokenClass> {
        (0..self.vocabulary() as u32).map(|id| self.class(id)).collect()
    }

    /// BLAKE3 of `tokenizer.json`, in hex.
    pub fn hash(&self) -> String {
        blake3::hash(self.to_json().as_bytes()).to_hex().to_string()
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("vocabulary", &self.vocabulary())
            .field("end", &self.end)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str =
        "the cat sat on the mat; the other cat sat in 1945 on 2 mats.\nżółw i żaba\n\tlet x = 12;";

    fn trained() -> Tokenizer {
        Tokenizer::train([TEXT], 300).unwrap()
    }

    #[test]
    fn numbers_are_a_token_per_digit() {
        let tokenizer = trained();
        let digits = tokenizer.encode("1945").unwrap();
        assert_eq!(digits.len(), 4);
        assert!(digits.iter().all(|&id| tokenizer.class(id) == TokenClass::Digit));
    }

    #[test]
    fn frequent_words_are_one_token() {
        let tokenizer = trained();
        let ids = tokenizer.encode(" the cat").unwrap();
        let texts: Vec<&str> = ids.iter().map(|&id| tokenizer.text(id)).collect();
        assert_eq!(texts, [" the", " cat"]);
    }

    #[test]
    fn the_separator_is_id_zero_and_survives_encoding() {
        let tokenizer = trained();
        assert_eq!(tokenizer.end(), Some(0));
        assert_eq!(tokenizer.encode(END).unwrap(), [0]);
        assert_eq!(tokenizer.class(0), TokenClass::Special);
        // The text repeats too little for 300 tokens; where it repeats enough, the size is exact.
        assert!(tokenizer.vocabulary() < 300);
        assert_eq!(Tokenizer::train([TEXT], 262).unwrap().vocabulary(), 262);
    }

    #[test]
    fn the_most_frequent_pair_comes_first_and_ties_go_to_the_smaller_ids() {
        // The worked example of Sennrich et al.: low 5, lower 2, newest 6, widest 3. `es` is seen 9
        // times, then `est` 9 times, then `lo` 7 times, then `low` 7 times.
        let word = |word: &str, times: usize| format!("{word},").repeat(times);
        let text = [word("low", 5), word("lower", 2), word("newest", 6), word("widest", 3)].concat();
        let tokenizer = Tokenizer::train([text.as_str()], 261).unwrap();
        let learned: Vec<&str> = (257..261).map(|id| tokenizer.text(id)).collect();
        assert_eq!(learned, ["es", "est", "lo", "low"]);
        let tie = Tokenizer::train(["cd,ab,cd,ab"], 258).unwrap();
        assert_eq!(tie.text(257), "ab");
    }

    #[test]
    fn training_ignores_order_and_saving_gives_it_back() {
        let texts: Vec<String> = (0..200).map(|i| format!("{TEXT} {}", "ab".repeat(i % 7))).collect();
        let forward = Tokenizer::train(texts.iter().map(String::as_str), 400).unwrap();
        // Each training has hash maps with keys of its own.
        let backward = Tokenizer::train(texts.iter().rev().map(String::as_str), 400).unwrap();
        assert_eq!(forward.to_json(), backward.to_json());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        forward.save(&path).unwrap();
        let read = Tokenizer::from_file(&path).unwrap();
        assert_eq!(read.to_json(), forward.to_json());
        assert_eq!(read.encode(TEXT).unwrap(), forward.encode(TEXT).unwrap());
        assert_eq!(read.hash(), forward.hash());
    }

    #[test]
    fn too_small_a_vocabulary_and_a_broken_file_are_errors() {
        assert!(Tokenizer::train([TEXT], 256).unwrap_err().to_string().contains("257"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, "{\"model\": 7}").unwrap();
        assert!(Tokenizer::from_file(&path).unwrap_err().to_string().contains("tokenizer.json"));
        assert!(Tokenizer::from_file(Path::new("/none.json")).is_err());
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "\\PC{0,40}") {
            let tokenizer = trained();
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()), text);
        }
    }
}
