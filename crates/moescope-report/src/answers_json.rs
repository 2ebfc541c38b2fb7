//! The answers for machines, in the same words and numbers as the page has them for people.

use std::path::Path;

use moescope_base::Answers;

use crate::ReportError;
use crate::whole_file::write_whole;

/// Writes the document `answers.json`: two-space indent, keys in the order of the contract, a newline at the end.
///
/// A number that is not finite becomes `null`, since JSON has no other word for it.
///
/// # Errors
/// If the file cannot be written; an older file of that name then stays as it was.
pub fn write_answers(answers: &Answers, path: &Path) -> Result<(), ReportError> {
    let json = |source| ReportError::Json { what: "the answers".to_owned(), source };
    let mut text = serde_json::to_string_pretty(answers).map_err(json)?;
    text.push('\n');
    write_whole(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use moescope_base::{Answer, Confidence, Evidence, QuestionId};

    use super::*;

    fn evidence(estimate: f64) -> Evidence {
        Evidence {
            claim: "routed experts beat dense".into(),
            metric: "validation loss".into(),
            unit: "nats".into(),
            contrast: "moe − dense".into(),
            estimate,
            ci_low: -0.25,
            ci_high: f64::INFINITY,
            n_seeds: 5,
            test: "paired t".into(),
            p_holm: None,
            null: "no difference".into(),
            table: "loss".into(),
        }
    }

    #[test]
    fn the_document_follows_the_contract() {
        let answer = Answer {
            id: QuestionId::Q2,
            question: QuestionId::Q2.question().into(),
            verdict: "unique benefits".into(),
            confidence: Confidence::Undecided,
            evidence: vec![evidence(f64::NAN)],
            limits: vec!["one corpus".into()],
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.json");
        write_answers(&Answers { schema: 1, questions: vec![answer] }, &path).unwrap();
        insta::assert_snapshot!(std::fs::read_to_string(&path).unwrap());
    }
}
