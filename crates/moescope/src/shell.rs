//! Words of a command that a shell takes as they are.

use std::fmt::Display;

/// The word as it stands where a shell would not change it, else in single quotes.
///
/// For commands that a report tells to repeat: paths may hold blanks, and names of models anything.
pub fn word(text: impl Display) -> String {
    let text = text.to_string();
    let plain = |c: char| c.is_alphanumeric() || "_-./:@%+=,".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn a_shell_reads_the_word_that_was_meant() {
        for plain in ["runs/a-1", "org/name@v1.0", "load,paths", "żółw"] {
            assert_eq!(word(plain), plain);
        }
        assert_eq!(word("my texts"), "'my texts'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!((word(""), word("a$b"), word("{a,b}")), ("''".into(), "'a$b'".into(), "'{a,b}'".into()));
    }
}
