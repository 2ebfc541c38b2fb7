//! Sections: the evidence on one question, from the verdict to its limits.

use super::{PageData, Part, answers, claims, figure, table};
use crate::html::{Text, list, paragraphs};
use crate::{Report, ReportError};

/// One part of the page: question and verdict, claims, figures, tables, method, limits.
///
/// The limits of the section and of its answer make one list without repetitions. Method and limits come after the
/// evidence and are never folded away.
///
/// # Errors
/// As for a figure of the section.
pub(super) fn section(report: &Report, part: &Part<'_>, data: &mut PageData) -> Result<String, ReportError> {
    let section = &part.section;
    let anchor = part.anchor();
    let mut text = format!("<section id=\"{anchor}\">\n<h2>{}</h2>\n", Text(&section.heading));
    text.push_str(&opening(part, data));
    text.push_str(&paragraphs(&section.prose));
    for picture in &section.figures {
        text.push_str(&figure::figure(report, section, &anchor, picture, data)?);
    }
    for content in &section.tables {
        text.push_str(&table::table(&anchor, content, data));
    }
    text.push_str(&list("How it was measured", "method", &section.method));
    let mut limits = section.limits.clone();
    limits.extend(part.answer.iter().flat_map(|answer| answer.limits.clone()));
    let mut seen = std::collections::BTreeSet::new();
    limits.retain(|limit| seen.insert(limit.clone()));
    text.push_str(&list("What this does not show", "limits", &limits));
    text.push_str("</section>\n");
    Ok(text)
}

/// Question, verdict and claims, for a section that answers one.
fn opening(part: &Part<'_>, data: &mut PageData) -> String {
    let question = part.section.question.map(|q| format!("<p class=\"question\">{}</p>\n", q.question()));
    let Some(answer) = part.answer else { return question.unwrap_or_default() };
    let (question, verdict) = (Text(&answer.question), Text(&answer.verdict));
    let badge = answers::badge(answer.confidence);
    let claims = claims::claims(answer, data);
    format!("<p class=\"question\">{question}</p>\n<p class=\"verdict\">{verdict}</p>\n{badge}{claims}")
}
