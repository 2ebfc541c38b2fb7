use std::fmt;

use serde::{Deserialize, Serialize};

/// The document `answers.json`: what a study concluded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Version of this layout; now 1.
    pub schema: u32,
    /// One answer for each question, in order.
    pub questions: Vec<Answer>,
}

/// A computed answer to one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Which question.
    pub id: QuestionId,
    /// The question in words.
    pub question: String,
    /// The answer in words, composed from the evidence by a documented rule.
    pub verdict: String,
    /// How far the verdict may be trusted at this budget.
    pub confidence: Confidence,
    /// What the verdict rests on.
    pub evidence: Vec<Evidence>,
    /// What the verdict does not show.
    pub limits: Vec<String>,
}

/// One quantitative claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The claim in words.
    pub claim: String,
    /// What was measured.
    pub metric: String,
    /// Unit of the estimate.
    pub unit: String,
    /// What was compared with what.
    pub contrast: String,
    /// Point estimate.
    pub estimate: f64,
    /// Lower end of the interval.
    pub ci_low: f64,
    /// Upper end of the interval.
    pub ci_high: f64,
    /// Independent seeds behind it.
    pub n_seeds: usize,
    /// Test and interval used.
    pub test: String,
    /// p-value after Holm's correction over the family of claims; none where only an interval is claimed.
    pub p_holm: Option<f64>,
    /// What the estimate would be if there were nothing to find.
    pub null: String,
    /// Table that holds the data.
    pub table: String,
}

/// The five questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)] // the text of each is `question`
pub enum QuestionId {
    Q1,
    Q2,
    Q3,
    Q4,
    Q5,
}

/// How far a verdict may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Every claim that the verdict needs is decided, with margin.
    High,
    /// Decided, but by few seeds or with an interval that nearly touches the margin.
    Moderate,
    /// Some of the claims are decided, others not.
    Low,
    /// The budget did not decide the question.
    Undecided,
}

impl QuestionId {
    /// All five in order.
    pub const ALL: [QuestionId; 5] =
        [QuestionId::Q1, QuestionId::Q2, QuestionId::Q3, QuestionId::Q4, QuestionId::Q5];

    /// The question in words.
    pub fn question(self) -> &'static str {
        match self {
            QuestionId::Q1 => {
                "Can existing techniques for analysing traditional neural networks be applied effectively to MoE models?"
            }
            QuestionId::Q2 => {
                "Do MoE models behave like traditional models with very wide layers, or do they offer unique benefits?"
            }
            QuestionId::Q3 => "How does granularity affect the representations of these models?",
            QuestionId::Q4 => {
                "What role does the possibility of using many different data-processing paths play in the effectiveness of MoE?"
            }
            QuestionId::Q5 => {
                "In which practical applications do granular MoE models outperform non-granular ones?"
            }
        }
    }
}

impl fmt::Display for QuestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Confidence::High => "high",
            Confidence::Moderate => "moderate",
            Confidence::Low => "low",
            Confidence::Undecided => "not decided by this budget",
        })
    }
}
