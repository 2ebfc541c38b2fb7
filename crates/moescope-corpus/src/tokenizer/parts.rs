//! A tokenizer from the lists that GGUF files hold instead of a `tokenizer.json`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Tokenizer;
use crate::error::CorpusError;

/// What a model file says about its tokenizer, as plain lists.
#[derive(Clone, Copy, Debug)]
pub struct TokenizerParts<'a> {
    /// `gpt2`: pairs of bytes are merged, in the order of `merges`. `llama`: pairs of characters, by the score of what they
    /// make; characters that have no token become bytes.
    pub model: &'a str,
    /// How text is split before pairs are merged, by the name that llama.cpp has for it. Of no meaning for `llama`.
    pub splitter: Option<&'a str>,
    /// Every token by its id.
    pub tokens: &'a [String],
    /// 1 for a plain token, 3 for a special one, 4 for one that is always read whole, 6 for a byte; others are never read.
    /// None: all are plain.
    pub kinds: &'a [i64],
    /// Pairs with a blank between, the first to be merged first.
    pub merges: &'a [String],
    /// How early a token is made; of no meaning for `gpt2`.
    pub scores: &'a [f32],
    /// Whether a blank is put before the text; of no meaning for `gpt2`.
    pub leading_blank: bool,
}

/// A token that controls, such as the end of a text.
const SPECIAL: i64 = 3;
/// A token that somebody added, and that is read whole wherever it stands.
const ADDED: i64 = 4;
/// The blank of `llama` tokenizers.
const BLANK: &str = "▁";

/// GPT-2's words.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Each digit for itself.
const DIGIT: &str = r"\p{N}";
/// Words of Llama 3, numbers by three digits.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words of Qwen 2, each digit for itself.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words of Mistral's tekken: a capital begins one.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words of GPT-4o and gpt-oss: a capital begins one, an abbreviation ends it.
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Names of the splitters with their patterns, one after the other, and whether a word that is a token is taken whole.
const SPLITTERS: [(&[&str], &[&str], bool); 6] = [
    (&["gpt-2", "phi-2", "mpt", "olmo", "exaone4", "mellum"], &[WORDS], false),
    (
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        &[DIGIT, WORDS],
        false,
    ),
    (&["llama-bpe", "llama3", "llama-v3", "pixtral", "falcon3"], &[LLAMA_3], true),
    (&["qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"], &[QWEN_2], false),
    (&["tekken"], &[TEKKEN], true),
    (&["gpt-4o", "llama4"], &[GPT_4O], false),
];

impl Tokenizer {
    /// Makes a tokenizer of its parts.
    ///
    /// It gives the tokens that llama.cpp gives, but for the one that llama.cpp puts before a text of some models: as
    /// everywhere here, a text is encoded without tokens around it.
    ///
    /// # Errors
    /// [`CorpusError::Tokenizer`] for a model or a splitter that is not known, and for lists that do not fit each other.
    ///
    /// - **Source:** patterns and names of `llama-vocab.cpp` of llama.cpp.
    pub fn from_parts(parts: &TokenizerParts<'_>) -> Result<Tokenizer, CorpusError> {
        let failed = |problem| CorpusError::Tokenizer { name: "in the model file".into(), problem };
        let document = document(parts).map_err(failed)?;
        Self::parse(document.to_string().as_bytes()).map_err(failed)
    }
}

/// The `tokenizer.json` of the parts.
fn document(parts: &TokenizerParts<'_>) -> Result<Value, String> {
    let lists = [("kinds", parts.kinds.len()), ("scores", parts.scores.len())];
    let tokens = parts.tokens.len();
    if let Some((list, length)) = lists.into_iter().find(|(_, length)| ![0, tokens].contains(length)) {
        return Err(format!("there are {tokens} tokens and {length} {list}"));
    }
    let mut document = match parts.model {
        "gpt2" => byte_pairs(parts)?,
        "llama" => scored_pairs(parts)?,
        other => return Err(format!("its model is `{other}`, and gpt2 and llama are known")),
    };
    let added = |kind: &i64| matches!(*kind, SPECIAL | ADDED);
    let kinds = parts.kinds.iter().zip(parts.tokens).enumerate();
    let token = |(id, (kind, text)): (usize, (&i64, &String))| {
        json!({
            "id": id, "content": text, "special": *kind == SPECIAL,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    let added: Vec<Value> = kinds.filter(|(_, (kind, _))| added(kind)).map(token).collect();
    document["version"] = json!("1.0");
    document["added_tokens"] = Value::Array(added);
    Ok(document)
}

/// Every token with its id.
fn vocabulary<'a>(parts: &TokenizerParts<'a>) -> BTreeMap<&'a str, usize> {
    parts.tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect()
}

/// Byte-level pairs in a given order.
fn byte_pairs(parts: &TokenizerParts<'_>) -> Result<Value, String> {
    let name = parts.splitter.unwrap_or("absent");
    let Some((_, patterns, whole)) = SPLITTERS.iter().find(|(names, ..)| names.contains(&name)) else {
        let known: Vec<&str> = SPLITTERS.iter().flat_map(|(names, ..)| names.iter().copied()).collect();
        return Err(format!("its splitter is `{name}`, and these are known: {}", known.join(", ")));
    };
    // The first character may itself be the blank.
    let pair = |merge: &String| {
        let first = merge.chars().next().map_or(0, char::len_utf8);
        let blank = first + merge[first..].find(' ')?;
        Some(json!([merge[..blank], merge[blank + 1..]]))
    };
    let merges: Option<Vec<Value>> = parts.merges.iter().map(pair).collect();
    let merges = merges.ok_or("a merge is no pair with a blank between")?;
    let split = |pattern: &&str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let splits: Vec<Value> = patterns.iter().map(split).chain([bytes.clone()]).collect();
    Ok(json!({
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": splits},
        "decoder": bytes,
        "model": {"type": "BPE", "vocab": vocabulary(parts), "merges": merges, "ignore_merges": whole},
    }))
}

/// Pairs of characters, those first whose token has the highest score.
fn scored_pairs(parts: &TokenizerParts<'_>) -> Result<Value, String> {
    if parts.scores.is_empty() {
        return Err("its tokens have no scores".into());
    }
    let vocabulary = vocabulary(parts);
    let mut merges: Vec<(f32, usize, &str, &str)> = Vec::new();
    for (token, score) in parts.tokens.iter().zip(parts.scores) {
        let cuts = token.char_indices().skip(1).map(|(place, _)| token.split_at(place));
        let known =
            cuts.filter(|(left, right)| vocabulary.contains_key(left) && vocabulary.contains_key(right));
        merges.extend(known.map(|(left, right)| (*score, vocabulary[left], left, right)));
    }
    merges.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    let merges: Vec<Value> = merges.into_iter().map(|(_, _, left, right)| json!([left, right])).collect();
    let blanks = json!({"type": "Replace", "pattern": {"String": " "}, "content": BLANK});
    let leading = parts.leading_blank.then(|| json!({"type": "Prepend", "prepend": BLANK}));
    let normalizers: Vec<Value> = leading.into_iter().chain([blanks]).collect();
    let unknown = parts.kinds.iter().position(|kind| *kind == 2).and_then(|id| parts.tokens.get(id));
    let strip = json!({"type": "Strip", "content": " ", "start": u8::from(parts.leading_blank), "stop": 0});
    Ok(json!({
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, strip,
        ]},
        "model": {
            "type": "BPE", "vocab": vocabulary, "merges": merges, "byte_fallback": true, "fuse_unk": true,
            "unk_token": unknown,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn pairs_of_bytes_are_merged_in_order_within_words() {
        let tokens = texts(&["<|end|>", "a", "b", "Ġ", "ab", "Ġab", "1", "11", "<x>"]);
        let merges = texts(&["a b", "Ġ ab", "1 1"]);
        let parts = |splitter| TokenizerParts {
            model: "gpt2",
            splitter: Some(splitter),
            tokens: &tokens,
            kinds: &[3, 1, 1, 1, 1, 1, 1, 1, 4],
            merges: &merges,
            scores: &[],
            leading_blank: false,
        };
        let digits = Tokenizer::from_parts(&parts("smollm")).unwrap();
        assert_eq!(digits.encode("ab ab11<|end|>b<x>").unwrap(), [4, 5, 6, 6, 0, 2, 8]);
        assert_eq!(digits.decode(&[4, 5, 6, 0]), "ab ab1<|end|>");
        let numbers = Tokenizer::from_parts(&parts("gpt-2")).unwrap();
        assert_eq!(numbers.encode("ab11").unwrap(), [4, 7]);
        let error = Tokenizer::from_parts(&parts("klingon")).unwrap_err().to_string();
        assert!(error.contains("`klingon`") && error.contains("smollm"), "{error}");
    }

    #[test]
    fn pairs_of_characters_are_merged_by_score_and_the_rest_are_bytes() {
        let tokens = texts(&["<unk>", "<s>", "<0xC3>", "<0xB3>", "▁", "a", "b", "ab", "▁a", "ba"]);
        let parts = TokenizerParts {
            model: "llama",
            splitter: None,
            tokens: &tokens,
            kinds: &[2, 3, 6, 6, 1, 1, 1, 1, 1, 1],
            merges: &[],
            scores: &[0.0, 0.0, 0.0, 0.0, -9.0, -7.0, -8.0, -2.0, -1.0, -3.0],
            leading_blank: true,
        };
        let tokenizer = Tokenizer::from_parts(&parts).unwrap();
        // The leading blank takes the first `a`, whose token has the best score.
        assert_eq!(tokenizer.encode("abó").unwrap(), [8, 6, 2, 3]);
        assert_eq!(tokenizer.decode(&[8, 6, 2, 3]), "abó");
        let plain = Tokenizer::from_parts(&TokenizerParts { leading_blank: false, ..parts }).unwrap();
        assert_eq!(plain.encode("ab").unwrap(), [7]);
    }

    #[test]
    fn lists_that_do_not_fit_are_refused() {
        let tokens = texts(&["a", "b"]);
        let merges = texts(&["ab"]);
        let parts = TokenizerParts {
            model: "gpt2",
            splitter: Some("gpt-2"),
            tokens: &tokens,
            kinds: &[1],
            merges: &merges,
            scores: &[],
            leading_blank: false,
        };
        let refused = |parts: TokenizerParts<'_>, part: &str| {
            let error = Tokenizer::from_parts(&parts).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(parts, "2 tokens and 1 kinds");
        refused(TokenizerParts { kinds: &[], ..parts }, "no pair");
        refused(TokenizerParts { kinds: &[], model: "llama", ..parts }, "no scores");
        refused(TokenizerParts { kinds: &[], model: "bert", ..parts }, "`bert`");
        let unknown = texts(&["a c"]);
        refused(TokenizerParts { kinds: &[], merges: &unknown, ..parts }, "tokenizer");
    }
}
