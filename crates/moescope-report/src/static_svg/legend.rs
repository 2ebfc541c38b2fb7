//! Legends, and how wide a text is when nobody can measure it.

use super::WIDTH;
use super::canvas::{Anchor, Canvas};
use crate::palette::Look;

/// Average width of a letter.
///
/// In units of the picture. The font is the reader's own, so every width here is an estimate.
pub(super) const LETTER: f64 = 6.4;

/// Height of a line of the legend.
const LINE: f64 = 20.0;

/// Places of the entries of a legend, in lines that fit the width.
pub(super) struct Legend<'a> {
    entries: Vec<(&'a str, f64, f64)>,
    /// Height that the legend takes; zero where no legend is needed.
    pub(super) height: f64,
}

impl<'a> Legend<'a> {
    /// Sets the names in lines; fewer than two names need no legend.
    pub(super) fn new(names: impl Iterator<Item = &'a str>) -> Legend<'a> {
        let names: Vec<&str> = names.collect();
        if names.len() < 2 {
            return Legend { entries: Vec::new(), height: 0.0 };
        }
        let (mut x, mut y) = (0.0, 14.0);
        let mut entries = Vec::new();
        for name in names {
            let width = 44.0 + LETTER * name.chars().count() as f64;
            if x > 0.0 && x + width > WIDTH {
                (x, y) = (0.0, y + LINE);
            }
            entries.push((name, x, y));
            x += width;
        }
        Legend { entries, height: y + 14.0 }
    }

    /// Draws marker and name of each series, `with_lines` also the dash of its line.
    pub(super) fn draw(&self, canvas: &mut Canvas, with_lines: bool) {
        for (i, &(name, x, y)) in self.entries.iter().enumerate() {
            let look = Look::of(i);
            canvas.begin_series(look.color);
            if with_lines {
                canvas.stroke("line", look.dash, [(x, y - 4.0), (x + 26.0, y - 4.0)].into_iter());
            }
            canvas.marker(look.marker, (x + 13.0, y - 4.0));
            canvas.end();
            canvas.text("ink", (x + 32.0, y), Anchor::Start, name);
        }
    }
}

/// The text in at most two lines of at most `letters` letters, broken between words where that helps.
pub(super) fn in_two_lines(text: &str, letters: usize) -> Vec<String> {
    if text.chars().count() <= letters {
        return vec![text.to_owned()];
    }
    let mut breaks = text.match_indices(' ').map(|(at, _)| at);
    match breaks.rfind(|at| text[..*at].chars().count() <= letters) {
        Some(at) => vec![text[..at].to_owned(), shortened(&text[at + 1..], letters)],
        None => vec![shortened(text, letters)],
    }
}

/// At most `letters` letters of the text.
pub(super) fn shortened(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    let kept: String = text.chars().take(letters.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_breaks_between_words_and_only_then_is_cut() {
        assert_eq!(in_two_lines("short", 8), ["short"]);
        assert_eq!(in_two_lines("two words here", 9), ["two words", "here"]);
        assert_eq!(in_two_lines("two words are here", 9), ["two words", "are here"]);
        assert_eq!(in_two_lines("unbreakable", 6), ["unbre…"]);
        assert_eq!(in_two_lines("a second line", 6), ["a", "secon…"]);
    }
}
