//! From measurements to answers: what a study says, and how far it may be trusted.

use moescope_base::{Answer, Answers, Confidence, Figure, QuestionId, Table};

use crate::StudyError;
use crate::analyses::Analysis;
use crate::claim::{Claim, Claims, Decision};
use crate::questions;
use crate::results::Results;

/// What a study concludes, with everything its report shows.
#[derive(Clone, Debug)]
pub struct Conclusion {
    /// Opening sentences: what was run, the noise floor, whether the models have learned. One paragraph each.
    pub lead: Vec<String>,
    /// The five answers, Q1 to Q5, as programs read them (`answers.json`).
    pub answers: Answers,
    /// One chapter of evidence for each question in order, after one on the models themselves, and before one for each instrument of
    /// the case that was asked.
    pub chapters: Vec<Chapter>,
}

/// The evidence for one question.
#[derive(Clone, Debug)]
pub struct Chapter {
    /// Anchor in the report: `q1` to `q5` for the questions.
    pub id: String,
    /// The question; none for the chapter on the models, and for those of instruments.
    pub question: Option<QuestionId>,
    /// Heading.
    pub heading: String,
    /// Text before the figures.
    pub prose: Vec<String>,
    /// Pictures of the tables; each names the table of this chapter that it draws.
    pub figures: Vec<Figure>,
    /// Data, complete: nothing is in a figure or a sentence that is not in a table.
    pub tables: Vec<Table>,
    /// How it was measured: the instrument, its null, its unit.
    pub method: Vec<String>,
    /// What it does not show. The same sentences stand in the answer of the question.
    pub limits: Vec<String>,
}

/// Draws the conclusion from the measurements. A pure function: the same results give the same words.
///
/// No model is opened and nothing is drawn at random here, so results written by hand can test every verdict.
///
/// # Errors
/// If a measurement is missing or not a number.
pub fn conclude(results: &Results) -> Result<Conclusion, StudyError> {
    let (lead, models) = questions::models(results)?;
    let answered = [
        questions::q1(results)?,
        questions::q2(results)?,
        questions::q3(results)?,
        questions::q4(results)?,
        questions::q5(results)?,
    ];
    let (answers, chapters): (Vec<Answer>, Vec<Chapter>) = answered.into_iter().unzip();
    let asked = results.analyses.iter().map(Analysis::chapter).collect::<Result<Vec<Chapter>, _>>()?;
    let chapters = [models].into_iter().chain(chapters).chain(asked).collect();
    Ok(Conclusion { lead, answers: Answers { schema: 1, questions: answers }, chapters })
}

/// Puts an answer together. `needed` names the claims on which the verdict rests; they decide its confidence, while
/// all `claims` go into the evidence. What stayed open is part of `verdict` already.
pub(crate) fn answer(
    id: QuestionId,
    verdict: String,
    needed: &[&str],
    claims: &[Claim],
    limits: &[String],
) -> Answer {
    Answer {
        id,
        question: id.question().to_owned(),
        verdict,
        confidence: confidence(needed, claims),
        evidence: claims.iter().map(|c| c.evidence.clone()).collect(),
        limits: limits.to_vec(),
    }
}

/// How far a verdict may be trusted: by the share of the claims it needs that are decided, and by how clearly.
///
/// High needs every one decided with an interval that stays clear of zero (or of the margin) by half its own width,
/// and five seeds or more; moderate every one decided; low some; otherwise the question is not decided.
///
/// - **Does not show:** whether the verdict holds for other sizes, texts or budgets. All of it is about repetitions
///   of the same study.
fn confidence(needed: &[&str], claims: &[Claim]) -> Confidence {
    let claims = Claims(claims);
    let needed: Vec<&Claim> = needed.iter().map(|key| claims.get(key)).collect();
    let decided = needed.iter().filter(|c| c.decision != Decision::Open).count();
    if decided == 0 {
        Confidence::Undecided
    } else if decided < needed.len() {
        Confidence::Low
    } else if needed.iter().all(|c| is_clear(c)) {
        Confidence::High
    } else {
        Confidence::Moderate
    }
}

/// Whether a decided claim would stay decided if its interval were twice as wide, and has five seeds behind it. Below
/// five, an interval is itself too uncertain for "clear" to mean anything.
fn is_clear(claim: &Claim) -> bool {
    let e = &claim.evidence;
    let spare = (e.ci_high - e.ci_low) / 2.0;
    let clear = match (claim.decision, claim.margin) {
        (Decision::Same, Some(margin)) => e.estimate.abs() + 2.0 * spare < margin,
        _ => e.estimate.abs() > 2.0 * spare,
    };
    clear && e.n_seeds >= 5
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::{Draft, Wording, decide};

    fn claims(values: &[&[f64]]) -> Vec<Claim> {
        const KEYS: [&str; 3] = ["a", "b", "c"];
        let draft = |(key, values): (&&'static str, &&[f64])| Draft {
            key: (*key).into(),
            metric: "m",
            unit: "",
            contrast: String::new(),
            null: "0",
            table: "t",
            values: values.to_vec(),
            primary: true,
            margin: None,
            wording: Wording {
                above: String::new(),
                below: String::new(),
                same: String::new(),
                open: String::new(),
            },
        };
        decide(KEYS.iter().zip(values).map(draft).collect()).unwrap()
    }

    #[test]
    fn confidence_falls_with_what_stays_open() {
        let clear: &[f64] = &[1.0, 1.01, 0.99, 1.0, 1.02];
        let few: &[f64] = &[1.0, 1.01, 0.99];
        let open: &[f64] = &[1.0, -1.0, 0.1];
        assert_eq!(confidence(&["a", "b"], &claims(&[clear, clear])), Confidence::High);
        assert_eq!(confidence(&["a", "b"], &claims(&[few, few])), Confidence::Moderate);
        assert_eq!(confidence(&["a", "b"], &claims(&[few, open])), Confidence::Low);
        assert_eq!(confidence(&["a", "b"], &claims(&[open, open])), Confidence::Undecided);
    }
}
