//! What an analysis writes: its document, tables and report.

use std::path::Path;

use moescope_analysis::instrument::{About, Instrument, Reads, named};
use moescope_analysis::wording::counted;
use moescope_report::{Report, Section};

use super::{AnalyzeArgs, DOCUMENT, Outcome};
use crate::failure::Failure;
use crate::out_folder::write_tables;
use crate::shell::word;

/// One line for a person.
pub(super) fn in_words(outcome: &Outcome) -> String {
    match &outcome.found {
        Ok(found) => match found.figures.first() {
            Some(figure) => figure.title.clone(),
            None => counted(found.tables.len(), "table", "tables"),
        },
        Err(reason) => format!("left out: {reason}"),
    }
}

/// What `analysis.json` and `--json` say.
pub(super) fn document(args: &AnalyzeArgs, tokens: usize, outcomes: &[Outcome]) -> serde_json::Value {
    let instruments: Vec<serde_json::Value> = outcomes
        .iter()
        .map(|outcome| {
            let mut entry = serde_json::json!({ "about": outcome.about });
            if let Some(most) = reads(&outcome.about).tokens(args.excerpt) {
                entry["reads_tokens"] = most.into();
            }
            match &outcome.found {
                Ok(found) => {
                    entry["tables"] = found.tables.iter().map(|table| table.name()).collect();
                    entry["findings"] = found.figures.iter().map(|figure| figure.title.as_str()).collect();
                }
                Err(reason) => entry["left_out"] = reason.as_str().into(),
            }
            entry
        })
        .collect();
    serde_json::json!({
        "schema": 1,
        "model": args.model,
        "against": args.against,
        "tokens": tokens,
        "seed": args.seed,
        "permutations": args.permutations,
        "instruments": instruments,
    })
}

/// Writes tables, report, and last `analysis.json`: a folder that has it is whole.
pub(super) fn write(
    args: &AnalyzeArgs,
    out: &Path,
    tokens: usize,
    outcomes: &[Outcome],
    document: &serde_json::Value,
) -> Result<(), Failure> {
    let found = outcomes.iter().filter_map(|outcome| outcome.found.as_ref().ok());
    write_tables(out, found.flat_map(|found| &found.tables))?;
    moescope_report::write_html(&report(args, tokens, outcomes), &out.join("report.html"))?;
    let text = serde_json::to_string_pretty(document).expect("numbers and texts always serialise");
    moescope_host::replace(&out.join(DOCUMENT), |file| std::io::Write::write_all(file, text.as_bytes()))?;
    Ok(())
}

/// The report: one section for each instrument that ran; the others stand in the notes.
fn report(args: &AnalyzeArgs, tokens: usize, outcomes: &[Outcome]) -> Report {
    let section = |outcome: &Outcome| {
        let found = outcome.found.as_ref().ok()?;
        let about = outcome.about;
        Some(Section {
            id: about.name.to_owned(),
            heading: heading(about.name),
            question: None,
            prose: vec![about.question.to_owned()],
            figures: found.figures.clone(),
            tables: found.tables.clone(),
            method: method(&about, tokens, args.excerpt),
            limits: vec![format!("Does not show {}.", about.does_not_show)],
        })
    };
    let model = args.model.as_deref().unwrap_or_default();
    let name = Path::new(model).file_name().map_or_else(|| model.into(), |name| name.to_string_lossy());
    let left_out = outcomes.iter().filter_map(|outcome| {
        outcome.found.as_ref().err().map(|reason| format!("{} was left out: {reason}", outcome.about.name))
    });
    let independent =
        "Documents, not tokens, are the independent units behind intervals and nulls.".to_owned();
    Report {
        title: format!("Inside {name}"),
        subtitle: format!(
            "{tokens} tokens, {}",
            counted(outcomes.iter().filter(|o| o.found.is_ok()).count(), "instrument", "instruments")
        ),
        lead: lead(outcomes),
        answers: None,
        sections: outcomes.iter().filter_map(section).collect(),
        reproduce: reproduce(args),
        notes: std::iter::once(independent).chain(left_out).collect(),
    }
}

/// Null, source, and what is read where that is less than the whole text.
///
/// Tables say how many observations stand behind each number; why these are fewer than the tokens of the
/// text is said here.
fn method(about: &About, tokens: usize, excerpt: usize) -> Vec<String> {
    let mut method = vec![format!("Null: {}.", about.null), format!("Source: {}.", about.source)];
    let reads = reads(about);
    if reads.tokens(excerpt).is_some_and(|most| most < tokens) {
        method.push(format!("Reads, of this text: {}.", reads.in_words(excerpt)));
    }
    method
}

/// How much of a text an instrument of this name reads.
fn reads(about: &About) -> Reads {
    named(about.name).map(Instrument::reads).unwrap_or_default()
}

/// The findings in one sentence each.
fn lead(outcomes: &[Outcome]) -> Vec<String> {
    outcomes
        .iter()
        .filter(|outcome| outcome.found.is_ok())
        .map(|outcome| format!("{}.", in_words(outcome)))
        .collect()
}

/// A name as a heading: with a capital, and spaces for hyphens.
fn heading(name: &str) -> String {
    let words = name.replace('-', " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}", first.to_uppercase(), letters.as_str()))
}

/// The command with every option that decides a number, the defaults included.
fn reproduce(args: &AnalyzeArgs) -> Vec<(String, String)> {
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map_or_else(String::new, |path| word(path.display()))
    };
    let against: String = args.against.iter().map(|model| format!(" --against {}", word(model))).collect();
    let command = format!(
        "moescope analyze {} {} --text {} --out {} --positions {} --tokens {} --excerpt {} --permutations {} --seed {}{against}",
        args.names.as_deref().map_or_else(String::new, word),
        args.model.as_deref().map_or_else(String::new, word),
        path(&args.text),
        path(&args.out),
        args.positions,
        args.tokens,
        args.excerpt,
        args.permutations,
        args.seed
    );
    vec![("Command".into(), command), ("Program".into(), format!("moescope {}", env!("CARGO_PKG_VERSION")))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_said_to_be_read_in_part_by_those_that_do_not_count_routes() {
        let lines = |name: &str, tokens| method(&named(name).unwrap().about(), tokens, 640);
        assert_eq!(lines("calibration", 640).len(), 2);
        let said = lines("calibration", 641);
        assert!(said[2].starts_with("Reads, of this text: at most 640 tokens"), "{said:?}");
        assert_eq!(lines("routing", 641).len(), 2);
    }
}
