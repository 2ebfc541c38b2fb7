use super::finding::{Finding, Verdict};
use super::repository::Repository;

/// Lines that the body of a function may have.
const LONGEST: usize = 80;
/// Bodies above this many lines must stay rare.
const LONG: usize = 60;
/// Percentage of functions that may be above [`LONG`].
const LONG_SHARE: f64 = 3.0;

/// No function body is longer than a page, and few come near; tests count.
pub(super) fn check(repository: &Repository) -> Verdict {
    let mut lengths = Vec::new();
    let mut findings = Vec::new();
    let mut long = Vec::new();
    for source in &repository.rust {
        for function in &source.functions {
            let (name, length) = (&function.name, function.length);
            lengths.push(length);
            let say = |wanted| {
                Finding::new(&source.path, function.line, format!("`{name}` has {length} lines, {wanted}"))
            };
            if length > LONGEST {
                findings.push(say(format!("at most {LONGEST}: give its parts names")));
            } else if length > LONG {
                long.push(say(format!("and more than {LONG_SHARE} % of all functions are above {LONG}")));
            }
        }
    }
    lengths.sort_unstable();
    let share = 100.0 * (long.len() + findings.len()) as f64 / lengths.len().max(1) as f64;
    if share > LONG_SHARE {
        findings.append(&mut long);
    }
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or(0);
    let longest = lengths.last().copied().unwrap_or(0);
    let figures = format!(
        "{} functions, median {median} lines, longest {longest} of {LONGEST}, above {LONG}: {share:.1} % of {LONG_SHARE} %",
        lengths.len()
    );
    Verdict { check: "function budget", figures, findings }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}() {{{}}}\n", "\n".repeat(lines - 1))
    }

    #[test]
    fn a_function_above_the_budget_is_found_at_its_line() {
        let text = function("short", 3) + &function("long", LONGEST + 1);
        let verdict = check(&Repository::of(&[("a.rs", &text)]));
        assert_eq!(verdict.findings.len(), 1);
        assert_eq!(verdict.findings[0].line, 4);
    }

    #[test]
    fn long_functions_are_found_only_when_they_are_many() {
        let few: String =
            (0..39).map(|i| function(&format!("f{i}"), 2)).collect::<String>() + &function("long", 70);
        assert!(check(&Repository::of(&[("a.rs", &few)])).findings.is_empty());
        let many = function("short", 2) + &function("long", 70);
        assert_eq!(check(&Repository::of(&[("a.rs", &many)])).findings.len(), 1);
    }
}
