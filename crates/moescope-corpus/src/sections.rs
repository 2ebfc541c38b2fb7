//! Cutting documents into sections, where a domain has too few of them for a split by document.

use crate::document::{Document, Domain};

/// The longest section, in bytes.
pub(crate) const LONGEST_SECTION: usize = 8192;
/// The shortest section that a cut aims at, in bytes.
pub(crate) const SHORTEST_SECTION: usize = 256;
/// Sections that a domain is cut into at least, where its size allows.
const SECTIONS_WANTED: usize = 100;

/// A domain with every document cut into sections of at most a length that suits its size.
///
/// The length is the domain's bytes over 100, within 256 to 8,192 bytes. Sections of `name` are
/// called `name#1`, `name#2`, …; joined in order they are the document, byte for byte.
pub(crate) fn cut_domain(domain: &Domain) -> Domain {
    let longest = (domain.bytes() / SECTIONS_WANTED).clamp(SHORTEST_SECTION, LONGEST_SECTION);
    let sections = domain.documents.iter().flat_map(|document| cut(document, longest));
    Domain::new(domain.name.clone(), sections.collect())
}

/// The sections of one document, each at most `longest` bytes (or one character, if that is longer).
fn cut(document: &Document, longest: usize) -> Vec<Document> {
    if document.text.len() <= longest {
        return vec![document.clone()];
    }
    let mut sections = Vec::new();
    let mut rest = document.text.as_str();
    while !rest.is_empty() {
        let (section, left) = rest.split_at(boundary(rest, longest));
        sections.push(Document::new(format!("{}#{}", document.name, sections.len() + 1), section));
        rest = left;
    }
    sections
}

/// Where to end the next section: after a paragraph, else a line, else a word, else a character.
///
/// A boundary in the first half would leave crumbs, so only the second half is searched.
fn boundary(text: &str, longest: usize) -> usize {
    if text.len() <= longest {
        return text.len();
    }
    let end = text.floor_char_boundary(longest);
    if end == 0 {
        return text.ceil_char_boundary(1);
    }
    let half = text.floor_char_boundary(end / 2);
    let after = |mark: &str| text[half..end].rfind(mark).map(|at| half + at + mark.len());
    after("\n\n").or_else(|| after("\n")).or_else(|| after(" ")).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_paragraph_end_is_preferred_to_a_later_word() {
        let document = Document::new("d", "aaaa\n\nbb cc dd ee");
        let texts: Vec<_> = cut(&document, 10).into_iter().map(|section| section.text).collect();
        assert_eq!(texts, ["aaaa\n\n", "bb cc dd ", "ee"]);
    }

    #[test]
    fn a_short_document_keeps_its_name() {
        let document = Document::new("d", "short");
        assert_eq!(cut(&document, 10), [document]);
    }

    #[test]
    fn sections_are_named_after_their_document() {
        let documents = vec![Document::new("a", "x"), Document::new("b", "word ".repeat(100))];
        let sections = cut_domain(&Domain::new("d", documents));
        assert_eq!(sections.documents[0].name, "a");
        assert_eq!(sections.documents[1].name, "b#1");
    }

    proptest! {
        #[test]
        fn sections_join_to_the_document(text in "[a-ż \n]{0,200}", longest in 1usize..40) {
            let document = Document::new("d", text.clone());
            let sections = cut(&document, longest);
            let joined: String = sections.iter().map(|section| section.text.as_str()).collect();
            prop_assert_eq!(joined, text);
            for section in &sections {
                prop_assert!(section.text.len() <= longest.max(4));
            }
        }
    }
}
