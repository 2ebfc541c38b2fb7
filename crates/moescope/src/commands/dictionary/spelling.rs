//! Properties of tokens that their spelling gives: the first letter.
//!
//! The task of Chanin et al. 2024, "A is for Absorption": a property that is known without a model, and that language models are known to hold in
//! a direction of the residual stream. Only the letters of the Latin alphabet count, so text in other scripts has no absorption to show.

use moescope_analysis::sparse_dictionary::first_letter;
use moescope_corpus::Tokenizer;

/// The first letters that are looked at.
pub(super) const LETTERS: std::ops::RangeInclusive<char> = 'a'..='z';

/// The first letter of each token, in lower case; `None` for a token that begins with none, spaces aside.
pub(super) fn first_letters(ids: &[u32], tokenizer: &Tokenizer) -> Vec<Option<char>> {
    ids.iter().map(|id| first_letter(tokenizer.text(*id))).collect()
}
