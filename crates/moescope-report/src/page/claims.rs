//! The claims behind a verdict, as a table.

use moescope_base::{Answer, Evidence};
use serde_json::{Value, json};

use super::grid::{Cell, Grid, Head};
use super::{PageData, ratio};
use crate::html::Text;
use crate::number;

/// The claims of an answer as a table, or nothing when it makes none.
pub(super) fn claims(answer: &Answer, data: &mut PageData) -> String {
    if answer.evidence.is_empty() {
        return String::new();
    }
    let id = format!("claims-{}", answer.id.to_string().to_lowercase());
    let grid = Grid {
        file: format!("{}-claims", answer.id),
        caption: "Claims, with the interval of each and the null that it is held against".to_owned(),
        heads: heads(),
        rows: answer.evidence.iter().map(row).collect(),
        csv: csv(&answer.evidence),
        keys: vec![0, 3, 7, 9, 10, 8],
    };
    grid.html(&id, data)
}

/// A unit behind its number, or nothing.
pub(super) fn unit(unit: &str) -> String {
    match unit {
        "" => String::new(),
        "%" => "\u{202f}%".to_owned(),
        unit => format!(" <span class=\"unit\">{}</span>", Text(unit)),
    }
}

/// Headings in the order of [`row`]. `p` is adjusted by Holm's method, or missing where a claim has no test.
fn heads() -> Vec<Head> {
    let head = |label: &str, detail: &str, numeric| Head::new(label, detail, numeric);
    vec![
        head("Claim", "", false),
        head("Estimate", "interval", true),
        head("n", "seeds", true),
        head("p", "Holm", true),
        head("Under the null", "", false),
        head("Test", "", false),
    ]
}

/// One claim as it is read: rounded to what its interval gives meaning to.
fn row(evidence: &Evidence) -> Vec<Cell> {
    let (value, interval) = number::with_interval(evidence.estimate, evidence.ci_low, evidence.ci_high);
    let value = format!("{value} {}", evidence.unit);
    let ends = (evidence.estimate, evidence.ci_low, evidence.ci_high);
    let ratio = ratio::in_words(&evidence.unit, &evidence.contrast, ends);
    // Each part keeps its line; the cell breaks between them.
    let aside: Vec<String> =
        interval.into_iter().chain(ratio).map(|part| part.replace(' ', "\u{a0}")).collect();
    let about = [&evidence.metric, &evidence.contrast].map(String::as_str);
    let about = about.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    let table = match evidence.table.is_empty() {
        true => String::new(),
        false => format!("table {}", evidence.table),
    };
    vec![
        Cell::new(evidence.claim.clone(), about),
        Cell::new(value.trim().to_owned(), aside.join(" ")),
        Cell::new(number::integer(evidence.n_seeds as i64), String::new()),
        Cell::new(number::probability(evidence.p_holm.unwrap_or(f64::NAN)), String::new()),
        Cell::new(evidence.null.clone(), String::new()),
        Cell::new(bounded(&evidence.test), table),
    ]
}

/// A test in words, with a probability that was rounded to nothing as the bound that it is.
fn bounded(test: &str) -> String {
    let parts: Vec<&str> = test.split("= 0.000").collect();
    let mut text = parts[0].to_owned();
    for part in &parts[1..] {
        let about_probability = text.trim_end().ends_with("p") || text.trim_end().ends_with("(Holm)");
        let ends = !part.starts_with(|c: char| c.is_ascii_digit());
        text.push_str(if about_probability && ends { "< 0.001" } else { "= 0.000" });
        text.push_str(part);
    }
    text
}

/// The claims for download, with full precision and every field, also those that the table on the page leaves out.
fn csv(evidence: &[Evidence]) -> Vec<(String, Value)> {
    let text = |name: &str, of: fn(&Evidence) -> &String| {
        (name.to_owned(), json!(evidence.iter().map(of).collect::<Vec<_>>()))
    };
    let number = |name: &str, of: fn(&Evidence) -> Option<f64>| {
        (name.to_owned(), json!(evidence.iter().map(of).collect::<Vec<_>>()))
    };
    vec![
        text("claim", |e| &e.claim),
        text("metric", |e| &e.metric),
        text("contrast", |e| &e.contrast),
        number("estimate", |e| Some(e.estimate)),
        text("unit", |e| &e.unit),
        number("ci_low", |e| Some(e.ci_low)),
        number("ci_high", |e| Some(e.ci_high)),
        number("n_seeds", |e| Some(e.n_seeds as f64)),
        text("test", |e| &e.test),
        number("p_holm", |e| e.p_holm),
        text("null", |e| &e.null),
        text("table", |e| &e.table),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_probability_is_zero() {
        assert_eq!(bounded("TOST: p (Holm) = 0.000; more"), "TOST: p (Holm) < 0.001; more");
        assert_eq!(bounded("p = 0.000"), "p < 0.001");
        assert_eq!(bounded("p = 0.0004, margin = 0.000"), "p = 0.0004, margin = 0.000");
    }
}
