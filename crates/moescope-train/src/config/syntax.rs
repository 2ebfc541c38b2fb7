//! Mistakes in a text: where they are, and what was probably meant.

use std::ops::Range;

use moescope_base::nearest_name;
use moescope_host::line_and_column;

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
    let (line, column) = line_and_column(text, problem.span.start);
    TrainError::Config { file: file.into(), line, column, span: problem.span, problem: problem.message }
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
    let meant = nearest_name(found, known.iter().copied())
        .map(|name| format!("did you mean `{name}`? "))
        .unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn places_count_characters_from_one() {
        let text = "a = 1\né = 2\n";
        let TrainError::Config { line, column, .. } =
            at(text, "f", Problem::new(text.find("= 2").unwrap()..10, String::new()))
        else {
            panic!("a place makes a configuration error");
        };
        assert_eq!((line, column), (2, 3));
    }
}
