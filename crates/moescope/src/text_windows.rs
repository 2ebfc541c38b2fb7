//! A corpus as windows and batches: what `routing` and `analyze` run a model on.

use std::iter::repeat_n;

use moescope_base::Tokens;
use moescope_corpus::{Corpus, TokenClass, Tokenizer};
use moescope_trace::TokenTable;

use crate::failure::Failure;

/// The input of one forward pass, and what is known about its tokens in the same order.
pub(crate) type Batch = (Tokens, TokenTable);

/// Consecutive tokens of one document, exactly as many as were asked for.
pub(crate) struct Window {
    domain: u16,
    document: u32,
    ids: Vec<u32>,
}

/// The corpus as windows; a window is of one document, and what does not fill one is left out.
///
/// Windows are taken from the beginning of each domain until `limit` tokens are reached, so a document at the end of
/// a large domain may not be seen at all.
///
/// # Errors
/// If a domain has no document as long as a window, or text cannot be encoded.
pub(crate) fn windows(
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    positions: usize,
    limit: usize,
) -> Result<Vec<Window>, Failure> {
    let mut windows = Vec::new();
    // Numbered through all domains: documents are the independent units, so no two may share a number.
    let mut document = 0;
    for (domain, source) in corpus.domains().iter().enumerate() {
        let before = windows.len();
        for text in &source.documents {
            let ids = tokenizer.encode(&text.text)?;
            let window = |ids: &[u32]| Window { domain: domain as u16, document, ids: ids.to_vec() };
            windows.extend(ids.chunks_exact(positions).map(window));
            document += 1;
        }
        windows.truncate(before + (limit / positions).max(1));
        if windows.len() == before {
            let name = &source.name;
            return Err(Failure::input(format!(
                "domain `{name}` has no document of {positions} tokens; add longer text, or ask for fewer with --positions"
            )));
        }
    }
    Ok(windows)
}

/// Tokens of the windows with their facts: row `window × positions + position`. After the last token of a window
/// stands the end token as the next one.
fn token_table(
    windows: &[Window],
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    positions: usize,
) -> Result<Batch, Failure> {
    let ids: Vec<u32> = windows.iter().flat_map(|window| &window.ids).copied().collect();
    let tokens = Tokens::new(ids, windows.len(), positions)?;
    let table = TokenTable {
        ids: tokens.ids().to_vec(),
        next_ids: tokens.next_ids(tokenizer.end().unwrap_or(0)),
        domains: windows.iter().flat_map(|window| repeat_n(window.domain, positions)).collect(),
        documents: windows.iter().flat_map(|window| repeat_n(window.document, positions)).collect(),
        positions: (0..tokens.len()).map(|token| (token % positions) as u32).collect(),
        classes: tokens.ids().iter().map(|id| tokenizer.class(*id).number() as u16).collect(),
        domain_names: corpus.domain_names(),
        class_names: TokenClass::ALL.iter().map(|class| class.name().to_owned()).collect(),
    };
    Ok((tokens, table))
}

/// The windows as batches of at most `sequences`, one forward pass each.
///
/// # Errors
/// If ids and sizes do not fit, which windows never give cause for.
pub(crate) fn batches(
    windows: &[Window],
    sequences: usize,
    corpus: &Corpus,
    tokenizer: &Tokenizer,
    positions: usize,
) -> Result<Vec<Batch>, Failure> {
    windows.chunks(sequences).map(|chunk| token_table(chunk, corpus, tokenizer, positions)).collect()
}
