use super::finding::{Finding, Verdict};
use super::repository::Repository;

/// Lines that a Rust file may have, its tests included.
const LONGEST: usize = 500;

/// No Rust file is longer than one sitting; the median is reported.
pub(super) fn check(repository: &Repository) -> Verdict {
    let mut lengths: Vec<usize> = repository.rust.iter().map(|source| source.lines.len()).collect();
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or(0);
    let longest = lengths.last().copied().unwrap_or(0);
    let findings = repository.rust.iter().filter(|source| source.lines.len() > LONGEST).map(|source| {
        let length = source.lines.len();
        Finding::new(&source.path, length, format!("{length} lines, at most {LONGEST}: split it by duty"))
    });
    Verdict {
        check: "file budget",
        figures: format!(
            "{} Rust files, median {median} lines, longest {longest} of {LONGEST}",
            lengths.len()
        ),
        findings: findings.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_above_the_budget_is_found_and_one_at_the_budget_is_not() {
        let long = "\n".repeat(LONGEST + 1);
        let full = "\n".repeat(LONGEST);
        let verdict = check(&Repository::of(&[("a.rs", &long), ("b.rs", &full), ("c.md", &long)]));
        assert_eq!(verdict.findings.len(), 1);
        assert_eq!(verdict.findings[0].path, "a.rs");
    }
}
