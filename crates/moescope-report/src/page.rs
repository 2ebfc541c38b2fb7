//! The page, from the head to the scripts.

mod answers;
mod claims;
mod figure;
mod frame;
mod grid;
mod passages;
mod ratio;
mod section;
mod table;

use std::path::Path;

use moescope_base::{Answer, QuestionId};
use serde_json::{Map, Value};

use crate::whole_file::write_whole;
use crate::{Report, ReportError, Section};

/// Writes the report as one HTML file that loads nothing.
///
/// The page shows the verdicts first, then the evidence for each question, how it was measured, what it does not
/// show, and what is needed to get the same numbers. A question without a section of its own gets one with its claims.
///
/// # Errors
/// If a figure names a table or a column that the report does not have, or the file cannot be written; an older
/// file of that name then stays as it was.
pub fn write_html(report: &Report, path: &Path) -> Result<(), ReportError> {
    write_whole(path, page(report)?.as_bytes())
}

/// What the scripts of the page need, gathered while the page is written.
///
/// It is written once, at the end of the page, compressed: the numbers of a long table would otherwise be most of the
/// file.
#[derive(Default)]
struct PageData {
    /// Options of the charts by figure.
    charts: Map<String, Value>,
    /// Content of the tables by place.
    grids: Map<String, Value>,
}

/// A section with the answer whose claims it shows.
///
/// A section is borrowed from the report, or owned where an answer had none and got one with its claims alone.
struct Part<'a> {
    section: std::borrow::Cow<'a, Section>,
    answer: Option<&'a Answer>,
}

/// The document as text. The same report gives the same bytes: no date, no random identifier.
fn page(report: &Report) -> Result<String, ReportError> {
    let parts = parts(report);
    let mut data = PageData::default();
    let mut body = answers::cards(report, &parts);
    for part in &parts {
        body.push_str(&section::section(report, part, &mut data)?);
    }
    Ok(frame::page(report, &parts, &body, &data))
}

/// All sections; the first that serves a question shows its claims.
fn parts(report: &Report) -> Vec<Part<'_>> {
    let answers = || report.answers.iter().flat_map(|a| &a.questions);
    let mut shown: Vec<QuestionId> = Vec::new();
    let mut parts: Vec<Part<'_>> = Vec::new();
    for section in &report.sections {
        let question = section.question.filter(|q| !shown.contains(q));
        shown.extend(question);
        let answer = question.and_then(|q| answers().find(|a| a.id == q));
        parts.push(Part { section: std::borrow::Cow::Borrowed(section), answer });
    }
    for answer in answers().filter(|a| !shown.contains(&a.id)) {
        let section = Section {
            id: answer.id.to_string().to_lowercase(),
            heading: format!("{} evidence", answer.id),
            question: Some(answer.id),
            ..Section::default()
        };
        let later = parts.iter().position(|part| part.section.question > Some(answer.id));
        let part = Part { section: std::borrow::Cow::Owned(section), answer: Some(answer) };
        parts.insert(later.unwrap_or(parts.len()), part);
    }
    parts
}

impl Part<'_> {
    /// The target of links to this part.
    fn anchor(&self) -> String {
        anchor(&self.section)
    }
}

/// The target of links to a section.
fn anchor(section: &Section) -> String {
    format!("section-{}", crate::html::identifier(&section.id))
}
