//! The verdicts at the head of the page, for a reader who reads nothing else.

use moescope_base::{Answer, Confidence, Evidence};

use super::claims::unit;
use super::{Part, ratio};
use crate::html::Text;
use crate::{Report, number};

/// How many key numbers a card shows.
///
/// They are the first claims of the answer in its own order; all of them stand in its section.
const KEY_NUMBERS: usize = 3;

/// The answers in words, each with its certainty and its first numbers.
pub(super) fn cards(report: &Report, parts: &[Part<'_>]) -> String {
    let Some(answers) = &report.answers else { return String::new() };
    let cards: String = answers.questions.iter().map(|answer| card(answer, parts)).collect();
    format!("<section id=\"answers\">\n<h2>Answers</h2>\n<div class=\"cards\">\n{cards}</div>\n</section>\n")
}

/// One answer: question, verdict, confidence, key numbers, and the way to the evidence.
///
/// An answer without numbers says so, for a verdict without a number is an opinion.
fn card(answer: &Answer, parts: &[Part<'_>]) -> String {
    let (id, question, verdict) = (answer.id, Text(&answer.question), Text(&answer.verdict));
    let badge = badge(answer.confidence);
    let numbers: String = answer.evidence.iter().take(KEY_NUMBERS).map(key_number).collect();
    let numbers = match numbers.is_empty() {
        true => "<p class=\"none\">No number was measured for this question.</p>\n".to_owned(),
        false => format!("<ul class=\"numbers\">\n{numbers}</ul>\n"),
    };
    let target = parts.iter().find(|part| part.answer.is_some_and(|a| a.id == id));
    let more = target.map_or(String::new(), |part| {
        let count = answer.evidence.len();
        let words = match count {
            0 => format!("More on {id}"),
            1 => format!("Evidence for {id}: 1 claim"),
            _ => format!("Evidence for {id}: {count} claims"),
        };
        format!("<p class=\"more\"><a href=\"#{}\">{words}</a></p>\n", part.anchor())
    });
    format!(
        "<article class=\"card\">\n<p class=\"question\"><b>{id}</b> {question}</p>\n\
         <p class=\"verdict\">{verdict}</p>\n{badge}{numbers}{more}</article>\n"
    )
}

/// Confidence in words and as a row of dots; its colour only repeats them.
pub(super) fn badge(confidence: Confidence) -> String {
    let (level, filled) = match confidence {
        Confidence::High => ("high", 3),
        Confidence::Moderate => ("moderate", 2),
        Confidence::Low => ("low", 1),
        Confidence::Undecided => ("undecided", 0),
    };
    let dots: String = (0..3).map(|i| if i < filled { "●" } else { "○" }).collect();
    let words = match confidence {
        Confidence::Undecided => confidence.to_string(),
        _ => format!("{confidence} confidence"),
    };
    format!("<p class=\"badge {level}\"><span aria-hidden=\"true\">{dots}</span> {words}</p>\n")
}

/// One claim in short: the estimate with unit and interval, the seeds behind it, and the claim in words.
fn key_number(evidence: &Evidence) -> String {
    let (value, interval) = number::with_interval(evidence.estimate, evidence.ci_low, evidence.ci_high);
    let interval = interval.map_or(String::new(), |i| format!(" <span class=\"interval\">{i}</span>"));
    let (unit, claim) = (unit(&evidence.unit), Text(&evidence.claim));
    let ends = (evidence.estimate, evidence.ci_low, evidence.ci_high);
    let ratio = ratio::in_words(&evidence.unit, &evidence.contrast, ends);
    let ratio = ratio.map_or(String::new(), |r| format!(" <span class=\"interval\">{}</span>", Text(&r)));
    let n = evidence.n_seeds;
    let seeds = if n == 1 { "1 seed".to_owned() } else { format!("{n} seeds") };
    format!(
        "<li><span class=\"value\">{value}{unit}</span>{interval}{ratio} <span class=\"count\">n = {seeds}</span>\
         <span class=\"claim\">{claim}</span></li>\n"
    )
}
