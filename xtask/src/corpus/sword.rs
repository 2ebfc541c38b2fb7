//! Chapters out of a SWORD module in the zText format.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};

use super::clean::one_line;

/// Elements that are about the text and not of it.
const ASIDES: [&str; 3] = ["note", "title", "reference"];

/// The chapters of a module, in order: name (such as `Gen.1`) and one line per verse.
///
/// A testament is three files: `.bzz` holds zlib blocks, `.bzs` tells where each block is (offset,
/// packed size, size), `.bzv` where each verse is (block, offset, size).
pub(super) fn chapters(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut chapters: Vec<(String, String)> = Vec::new();
    for testament in ["ot", "nt"] {
        let read = |ending: &str| {
            let path = folder.join(format!("{testament}.{ending}"));
            fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        let (packed, blocks, verses) = (read("bzz")?, read("bzs")?, read("bzv")?);
        let mut unpacked: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for verse in verses.chunks_exact(10) {
            let size = u16::from_le_bytes([verse[8], verse[9]]) as usize;
            if size == 0 {
                continue;
            }
            let (block, start) = (number(verse, 0), number(verse, 4) as usize);
            let text = match unpacked.entry(block) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(unpack(&packed, &blocks, block)?),
            };
            let bytes = text.get(start..start + size).context("a verse outside its block")?;
            add(&mut chapters, &String::from_utf8_lossy(bytes));
        }
    }
    Ok(chapters)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn unpack(packed: &[u8], blocks: &[u8], block: u32) -> Result<Vec<u8>> {
    let record = blocks.chunks_exact(12).nth(block as usize).context("a block without a record")?;
    let (start, size) = (number(record, 0) as usize, number(record, 4) as usize);
    let bytes = packed.get(start..start + size).context("a block outside its file")?;
    let mut text = Vec::new();
    flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut text).context("a broken block")?;
    Ok(text)
}

/// Adds a verse; a chapter mark in it begins a new chapter.
fn add(chapters: &mut Vec<(String, String)>, verse: &str) {
    if let Some(name) = chapter_mark(verse)
        && chapters.last().is_none_or(|(last, _)| last != name)
    {
        chapters.push((name.to_owned(), String::new()));
    }
    let text = plain(verse);
    if let Some((_, chapter)) = chapters.last_mut()
        && !text.is_empty()
    {
        chapter.push_str(&text);
        chapter.push('\n');
    }
}

/// The name in an opening chapter mark; a closing one has no `osisID` of its own.
fn chapter_mark(verse: &str) -> Option<&str> {
    verse.split("<chapter ").skip(1).find_map(|rest| {
        let tag = &rest[..rest.find('>')?];
        let (_, name) = tag.split_once("osisID=\"")?;
        Some(name.split_once('"')?.0)
    })
}

/// A verse without markup and notes.
fn plain(verse: &str) -> String {
    let mut text = String::new();
    let mut asides = 0usize;
    let mut rest = verse;
    while let Some(start) = rest.find('<') {
        if asides == 0 {
            text.push_str(&rest[..start]);
        }
        let Some(end) = rest[start..].find('>') else { break };
        let tag = &rest[start + 1..start + end];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if ASIDES.contains(&name) && !tag.ends_with('/') {
            asides = if tag.starts_with('/') { asides.saturating_sub(1) } else { asides + 1 };
        }
        if name != "w" && name != "seg" {
            text.push(' ');
        }
        rest = &rest[start + end + 1..];
    }
    if asides == 0 {
        text.push_str(rest);
    }
    close_marks(&one_line(&text))
}

/// Text without the spaces that removed elements left before closing and after opening marks.
fn close_marks(text: &str) -> String {
    let mut result = text.to_owned();
    for mark in [",", ".", ";", ":", "!", "?", ")", "’", "”"] {
        result = result.replace(&format!(" {mark}"), mark);
    }
    for mark in ["(", "“", "‘", "¿", "¡"] {
        result = result.replace(&format!("{mark} "), mark);
    }
    result.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_and_marks_leave_no_trace() {
        let verse = "<w lemma=\"x\">Christ</w>,<note><reference>1:1 </reference>Messiah</note><w>the</w> <w>son</w>. <div eID=\"g\"/>";
        assert_eq!(plain(verse), "Christ, the son.");
        assert_eq!(plain("<w>a</w><transChange type=\"added\">que es</transChange><w>en</w>"), "a que es en");
    }

    #[test]
    fn chapters_begin_at_their_marks() {
        let mut chapters = Vec::new();
        add(&mut chapters, "preface");
        add(&mut chapters, "<chapter n=\"1\" osisID=\"Gen.1\" sID=\"Gen.1\"/>In the beginning");
        add(&mut chapters, "The earth <chapter eID=\"Gen.1\"/> <div osisID=\"Gen\"/>");
        add(&mut chapters, "<chapter osisID=\"Gen.2\"/>Thus");
        assert_eq!(chapters[0], ("Gen.1".into(), "In the beginning\nThe earth\n".into()));
        assert_eq!(chapters[1].0, "Gen.2");
    }
}
