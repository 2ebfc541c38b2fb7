use super::finding::{Finding, Verdict};
use super::repository::Repository;
use super::rust_source::RustSource;

/// Where `unsafe` may stand: kernels, and the map of a file, which no safe call makes.
const ALLOWED: [&str; 2] = ["crates/moescope-engine/", "crates/moescope-host/src/mapped_file.rs"];
/// How far above its `unsafe` a reason may begin.
const REACH: usize = 8;

/// `unsafe` lives in the engine and in the map of a file, and each has its reason in the lines above.
pub(super) fn check(repository: &Repository) -> Verdict {
    let mut findings = Vec::new();
    let mut blocks = 0;
    for source in &repository.rust {
        for line in source.tokens.iter().filter(|token| token.text == "unsafe").map(|token| token.line) {
            blocks += 1;
            if !ALLOWED.iter().any(|place| source.path.starts_with(place)) {
                let places = ALLOWED.join(" and ");
                findings.push(Finding::new(&source.path, line, format!("`unsafe` outside {places}")));
            } else if !has_reason(source, line) {
                findings.push(Finding::new(
                    &source.path,
                    line,
                    "`unsafe` without a `SAFETY:` comment above it",
                ));
            }
        }
    }
    let figures = format!("{blocks} times `unsafe`, all where it may stand and with a reason");
    let figures = if findings.is_empty() { figures } else { format!("{blocks} times `unsafe`") };
    Verdict { check: "unsafe", figures, findings }
}

/// Whether a comment above the line, or on it, says `SAFETY:` (in documentation `# Safety`).
fn has_reason(source: &RustSource, line: usize) -> bool {
    let first = line.saturating_sub(REACH + 1);
    source.lines[first..line].iter().any(|text| text.contains("// SAFETY:") || text.contains("/// # Safety"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_outside_the_engine_or_without_a_reason_is_found() {
        let verdict = check(&Repository::of(&[
            ("crates/moescope-model/src/a.rs", "// SAFETY: none helps here.\nunsafe fn a() {}"),
            ("crates/moescope-engine/src/b.rs", "fn b() {\n unsafe { c() }\n}"),
            ("crates/moescope-host/src/mapped_file.rs", "// SAFETY: read only.\nunsafe fn a() {}"),
            ("crates/moescope-host/src/lock.rs", "// SAFETY: read only.\nunsafe fn a() {}"),
        ]));
        let places: Vec<String> = verdict.findings.iter().map(|f| format!("{}:{}", f.path, f.line)).collect();
        let wanted = [
            "crates/moescope-engine/src/b.rs:2",
            "crates/moescope-host/src/lock.rs:2",
            "crates/moescope-model/src/a.rs:2",
        ];
        assert_eq!(places, wanted);
    }

    #[test]
    fn a_reason_counts_and_the_word_in_text_does_not() {
        let text = "#![allow(unsafe_code)]\n// It is unsafe to say \"unsafe\".\nfn b() -> &'static str {\n // SAFETY: c is total.\n unsafe { c() };\n \"unsafe\"\n}";
        let verdict = check(&Repository::of(&[("crates/moescope-engine/src/b.rs", text)]));
        assert!(verdict.findings.is_empty(), "{:?}", verdict.findings);
    }
}
