/// Why an analysis could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// Fewer observations than the method needs.
    #[error(
        "{method}: found {found} {unit}, want at least {wanted}; give more text, or a model, that has them, or leave the analysis out"
    )]
    TooFew {
        /// Which method.
        method: &'static str,
        /// What is counted, in the plural.
        unit: &'static str,
        /// How many there are.
        found: usize,
        /// How many are needed.
        wanted: usize,
    },
    /// Two inputs that must have the same length.
    #[error("{method}: {what} has {found} entries, want {wanted}; pass inputs of equal length")]
    Length {
        /// Which method.
        method: &'static str,
        /// Which input.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length of the others.
        wanted: usize,
    },
    /// A number that is infinite or no number.
    #[error(
        "{method}: entry {index} is {value}, want a finite number; drop it or find out where it comes from"
    )]
    NotFinite {
        /// Which method.
        method: &'static str,
        /// Which entry.
        index: usize,
        /// What it is.
        value: f64,
    },
    /// An argument outside the range on which the method is defined.
    #[error("{method}: {what} is {found}, want {wanted}")]
    OutOfRange {
        /// Which method.
        method: &'static str,
        /// Which argument.
        what: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        wanted: String,
    },
    /// An input without the variation that the method measures.
    #[error("{method}: {what} does not vary, so the number is not defined; use an input that varies")]
    Constant {
        /// Which method.
        method: &'static str,
        /// Which input.
        what: &'static str,
    },
    /// A value that was asked for and not given.
    #[error("{point} was not recorded; run again with `--hooks {point}`")]
    NotRecorded {
        /// Where.
        point: moescope_base::HookPoint,
    },
    /// Weights that were asked for and are not there.
    #[error("{method}: {what}; {advice}")]
    NoWeights {
        /// Which method.
        method: &'static str,
        /// What was found.
        what: &'static str,
        /// What can be done.
        advice: &'static str,
    },
    /// The model could not answer.
    #[error(transparent)]
    Subject(#[from] moescope_base::SubjectError),
    /// A trace that does not fit its model.
    #[error(transparent)]
    Trace(#[from] moescope_trace::TraceError),
    /// A dictionary that could not be learned or measured.
    #[error(transparent)]
    Dictionary(#[from] moescope_dictionary::DictionaryError),
    /// Token ids that make no batch.
    #[error(transparent)]
    Tokens(#[from] moescope_base::TokensError),
    /// Columns that make no table.
    #[error(transparent)]
    Table(#[from] moescope_base::TableError),
}
