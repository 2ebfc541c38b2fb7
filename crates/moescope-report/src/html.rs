//! Text that is safe inside HTML.

use std::fmt::{self, Write as _};

/// Shows a text so that a browser reads it as text, in an element and in a quoted attribute alike.
///
/// Every text that a person or a corpus wrote goes through it; markup comes from this crate alone. It is not safe in
/// a script, in a style or in an attribute without quotes, and no such place takes a text.
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // Control characters are not text; corpora have them.
            c if c.is_control() && !matches!(c, '\n' | '\t') => f.write_char('\u{fffd}'),
            c => f.write_char(c),
        })
    }
}

/// Paragraphs, or nothing when there are none.
pub(crate) fn paragraphs(lines: &[String]) -> String {
    lines.iter().map(|line| format!("<p>{}</p>\n", Text(line))).collect()
}

/// A list of sentences under a heading of the given level, or nothing when there are none.
///
/// `class` comes from this crate and is not escaped. An empty heading never stands alone: a reader would take it for
/// "none known" where nobody has looked.
pub(crate) fn list(heading: &str, class: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let items: String = lines.iter().map(|line| format!("<li>{}</li>\n", Text(line))).collect();
    format!("<div class=\"{class}\">\n<h3>{}</h3>\n<ul>\n{items}</ul>\n</div>\n", Text(heading))
}

/// An identifier that may stand in `id` and `href`: letters, digits, `-` and `_`.
///
/// Any other character becomes `-`, so distinct texts may give one identifier.
pub(crate) fn identifier(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        let nasty = "</script><img src=x onerror=\"a\" & 'b'>\u{0}";
        let shown = Text(nasty).to_string();
        let wanted = "&lt;/script&gt;&lt;img src=x onerror=&quot;a&quot; &amp; &#39;b&#39;&gt;\u{fffd}";
        assert_eq!(shown, wanted);
    }

    #[test]
    fn identifiers_have_no_markup() {
        assert_eq!(identifier("a b\"<c>_1"), "a-b--c-_1");
    }

    #[test]
    fn an_empty_list_has_no_heading() {
        assert_eq!(list("Limits", "limits", &[]), "");
    }
}
