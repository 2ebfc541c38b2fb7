//! What can be wrong with a request to the engine.

/// The one error of the engine: every variant says what was found, what was wanted, and the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A tensor does not have the axes that an operation works on.
    #[error(
        "{operation}: `{argument}` has shape {found:?}, wanted {wanted}; check the tensor handed to this operation"
    )]
    Shape {
        /// Name of the operation, as the method of [`Tape`](crate::Tape) is called.
        operation: &'static str,
        /// Name of the argument.
        argument: &'static str,
        /// The shape that came.
        found: Vec<usize>,
        /// The shape that was wanted, in words or figures.
        wanted: String,
    },
    /// A list of indices or data is too short or too long.
    #[error(
        "{operation}: `{argument}` has {found} entries, wanted {wanted}; give one entry for each that the shape names"
    )]
    Length {
        /// Name of the operation.
        operation: &'static str,
        /// Name of the argument.
        argument: &'static str,
        /// Number of entries that came.
        found: usize,
        /// Number of entries that was wanted.
        wanted: usize,
    },
    /// An index or a count lies outside what it indexes.
    #[error(
        "{operation}: `{argument}` is {found}, wanted {low} to {high}; correct the index or the size it refers to"
    )]
    Range {
        /// Name of the operation.
        operation: &'static str,
        /// Name of the argument.
        argument: &'static str,
        /// The value that came.
        found: usize,
        /// The smallest value allowed.
        low: usize,
        /// The largest value allowed.
        high: usize,
    },
    /// A token asks for the same expert twice.
    #[error(
        "route plan: token {token} chose expert {expert} twice, wanted distinct experts; remove the repeat"
    )]
    RepeatedExpert {
        /// The token, counted from 0.
        token: usize,
        /// The expert that it names twice.
        expert: usize,
    },
    /// The targets of a cross-entropy are all ignored, so there is no mean.
    #[error(
        "cross_entropy: all {rows} targets are ignored, wanted at least one; give a target that is not `IGNORE`"
    )]
    NoTargets {
        /// Number of rows.
        rows: usize,
    },
    /// A backward pass was asked of something that is not one number.
    #[error(
        "backward: the loss has shape {found:?}, wanted one number; reduce it first, with `sum_product` say"
    )]
    NotScalar {
        /// The shape that came.
        found: Vec<usize>,
    },
    /// A backward pass was asked of a tape that kept nothing for it.
    #[error(
        "backward: the tape was made in `Mode::Inference`, wanted `Mode::Gradient`; make it with that mode"
    )]
    NoGradientMode,
    /// A backward pass was asked of a tape that already gave its memory back.
    #[error(
        "backward: an earlier backward pass freed this tape's values; use `backward_keeping` for all passes but the last"
    )]
    Spent,
}
