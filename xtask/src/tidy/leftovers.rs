use super::finding::{Finding, Verdict};
use super::repository::{Repository, TextFile};
use super::rust_source::{RustSource, Token};

/// Macros that mark unfinished or temporary code.
const MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];
/// Words that postpone work; put together so that this file may be checked too.
const WORDS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
/// Endings of files that people write by hand.
const WRITTEN: [&str; 11] =
    [".rs", ".md", ".toml", ".sh", ".py", ".js", ".mjs", ".css", ".html", ".yml", ".yaml"];

/// Nothing is left for later: no unfinished code, no postponed work, and no `unwrap` outside tests.
pub(super) fn check(repository: &Repository) -> Verdict {
    let mut findings: Vec<Finding> = repository.rust.iter().flat_map(in_code).collect();
    let written = repository.texts.iter().filter(|file| is_written(&file.path));
    findings.extend(written.flat_map(in_text));
    let figures =
        format!("{} times unfinished code, postponed work or `unwrap` outside tests", findings.len());
    Verdict { check: "leftovers", figures, findings }
}

fn is_written(path: &str) -> bool {
    path.starts_with(".ci/") || WRITTEN.iter().any(|ending| path.ends_with(ending))
}

fn in_code(source: &RustSource) -> Vec<Finding> {
    let mut findings = Vec::new();
    for window in source.tokens.windows(3) {
        let [a, b, c] = window else { continue };
        if MACROS.contains(&a.text.as_str()) && b.text == "!" {
            findings.push(Finding::new(&source.path, a.line, format!("`{}!` left behind", a.text)));
        }
        if is_unwrap(a, b, c) && !source.is_test(b.line) {
            let text = "`unwrap` outside tests: return an error, or `expect` with the invariant";
            findings.push(Finding::new(&source.path, b.line, text));
        }
    }
    findings
}

fn is_unwrap(a: &Token, b: &Token, c: &Token) -> bool {
    a.text == "." && b.text == "unwrap" && c.text == "("
}

fn in_text(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        for word in line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| WORDS.contains(w)) {
            findings.push(Finding::new(&file.path, number, format!("`{word}`: do it, or leave it out")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_code_is_found() {
        let text =
            "fn a() {\n todo!()\n}\nfn b() {\n dbg!(1);\n unimplemented!()\n}\nfn c() {\n d().unwrap();\n}";
        let verdict = check(&Repository::of(&[("a.rs", text)]));
        assert_eq!(verdict.findings.iter().map(|f| f.line).collect::<Vec<_>>(), [2, 5, 6, 9]);
    }

    #[test]
    fn postponed_work_is_found_in_any_written_file() {
        let line = format!("# {}: later, {}", WORDS[0], WORDS[2]);
        let verdict = check(&Repository::of(&[("a.md", &line), ("b.csv", &line), (".ci/run", &line)]));
        assert_eq!(verdict.findings.len(), 4);
    }

    #[test]
    fn unwrap_in_tests_strings_and_relatives_is_fine() {
        let text = "/// `x.unwrap()` panics; see todo!().\nfn a() {\n \"b.unwrap()\";\n c.unwrap_or(1);\n}\n\
                    #[cfg(test)]\nmod tests {\n fn t() { d.unwrap(); }\n}";
        let verdict =
            check(&Repository::of(&[("a.rs", text), ("crates/x/tests/b.rs", "fn a() { b.unwrap(); }")]));
        assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    }
}
