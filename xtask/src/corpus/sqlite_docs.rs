//! Technical documentation: SQLite's pages on its formats, language and design.

use std::fs;

use anyhow::{Context, Result};
use moescope_corpus::{Document, Domain};

use super::clean::{clean, letter_share};
use super::html;
use super::packages::Folders;
use super::thin::thin;

/// Pages that are lists of links, dates or people, or another page once more.
const PASSED_OVER: [&str; 37] = [
    "books",
    "c_interface",
    "capi3ref",
    "changes",
    "chronology",
    "codeofconduct",
    "codeofethics",
    "consortium",
    "consortium_agreement-20071201",
    "copyright",
    "copyright-release",
    "crew",
    "cves",
    "doc_backlink_crossref",
    "doc_keyword_crossref",
    "doc_pagelink_crossref",
    "doc_target_crossref",
    "doclist",
    "docs",
    "download",
    "famous",
    "fileformat2",
    "getthecode",
    "hp1",
    "index",
    "keyword_index",
    "mostdeployed",
    "news",
    "oldnews",
    "pressrelease-20071212",
    "prosupport",
    "requirements",
    "sitemap",
    "sqlite",
    "support",
    "syntax",
    "syntaxdiagrams",
];
/// Shorter pages hold little more than a title.
const SHORTEST: usize = 1_500;
/// Longer pages would leave too few to split.
const LONGEST: usize = 12_000;
/// Elements around the text: menus, tables of contents, buttons.
const AROUND: [&str; 5] =
    ["class=nosearch", "class=\"nosearch\"", "class=\"fancy_toc\"", "class=fancy_toc", "class='hidebtn"];

/// The domain, evenly over the pages.
pub(super) fn domain(folders: &Folders, budget: usize) -> Result<Domain> {
    let folder = folders.of("sqlite3-doc")?.join("usr/share/doc/sqlite3");
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if path.extension().is_some_and(|ending| ending == "html") && !PASSED_OVER.contains(&&*name) {
            paths.push(path);
        }
    }
    paths.sort();
    let mut pages = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = page_text(&String::from_utf8_lossy(&fs::read(&path)?));
        if (SHORTEST..LONGEST).contains(&text.len()) && letter_share(&text) > 0.7 {
            pages.push(Document::new(name, text));
        }
    }
    Ok(Domain::new("docs", thin(pages, budget)))
}

fn page_text(page: &str) -> String {
    let text = clean(&html::text(page, &AROUND));
    let lines = text.lines().filter(|line| !line.starts_with("This page last modified"));
    clean(&lines.collect::<Vec<_>>().join("\n"))
}
