//! Text out of HTML.

/// Elements whose whole content is no text to read.
const SILENT: [&str; 6] = ["script", "style", "svg", "head", "button", "noscript"];
/// Elements that begin a new line of text.
const BLOCKS: [&str; 20] = [
    "p",
    "div",
    "br",
    "li",
    "ul",
    "ol",
    "dl",
    "dt",
    "dd",
    "tr",
    "table",
    "pre",
    "blockquote",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
];

/// The text of a page: one line per block, white space collapsed outside `<pre>`.
///
/// Elements whose opening tag contains one of `drop` are left out with all they hold.
pub(super) fn text(page: &str, drop: &[&str]) -> String {
    let mut reader = Reader::default();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        reader.text(&rest[..start]);
        rest = &rest[start..];
        if !rest[1..].starts_with(|next: char| next.is_ascii_alphabetic() || "/!?".contains(next)) {
            reader.text("<"); // a sign of comparison in a script or a careless page
            rest = &rest[1..];
            continue;
        }
        let comment = rest.starts_with("<!--");
        let (mark, length) = if comment { ("-->", 3) } else { (">", 1) };
        let Some(end) = rest.find(mark) else { break };
        if !comment {
            reader.tag(&rest[1..end], drop);
        }
        rest = &rest[end + length..];
    }
    reader.text(rest);
    reader.output
}

#[derive(Default)]
struct Reader {
    output: String,
    preformatted: bool,
    /// The element being left out, and how many of its kind are open.
    silent: Option<(String, usize)>,
}

impl Reader {
    fn tag(&mut self, tag: &str, drop: &[&str]) {
        let closing = tag.starts_with('/');
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_lowercase();
        if let Some((open, depth)) = &mut self.silent {
            if *open == name && !tag.ends_with('/') {
                *depth = if closing { *depth - 1 } else { *depth + 1 };
            }
            if *depth == 0 {
                self.silent = None;
            }
            return;
        }
        let dropped = SILENT.contains(&name.as_str()) || drop.iter().any(|mark| tag.contains(mark));
        if dropped && !closing && !tag.ends_with('/') {
            self.silent = Some((name, 1));
        } else if name == "pre" {
            self.preformatted = !closing;
            self.output.push_str("\n\n");
        } else if name == "td" || name == "th" {
            self.output.push(' ');
        } else if BLOCKS.contains(&name.as_str()) {
            self.output.push_str(if name.starts_with('h') || name == "p" { "\n\n" } else { "\n" });
        }
    }

    fn text(&mut self, text: &str) {
        if self.silent.is_some() {
            return;
        }
        let text = entities(text);
        if self.preformatted {
            self.output.push_str(&text);
            return;
        }
        for letter in text.chars() {
            if !letter.is_whitespace() {
                self.output.push(letter);
            } else if !self.output.ends_with([' ', '\n']) {
                self.output.push(' ');
            }
        }
    }
}

/// Text with its character references resolved; unknown ones stay as they are.
fn entities(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        result.push_str(&rest[..start]);
        rest = &rest[start..];
        let resolved =
            rest.find(';').filter(|&end| end < 12).and_then(|end| Some((entity(&rest[1..end])?, end)));
        match resolved {
            Some((letter, end)) => {
                result.push(letter);
                rest = &rest[end + 1..];
            }
            None => {
                result.push('&');
                rest = &rest[1..];
            }
        }
    }
    result + rest
}

fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let hexadecimal = number.strip_prefix(['x', 'X']);
        let code =
            hexadecimal.map_or_else(|| number.parse().ok(), |digits| u32::from_str_radix(digits, 16).ok());
        return code.and_then(char::from_u32);
    }
    Some(match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "mdash" => '—',
        "ndash" => '–',
        "hellip" => '…',
        "rarr" => '→',
        "larr" => '←',
        "le" => '≤',
        "ge" => '≥',
        "ne" => '≠',
        "times" => '×',
        "sect" => '§',
        "ldquo" => '“',
        "rdquo" => '”',
        "lsquo" => '‘',
        "rsquo" => '’',
        "uarr" => '↑',
        "darr" => '↓',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_inline_marks_and_entities() {
        let page = "<h1>Title</h1><p>a <b>bold</b>\n  word &amp; &#8212; &unknown;</p><!-- <p>no</p> -->";
        assert_eq!(text(page, &[]), "\n\nTitle\n\n\n\na bold word & — &unknown;\n\n");
    }

    #[test]
    fn silent_and_dropped_elements_are_left_out_with_their_inner_ones() {
        let page = "a<script>x < y</script><div class=menu>b<div>c</div>d</div>e";
        assert_eq!(text(page, &["class=menu"]), "ae");
    }

    #[test]
    fn preformatted_text_keeps_its_spaces() {
        assert_eq!(text("<pre>a\n  b</pre>", &[]), "\n\na\n  b\n\n");
    }
}
