use std::collections::BTreeSet;

use super::finding::{Finding, Verdict};
use super::repository::Repository;

/// The document that says which test holds which invariant.
const DOCUMENT: &str = "ARCHITECTURE.md";
/// Names with fewer words are fields and modules rather than tests, which are named by sentences.
const WORDS: usize = 3;

/// Every test that the architecture leans on exists.
pub(super) fn check(repository: &Repository) -> Verdict {
    let functions: BTreeSet<&str> = repository
        .rust
        .iter()
        .flat_map(|source| &source.functions)
        .map(|function| function.name.as_str())
        .collect();
    let document = repository.texts.iter().find(|file| file.path == DOCUMENT);
    let mut count = 0;
    let mut findings = Vec::new();
    for (line, text) in document.iter().flat_map(|file| file.lines()) {
        for name in text.split('`').skip(1).step_by(2).filter(|name| is_test_name(name)) {
            count += 1;
            // `…_follow_the_reference` stands for all tests that end so.
            let exists = match name.strip_prefix('…') {
                Some(ending) => functions.iter().any(|function| function.ends_with(ending)),
                None => functions.contains(name),
            };
            if !exists {
                findings.push(Finding::new(DOCUMENT, line, format!("there is no test `{name}`")));
            }
        }
    }
    Verdict { check: "named tests", figures: format!("{count} tests named in {DOCUMENT}"), findings }
}

fn is_test_name(name: &str) -> bool {
    let plain = name.trim_start_matches('…');
    let lowercase = plain.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    lowercase && plain.split('_').filter(|word| !word.is_empty()).count() >= WORDS
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: (&str, &str) = ("a.rs", "fn the_sum_is_right() {}\nfn products_follow_the_reference() {}");

    #[test]
    fn a_test_that_is_gone_is_found() {
        let text = "| sums | `the_sum_is_right` |\n| more | `the_sum_is_left_over`, `…_follow_the_clock` |";
        let verdict = check(&Repository::of(&[CODE, ("ARCHITECTURE.md", text)]));
        assert_eq!(verdict.findings.iter().map(|f| f.line).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(verdict.figures, "3 tests named in ARCHITECTURE.md");
    }

    #[test]
    fn endings_match_and_other_names_are_not_tests() {
        let text = "`…_follow_the_reference`, `top_k.rs`, `moescope-base`, `Table`, `forward`, `data.rs`";
        let verdict = check(&Repository::of(&[CODE, ("ARCHITECTURE.md", text)]));
        assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    }
}
