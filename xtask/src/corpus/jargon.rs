//! A dictionary: the entries of the Jargon File.

use std::fs;
use std::io::Read;

use anyhow::{Context, Result};
use moescope_corpus::{Document, Domain};

use super::clean::{clean, one_line};
use super::packages::Folders;
use super::thin::thin;

/// Entries with these parts of words are left out: the text is shown to anyone who opens a report.
const COARSE: [&str; 6] = ["fuck", "shit", "bitch", "penis", "whore", "nazi"];

/// The domain, evenly over the alphabet.
pub(super) fn domain(folders: &Folders, budget: usize) -> Result<Domain> {
    let path = folders.of("dict-jargon")?.join("usr/share/dictd/jargon.dict.dz");
    let packed = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(&packed[..]).read_to_string(&mut text).context("unpacking")?;
    Ok(Domain::new("jargon", thin(entries(&text), budget)))
}

/// The entries: a headword at the start of a line, then indented lines.
fn entries(text: &str) -> Vec<Document> {
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if line.starts_with(|letter: char| !letter.is_whitespace()) {
            entries.push((line.trim().to_owned(), String::new()));
        } else if let Some((_, body)) = entries.last_mut() {
            body.push_str(line);
            body.push('\n');
        }
    }
    entries.iter().filter_map(|(word, body)| entry(word, body)).collect()
}

/// One entry as text, or `None` for one that is a picture, code, a list of links, or too short.
fn entry(word: &str, body: &str) -> Option<Document> {
    let body = clean(body);
    let drawn = body.lines().any(|line| line.starts_with("      ") || line.trim_start().contains("   "));
    let lower = body.to_lowercase();
    let coarse = COARSE.iter().any(|part| lower.contains(part) || word.to_lowercase().contains(part));
    if word.starts_with("00-") || drawn || coarse || body.contains("http") || body.len() < 200 {
        return None;
    }
    let paragraphs: Vec<String> = body.split("\n\n").map(|paragraph| plain(&one_line(paragraph))).collect();
    let (grammar, rest) = paragraphs.split_first()?;
    let head = if grammar.is_empty() { word.to_owned() } else { format!("{word}: {grammar}") };
    Some(Document::new(word, clean(&format!("{head}\n\n{}", rest.join("\n\n")))))
}

/// Text without the braces around references to other entries.
fn plain(text: &str) -> String {
    text.replace("{ ", "{").replace(" }", "}").replace(['{', '}'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_unwrapped_and_its_references_plain() {
        let long = "word ".repeat(40);
        let text = format!(
            "00-short\n     skip\nfoo\n n.\n\n    See {{bar}} and {{\n    baz}}. {long}\n\nbar\n n.\n\n    short\n"
        );
        let found = entries(&text);
        assert_eq!(found.len(), 1);
        assert!(found[0].text.starts_with("foo: n.\n\nSee bar and baz. word word"), "{}", found[0].text);
    }

    #[test]
    fn drawings_are_left_out() {
        let text = format!("foo\n n.\n\n    {}\n\n          /\\ drawing\n", "word ".repeat(50));
        assert!(entries(&text).is_empty());
    }
}
