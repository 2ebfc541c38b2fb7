//! Polish: the help pages of LibreOffice, under the MPL-2.0 and so in a file of their own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use moescope_corpus::{Document, Domain};

use super::clean::{clean, one_line};
use super::html;
use super::packages::Folders;
use super::thin::thin;

/// Letters that Polish has and English has not.
const POLISH: &str = "ąćęłńóśźżĄĆĘŁŃÓŚŹŻ";
/// Shorter pages hold little more than a title.
const SHORTEST: usize = 500;

/// The domain, evenly over the pages.
pub(super) fn domain(folders: &Folders, budget: usize) -> Result<Domain> {
    let folder = folders.of("libreoffice-help-pl")?.join("usr/share/libreoffice/help/pl/text");
    let mut paths = Vec::new();
    collect(&folder, &mut paths).with_context(|| format!("reading {}", folder.display()))?;
    paths.sort();
    let mut seen = BTreeSet::new();
    let mut pages = Vec::new();
    for path in paths {
        let text = page_text(&fs::read_to_string(&path)?, &mut seen);
        if text.len() >= SHORTEST {
            let name = path.strip_prefix(&folder).unwrap_or(&path).display().to_string();
            pages.push(Document::new(name, text));
        }
    }
    Ok(Domain::new("polish", thin(pages, budget)))
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|ending| ending == "html") {
            paths.push(path);
        }
    }
    Ok(())
}

/// The Polish paragraphs of a page that no earlier page had: pages embed one another, and a part of
/// the paragraphs has never been translated.
fn page_text(page: &str, seen: &mut BTreeSet<String>) -> String {
    let start = page.find("id=\"DisplayArea\"").and_then(|at| page[at..].find('>').map(|end| at + end + 1));
    let end = page.find("id=\"SearchFrame\"").and_then(|at| page[..at].rfind('<'));
    let (Some(start), Some(end)) = (start, end) else { return String::new() };
    let text = clean(&html::text(&page[start..end.max(start)], &["class=\"relatedtopics\""]));
    let paragraphs = text.lines().map(one_line);
    let paragraphs = paragraphs.filter(|paragraph| is_polish(paragraph) && seen.insert(paragraph.clone()));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Whether a paragraph has a Polish letter for every 60 characters or fewer.
fn is_polish(paragraph: &str) -> bool {
    let polish = paragraph.chars().filter(|letter| POLISH.contains(*letter)).count();
    polish > 0 && polish * 60 >= paragraph.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_and_repeated_paragraphs_are_left_out() {
        let page = "<div>menu</div><div id=\"DisplayArea\" x><h1>Źródło</h1><p>Not translated.</p><p>Źródło</p></div>\
                    <div id=\"SearchFrame\"></div>";
        let mut seen = BTreeSet::new();
        assert_eq!(page_text(page, &mut seen), "Źródło");
        assert_eq!(page_text(page, &mut seen), "");
    }
}
