use super::finding::{Finding, Verdict};
use super::repository::{Repository, TextFile};

/// Links between documents lead somewhere.
pub(super) fn check(repository: &Repository) -> Verdict {
    let mut count = 0;
    let mut findings = Vec::new();
    for file in repository.texts.iter().filter(|file| file.path.ends_with(".md")) {
        for (line, target) in relative_links(file) {
            count += 1;
            let path = resolve(&file.path, target);
            if !repository.has(&path) {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("`{target}` leads nowhere: there is no {path}"),
                ));
            }
        }
    }
    Verdict { check: "links", figures: format!("{count} links between documents"), findings }
}

/// Targets of `[text](target)` that are neither addresses nor places in the same document.
fn relative_links(file: &TextFile) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    for (number, line) in file.lines() {
        for after in line.split("](").skip(1) {
            let target = after.split([')', '#', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') {
                links.push((number, target));
            }
        }
    }
    links
}

/// The path from the root that a relative target means in the document `from`.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let verdict =
            check(&Repository::of(&[("docs/a.md", "one\n[b](b.md) and [c](../c.md)\n"), ("docs/b.md", "")]));
        assert_eq!(verdict.findings.len(), 1);
        assert_eq!((verdict.findings[0].line, verdict.figures.as_str()), (2, "2 links between documents"));
    }

    #[test]
    fn folders_addresses_and_places_in_a_document_are_fine() {
        let text = "[a](docs/) [b](https://example.org/x) [c](#here) [d](docs/d.md#there) [e](./README.md)";
        let verdict = check(&Repository::of(&[("README.md", text), ("docs/d.md", "")]));
        assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    }
}
