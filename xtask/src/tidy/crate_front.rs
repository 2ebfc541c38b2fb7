use super::finding::{Finding, Verdict};
use super::repository::Repository;
use super::rust_source::RustSource;

/// The front page of every library says what it is for and shows it at work.
pub(super) fn check(repository: &Repository) -> Verdict {
    let fronts: Vec<&RustSource> =
        repository.rust.iter().filter(|s| s.path.ends_with("/src/lib.rs")).collect();
    let findings = fronts.iter().flat_map(|front| {
        let page = page(front);
        let lacks = [
            (!has_paragraph(&page), "no paragraph of purpose"),
            (!has_example(&page), "no example that `cargo test` runs"),
        ];
        lacks.into_iter().filter(|(lacks, _)| *lacks).map(|(_, what)| Finding::new(&front.path, 1, what))
    });
    Verdict {
        check: "crate fronts",
        findings: findings.collect(),
        figures: format!("{} libraries", fronts.len()),
    }
}

/// The lines of `//!`, without the marks.
fn page(front: &RustSource) -> Vec<&str> {
    front.lines.iter().filter_map(|line| line.trim().strip_prefix("//!")).map(str::trim).collect()
}

/// A sentence before the first example, longer than the crate's name.
fn has_paragraph(page: &[&str]) -> bool {
    let words =
        page.iter().take_while(|line| !line.starts_with("```")).flat_map(|line| line.split_whitespace());
    words.count() >= 6
}

/// A fenced block that is compiled and run.
fn has_example(page: &[&str]) -> bool {
    let fences = page.iter().filter_map(|line| line.strip_prefix("```"));
    fences.step_by(2).any(|info| info.is_empty() || info == "rust")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check(&Repository::of(&[("crates/moescope-x/src/lib.rs", text)])).findings.len()
    }

    #[test]
    fn a_bare_front_lacks_both() {
        assert_eq!(findings("//! moescope-x\n"), 2);
        assert_eq!(findings(""), 2);
    }

    #[test]
    fn an_example_that_does_not_run_is_none() {
        assert_eq!(findings("//! What the crate is for, in words.\n//!\n//! ```text\n//! a\n//! ```\n"), 1);
        assert_eq!(findings("//! What the crate is for, in words.\n//!\n//! ```ignore\n//! a\n//! ```\n"), 1);
    }

    #[test]
    fn a_whole_front_is_fine() {
        let text = "//! What the crate is for, in words.\n//!\n//! ```text\n//! a\n//! ```\n//!\n//! ```\n//! assert!(true);\n//! ```\n";
        assert_eq!(findings(text), 0);
    }
}
