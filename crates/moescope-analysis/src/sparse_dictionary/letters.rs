//! Absorption of first letters, of tokens whose texts are known.

use moescope_base::Seed;
use moescope_dictionary::{AbsorptionRule, Dictionary, DictionaryError, Rows, absorption};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::sites::Gathered;
use crate::statistics::mean;

/// Mean share of the tokens of a first letter that another feature has absorbed, and the same with the letters dealt out at random.
///
/// - **Unit and range:** share of tokens, from 0 to 1, averaged over letters with ten tokens or more.
/// - **Null:** the letters dealt out to other tokens. No feature tells those, so that this is a rate of chance and not a floor.
/// - **Does not show:** absorption by several features together.
/// - **Source:** after Chanin et al. 2024, "A is for Absorption"; see [`absorption`].
pub(super) struct Absorbed {
    pub(super) share: f64,
    pub(super) null: f64,
    /// Letters with enough tokens.
    pub(super) letters: usize,
}

/// Measures it over the letters a to z; `None` where no letter can be measured.
pub(super) fn absorbed(
    dictionary: &Dictionary,
    site: &Gathered,
    words: &[String],
    seed: Seed,
) -> Result<Option<Absorbed>, DictionaryError> {
    let first: Vec<Option<char>> =
        site.ids.iter().map(|id| words.get(*id as usize).and_then(|word| first_letter(word))).collect();
    let mut order: Vec<usize> = (0..first.len()).collect();
    order.shuffle(&mut seed.child("letters").rng());
    let dealt: Vec<Option<char>> = order.into_iter().map(|row| first[row]).collect();
    let rows = Rows::of(site.rows.clone());
    let measure = |letters: &[Option<char>], letter: char| {
        let with: Vec<bool> = letters.iter().map(|first| *first == Some(letter)).collect();
        absorption(dictionary, &rows, &with, AbsorptionRule::default())
    };
    let of = |letters: &[Option<char>]| -> Result<Vec<f64>, DictionaryError> {
        let each: Vec<_> = ('a'..='z')
            .collect::<Vec<char>>()
            .into_par_iter()
            .map(|letter| measure(letters, letter))
            .collect();
        let found = each.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(found.into_iter().flatten().map(|found| found.absorbed).collect())
    };
    let (shares, nulls) = (of(&first)?, of(&dealt)?);
    if shares.is_empty() || nulls.is_empty() {
        return Ok(None);
    }
    Ok(Some(Absorbed { share: mean(&shares), null: mean(&nulls), letters: shares.len() }))
}

/// The first letter of a token, in lower case, spaces aside; `None` for one that begins with none of the Latin alphabet.
pub fn first_letter(text: &str) -> Option<char> {
    text.trim_start().chars().next().filter(char::is_ascii_alphabetic).map(|first| first.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_those_after_spaces_in_lower_case() {
        let found = [" The", "zebra", "7a", " ", "", "\u{e9}t\u{e9}"].map(first_letter);
        assert_eq!(found, [Some('t'), Some('z'), None, None, None, None]);
    }
}
