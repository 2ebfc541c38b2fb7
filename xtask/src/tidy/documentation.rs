use std::collections::BTreeMap;

use super::finding::{Finding, Verdict};
use super::repository::Repository;
use super::rust_source::RustSource;

/// Lines of code that one line of documentation may answer for.
const CODE_PER_LINE: usize = 5;

/// Lines of documentation and of code in the source of one library, tests left out.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    documentation: usize,
    code: usize,
}

/// Every library explains itself: one line of documentation for at most five lines of code.
pub(super) fn check(repository: &Repository) -> Verdict {
    let mut libraries: BTreeMap<&str, Lines> = BTreeMap::new();
    for source in &repository.rust {
        if let Some(library) = source.library() {
            count(source, libraries.entry(library).or_default());
        }
    }
    let findings = libraries.iter().filter(|(_, lines)| lines.documentation * CODE_PER_LINE < lines.code);
    let findings = findings.map(|(library, lines)| {
        let wanted = lines.code.div_ceil(CODE_PER_LINE);
        let text = format!(
            "{} lines of documentation for {} of code, wanted at least {wanted}: one for every {CODE_PER_LINE}",
            lines.documentation, lines.code
        );
        Finding::new(&format!("crates/{library}/src/lib.rs"), 1, text)
    });
    let share = |(library, lines): (&&str, &Lines)| {
        let short = library.trim_start_matches("moescope-");
        format!("{short} {:.2}", lines.documentation as f64 / lines.code.max(1) as f64)
    };
    let shares: Vec<String> = libraries.iter().map(share).collect();
    Verdict {
        check: "documentation",
        findings: findings.collect(),
        figures: format!("lines per line of code, at least 0.20: {}", shares.join(", ")),
    }
}

fn count(source: &RustSource, lines: &mut Lines) {
    for (index, line) in source.lines.iter().enumerate() {
        let line = line.trim();
        if source.is_test(index + 1) || line.is_empty() {
            continue;
        }
        if line.starts_with("///") || line.starts_with("//!") {
            lines.documentation += 1;
        } else if !line.starts_with("//") {
            lines.code += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_library_is_found() {
        let verdict = check(&Repository::of(&[(
            "crates/moescope-x/src/a.rs",
            "/// One.\nfn a() {\n\n\n1;\n2;\n3;\n4;\n}\n",
        )]));
        assert_eq!(verdict.findings.len(), 1);
        assert!(
            verdict.findings[0].text.contains("1 lines of documentation for 6 of code, wanted at least 2")
        );
    }

    #[test]
    fn tests_comments_and_blank_lines_do_not_count() {
        let text = "//! One.\nfn a() {\n // why\n}\n#[cfg(test)]\nmod tests {\n1;\n2;\n3;\n4;\n}\n";
        let verdict = check(&Repository::of(&[("crates/moescope-x/src/a.rs", text)]));
        assert!(verdict.findings.is_empty());
        assert!(verdict.figures.ends_with("x 0.50"), "{}", verdict.figures);
    }
}
