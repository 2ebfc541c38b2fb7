//! The byte-level pipeline: words to count, the finished tokenizer, and each token's text.

use std::collections::BTreeMap;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
use tokenizers::{AddedToken, Tokenizer as Pipeline};

use super::merges::Merges;
use super::{END, TokenText};

/// Number of bytes, each of which is a token.
pub(super) const BYTES: usize = 256;

/// The words of the texts as bytes, with how often each occurs.
pub(super) fn count<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<Vec<u8>, u64>, String> {
    let splitter = splitter();
    let mut words = BTreeMap::new();
    for text in texts {
        let mut pieces = PreTokenizedString::from(text);
        splitter.pre_tokenize(&mut pieces).map_err(|error| error.to_string())?;
        for (_, (start, end), _) in pieces.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            *words.entry(text.as_bytes()[start..end].to_vec()).or_default() += 1;
        }
    }
    Ok(words)
}

/// The finished tokenizer: separator, bytes, merges.
pub(super) fn pipeline(merges: &Merges) -> Result<Pipeline, String> {
    let letters = byte_letters();
    let spell = |piece: &Vec<u8>| piece.iter().map(|&byte| letters[byte as usize]).collect::<String>();
    let pieces: Vec<String> = merges.pieces.iter().map(spell).collect();
    let pairs = merges.pairs.iter();
    let pairs = pairs.map(|&(left, right)| (pieces[left as usize].clone(), pieces[right as usize].clone()));
    let pairs = pairs.collect();
    let separator = std::iter::once(END.to_owned());
    let vocabulary: Vocab = separator.chain(pieces).zip(0..).collect();
    let model =
        BPE::builder().vocab_and_merges(vocabulary, pairs).build().map_err(|error| error.to_string())?;
    let mut pipeline = Pipeline::new(model);
    pipeline.with_pre_tokenizer(Some(splitter()));
    pipeline.with_decoder(Some(byte_level()));
    pipeline.add_special_tokens([AddedToken::from(END, true)]).map_err(|error| error.to_string())?;
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

/// The printable letter that stands for each byte in a byte-level vocabulary.
///
/// Printable bytes stand for themselves; the others, in order, for the letters from U+0100 on.
///
/// - **Source:** `bytes_to_unicode` of GPT-2 (Radford et al. 2019).
fn byte_letters() -> [char; BYTES] {
    let mut next = 0x100u32;
    std::array::from_fn(|byte| match byte as u8 {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte as u8),
        _ => {
            next += 1;
            char::from_u32(next - 1).expect("68 letters from U+0100 on are characters")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_letters_are_those_of_gpt2() {
        let letters = byte_letters();
        assert_eq!(
            (letters[b' ' as usize], letters[b'\n' as usize], letters[b'a' as usize]),
            ('Ġ', 'Ċ', 'a')
        );
        let mut ours: Vec<char> = letters.to_vec();
        let mut theirs: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn words_keep_their_leading_space_and_digits_stand_alone() {
        let words = count(["a cat 12", " cat"]).unwrap();
        let found: Vec<(&str, u64)> =
            words.iter().map(|(word, times)| (std::str::from_utf8(word).unwrap(), *times)).collect();
        assert_eq!(found, [(" ", 1), (" cat", 2), ("1", 1), ("2", 1), ("a", 1)]);
    }
}
