use super::finding::{Finding, Verdict};
use super::repository::Repository;

/// Names that say nothing about a duty.
const EMPTY: [&str; 14] = [
    "util",
    "utils",
    "utilities",
    "helper",
    "helpers",
    "manager",
    "misc",
    "common",
    "stuff",
    "old",
    "new",
    "v1",
    "v2",
    "v3",
];

/// Files and folders of code are named for their one duty.
pub(super) fn check(repository: &Repository) -> Verdict {
    let paths = repository.texts.iter().map(|file| file.path.as_str());
    let code: Vec<&str> = paths.filter(|path| is_code(path)).collect();
    let findings = code.iter().filter_map(|path| {
        let part = path.split('/').find(|part| says_nothing(part) && !is_model_name(path, part))?;
        Some(Finding::new(path, 1, format!("`{part}` names no duty: say what it does")))
    });
    let findings: Vec<Finding> = findings.collect();
    Verdict { check: "file names", figures: format!("{} files of code", code.len()), findings }
}

fn is_code(path: &str) -> bool {
    [".rs", ".py", ".js", ".mjs", ".sh"].iter().any(|ending| path.ends_with(ending))
}

/// A family of models is called as its makers call it, number of the version included.
fn is_model_name(path: &str, part: &str) -> bool {
    path.contains("/families/") && part.contains("_v")
}

fn says_nothing(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part);
    EMPTY.contains(&stem) || stem.rsplit('_').next().is_some_and(|last| EMPTY.contains(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_names_are_found_as_file_folder_and_ending() {
        let verdict = check(&Repository::of(&[
            ("crates/x/src/utils.rs", ""),
            ("crates/x/src/helpers/mod.rs", ""),
            ("crates/x/src/router_v2.rs", ""),
            ("crates/x/src/model_manager.rs", ""),
        ]));
        assert_eq!(verdict.findings.len(), 4);
    }

    #[test]
    fn a_family_keeps_the_number_in_its_name() {
        let of = |path| check(&Repository::of(&[(path, "")])).findings.len();
        assert_eq!(of("crates/x/src/families/deepseek_v2.rs"), 0);
        assert_eq!(of("crates/x/src/families/utils.rs"), 1);
    }

    #[test]
    fn duties_and_other_texts_are_not() {
        let verdict = check(&Repository::of(&[
            ("crates/x/src/router.rs", ""),
            ("crates/x/src/threshold.rs", ""),
            ("docs/old.md", ""),
        ]));
        assert!(verdict.findings.is_empty());
    }
}
