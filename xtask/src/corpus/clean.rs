//! White space and stray characters.

/// Text with `\n` line ends, no trailing white space on lines, at most one blank line in a row, plain
/// spaces for no-break spaces, and no byte-order marks, soft hyphens or zero-width characters.
pub(super) fn clean(text: &str) -> String {
    let plain: String = text
        .replace("\r\n", "\n")
        .chars()
        .filter(|letter| !matches!(letter, '\u{feff}' | '\u{ad}' | '\u{200b}'..='\u{200f}'))
        .map(|letter| if matches!(letter, '\u{a0}' | '\u{202f}' | '\u{2007}') { ' ' } else { letter })
        .collect();
    let mut result = String::with_capacity(plain.len());
    let mut blank = 0;
    for line in plain.lines().map(str::trim_end) {
        blank = if line.is_empty() { blank + 1 } else { 0 };
        if blank < 2 {
            result.push_str(line);
            result.push('\n');
        }
    }
    result.trim_matches('\n').to_owned()
}

/// Paragraphs (parted by blank lines) as one line each, with single spaces.
pub(super) fn unwrap_paragraphs(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(one_line).filter(|paragraph| !paragraph.is_empty());
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// A text on one line, with single spaces.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Share of letters among the characters that are no white space, from 0 to 1.
///
/// Tables of numbers, which teach a language model nothing of the language around them, score low.
pub(super) fn letter_share(text: &str) -> f64 {
    let marks = text.chars().filter(|letter| !letter.is_whitespace()).count();
    let letters = text.chars().filter(|letter| letter.is_alphabetic()).count();
    letters as f64 / marks.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_made_plain() {
        assert_eq!(clean("\u{feff}a\u{a0}b  \r\n\r\n\n\n\tc\n\n"), "a b\n\n\tc");
    }

    #[test]
    fn paragraphs_become_lines() {
        assert_eq!(unwrap_paragraphs("a\n  b\n\n\n\nc  d"), "a b\n\nc d");
    }

    #[test]
    fn number_tables_have_few_letters() {
        assert!(letter_share("let x = 12;") == 0.5);
        assert!(letter_share("12, 0x3, 4, 5,") < 0.2);
    }
}
