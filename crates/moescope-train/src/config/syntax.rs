//! Mistakes in a text: where they are, and what was probably meant.

use std::ops::Range;

use crate::TrainError;

/// A mistake at a place of the text.
#[derive(Debug)]
pub(super) struct Problem {
    span: Range<usize>,
    message: String,
}

impl Problem {
    pub(super) fn new(span: Range<usize>, message: String) -> Problem {
        Problem { span, message }
    }
}

impl From<toml::de::Error> for Problem {
    fn from(error: toml::de::Error) -> Problem {
        Problem { span: error.span().unwrap_or(0..0), message: reword(error.message()) }
    }
}

/// Reads a TOML text into plain data; a mistake is reported with its place and, for an unknown key or value, the nearest
/// known one. `file` names the text.
///
/// # Errors
/// [`TrainError::Config`] if the text is no TOML, or does not have the form of `T`.
pub fn parse_toml<T: serde::de::DeserializeOwned>(text: &str, file: &str) -> Result<T, TrainError> {
    toml::from_str(text).map_err(|error| at(text, file, named(text, error.into())))
}

/// The error with its line and column.
pub(super) fn at(text: &str, file: &str, problem: Problem) -> TrainError {
    let before = &text[..text.floor_char_boundary(problem.span.start)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    TrainError::Config {
        file: file.into(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        span: problem.span,
        problem: problem.message,
    }
}

/// The parser's message, with the nearest known name where one is unknown.
fn reword(message: &str) -> String {
    let (kind, word) = if message.starts_with("unknown field") {
        ("key", "keys")
    } else if message.starts_with("unknown variant") {
        ("value", "values")
    } else {
        return in_words(message.trim_end()).replace("field `", "key `");
    };
    let mut names = message.split('`').skip(1).step_by(2);
    let found = names.next().unwrap_or_default();
    let known: Vec<&str> = names.collect();
    let meant = nearest(found, &known).map(|name| format!("did you mean `{name}`? ")).unwrap_or_default();
    format!("unknown {kind} `{found}`; {meant}Known {word} here: {}", known.join(", "))
}

/// The parser's message without the names of Rust's types: a person writes numbers, not `usize`.
fn in_words(message: &str) -> String {
    let words = [
        ("usize", "a whole number, 0 or more"),
        ("u64", "a whole number, 0 or more"),
        ("u32", "a whole number, 0 or more"),
        ("f32", "a number"),
        ("f64", "a number"),
        ("a boolean", "true or false"),
        ("a string", "text in quotes"),
    ];
    let parts = message.rsplit_once(", expected ").filter(|_| message.starts_with("invalid "));
    let Some((found, wanted)) = parts else { return message.into() };
    let wanted = words.iter().find(|(name, _)| *name == wanted).map_or(wanted, |(_, words)| words);
    let found = found.replace("invalid type: ", "found ").replace("invalid value: ", "found ");
    format!("{found}, wanted {wanted}")
}

/// The error's message with the key that the value was given to: the word before the `=` on its line.
fn named(text: &str, problem: Problem) -> Problem {
    let before = &text[..text.floor_char_boundary(problem.span.start)];
    let line = &before[before.rfind('\n').map_or(0, |newline| newline + 1)..];
    match line.split_once('=') {
        Some((key, _)) if problem.message.starts_with("found ") => {
            let message = format!("`{}`: {}", key.trim(), problem.message);
            Problem { message, ..problem }
        }
        _ => problem,
    }
}

/// The known name that is most like `found`, if one is like it at all: at most a third of its letters differ.
fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |name: &&str| distance(found, name);
    let best = known.iter().copied().min_by_key(likeness)?;
    (distance(found, best) <= (found.chars().count() / 3).max(1)).then_some(best)
}

/// Letters to insert, remove, replace or swap with a neighbour: the restricted Damerau–Levenshtein distance.
fn distance(one: &str, two: &str) -> usize {
    let (one, two): (Vec<char>, Vec<char>) = (one.chars().collect(), two.chars().collect());
    let mut rows = vec![(0..=two.len()).collect::<Vec<usize>>()]; // [prefix of one, prefix of two]
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=two.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != two[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == two[j - 2] && one[i - 2] == two[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn distances_by_hand() {
        assert_eq!(distance("granularty", "granularity"), 1);
        assert_eq!(distance("d_fef", "d_eff"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_told_in_words_with_its_key() {
        #[derive(Debug, serde::Deserialize)]
        struct Plan {
            #[serde(rename = "steps")]
            _steps: usize,
        }
        let error = parse_toml::<Plan>("steps = \"two\"", "f.toml").unwrap_err().to_string();
        assert!(error.contains("`steps`: found string \"two\", wanted a whole number, 0 or more"), "{error}");
        let error = parse_toml::<Plan>("steps = -1", "f.toml").unwrap_err().to_string();
        assert!(error.contains("`steps`") && error.contains("wanted a whole number"), "{error}");
    }

    #[test]
    fn only_a_like_name_is_suggested() {
        assert_eq!(nearest("stesp", &["steps", "batch"]), Some("steps"));
        assert_eq!(nearest("colour", &["steps", "batch"]), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn places_count_characters_from_one() {
        let text = "a = 1\né = 2\n";
        let TrainError::Config { line, column, .. } =
            at(text, "f", Problem::new(text.find("= 2").unwrap()..10, String::new()))
        else {
            panic!("a place makes a configuration error");
        };
        assert_eq!((line, column), (2, 3));
    }

    proptest! {
        #[test]
        fn a_distance_is_symmetric_and_zero_only_for_equals(one in "[a-c]{0,6}", two in "[a-c]{0,6}") {
            prop_assert_eq!(distance(&one, &two), distance(&two, &one));
            prop_assert_eq!(distance(&one, &two) == 0, one == two);
        }
    }
}
