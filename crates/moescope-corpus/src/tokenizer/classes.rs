//! What kind of text a token is.

/// The kind of a token, from its text alone.
///
/// A coarse label for asking "do experts follow the form of a token?". It does not know the
/// language, the word's role, or the neighbours: `a` in `cat` and a lone `a` are told apart only by
/// the space before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenClass {
    /// A space and then letters, the first one not a capital: the start of a word.
    WordStart,
    /// Letters without a space before them, the first one not a capital: a word goes on, or stands
    /// after something that is no space.
    WordContinuation,
    /// Letters whose first is a capital, with or without a space before them.
    Capitalised,
    /// Digits, with or without a space before them.
    Digit,
    /// Marks of written language: `. , ; : ! ? ' "`, brackets, quotes and dashes.
    Punctuation,
    /// Marks of code and formulas: `{ } [ ] = < > + * / \ _ # & | ~ ^ % $ @` and the back-tick.
    Symbol,
    /// White space with a line end in it.
    Newline,
    /// Other white space.
    Space,
    /// A token of the tokenizer's own, such as the separator.
    Special,
    /// All else: parts of a character, mixed marks and letters, empty text.
    Other,
}

impl TokenClass {
    /// All classes, in the order of their numbers.
    pub const ALL: [TokenClass; 10] = [
        TokenClass::WordStart,
        TokenClass::WordContinuation,
        TokenClass::Capitalised,
        TokenClass::Digit,
        TokenClass::Punctuation,
        TokenClass::Symbol,
        TokenClass::Newline,
        TokenClass::Space,
        TokenClass::Special,
        TokenClass::Other,
    ];

    /// The class of a token's text; never [`TokenClass::Special`], which no text can show.
    pub fn of(text: &str) -> Self {
        if text.is_empty() {
            return TokenClass::Other;
        }
        let body = text.trim_start_matches(' ');
        if text.chars().all(char::is_whitespace) {
            return if text.contains(['\n', '\r']) { TokenClass::Newline } else { TokenClass::Space };
        }
        // Trailing white space belongs to the marks before it, as in `;\n`.
        let body = body.trim_end();
        if body.chars().all(is_word_letter) {
            return letters(body, text.starts_with(' '));
        }
        if body.chars().all(|letter| letter.is_ascii_digit()) {
            return TokenClass::Digit;
        }
        marks(body)
    }

    /// The class's number, from 0, as in [`TokenClass::ALL`].
    pub fn number(self) -> usize {
        self as usize
    }

    /// The class's name in tables.
    pub fn name(self) -> &'static str {
        match self {
            TokenClass::WordStart => "word start",
            TokenClass::WordContinuation => "word continuation",
            TokenClass::Capitalised => "capitalised",
            TokenClass::Digit => "digit",
            TokenClass::Punctuation => "punctuation",
            TokenClass::Symbol => "symbol",
            TokenClass::Newline => "newline",
            TokenClass::Space => "space",
            TokenClass::Special => "special",
            TokenClass::Other => "other",
        }
    }
}

fn is_word_letter(letter: char) -> bool {
    letter.is_alphabetic()
}

fn letters(body: &str, after_space: bool) -> TokenClass {
    let capital = body.chars().next().is_some_and(char::is_uppercase);
    match (capital, after_space) {
        (true, _) => TokenClass::Capitalised,
        (false, true) => TokenClass::WordStart,
        (false, false) => TokenClass::WordContinuation,
    }
}

fn marks(body: &str) -> TokenClass {
    if body.chars().all(is_punctuation) {
        TokenClass::Punctuation
    } else if body.chars().all(|mark| is_punctuation(mark) || is_symbol(mark)) {
        // One sign of code is enough, as in `");` against `){`.
        TokenClass::Symbol
    } else {
        TokenClass::Other
    }
}

fn is_punctuation(mark: char) -> bool {
    matches!(
        mark,
        '.' | ',' | ';' | ':' | '!' | '?' | '\'' | '"' | '(' | ')' | '-' | '¡' | '¿' | '«' | '»' | '…'
    ) || ('\u{2010}'..='\u{201f}').contains(&mark)
}

fn is_symbol(mark: char) -> bool {
    mark.is_ascii_punctuation() || matches!(mark, '§' | '°' | '±' | '×' | '÷' | '→' | '≤' | '≥')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_by_example() {
        let cases = [
            (TokenClass::WordStart, [" the", " żółw"]),
            (TokenClass::WordContinuation, ["ing", "ó"]),
            (TokenClass::Capitalised, [" The", "Ósmy"]),
            (TokenClass::Digit, ["7", " 1945"]),
            (TokenClass::Punctuation, [",", " “"]),
            (TokenClass::Symbol, ["){", " =="]),
            (TokenClass::Newline, ["\n", "  \n\n"]),
            (TokenClass::Space, [" ", "\t\t"]),
            (TokenClass::Other, ["", "\u{fffd}"]),
        ];
        for (class, texts) in cases {
            for text in texts {
                assert_eq!(TokenClass::of(text), class, "{text:?}");
            }
        }
    }

    #[test]
    fn mixed_text_is_other_and_line_ends_after_marks_do_not_count() {
        assert_eq!(TokenClass::of("a1"), TokenClass::Other);
        assert_eq!(TokenClass::of("'s"), TokenClass::Other);
        assert_eq!(TokenClass::of(";\n"), TokenClass::Punctuation);
    }

    #[test]
    fn numbers_match_their_places() {
        for (place, class) in TokenClass::ALL.into_iter().enumerate() {
            assert_eq!(class.number(), place);
        }
    }
}
