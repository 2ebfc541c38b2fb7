//! Two models side by side: whether their routes agree, as experts are named or once they are matched, and how alike their streams are.
//!
//! - `saturation`: checkpoints of one training, in which experts keep their names.
//! - `model-agreement`: two trainings, in which names mean nothing: experts are matched by the tokens that they share, one to one, and the agreement
//!   is counted on other documents than those that decided the matching.
//! - `model-similarity`: residual streams, which no name of an expert touches.
//! - `expert-alignment`: the answers of single experts to the same tokens, as experts are named and once they are matched by what they answer.
//!
//! All but `model-similarity` need as many routed layers and experts in both models; that one needs the same text alone.

mod agreement;
mod alignment;
mod by_measure;
mod expert_alignment;
mod gives;
mod matching;
mod saturation;
mod streams;
#[cfg(test)]
mod tests;

pub use agreement::ModelAgreement;
pub use alignment::{ExpertAlignment, ExpertKernels, expert_alignment};
pub use expert_alignment::{ExpertAlignments, kept};
pub use matching::{RouteAgreement, route_agreement};
pub use saturation::RouteSaturation;
pub use streams::ModelSimilarity;

use moescope_base::Subject;
use moescope_trace::{RoutingTrace, record_routing};

use crate::instrument::Material;
use crate::{AnalysisError, check};

/// Refuses material without another model.
fn wanted(material: &Material<'_>, method: &'static str) -> Result<(), AnalysisError> {
    check::at_least(method, "other models (`--against MODEL`)", material.others.len(), 1)
}

/// Opens another model and asks it something; it must know every token of the text.
fn of_other<T>(
    material: &Material<'_>,
    number: usize,
    ask: impl FnOnce(&mut (dyn Subject + Send)) -> Result<T, AnalysisError>,
) -> Result<T, AnalysisError> {
    let mut other = (material.others[number].open)()?;
    let (own, theirs) = (material.subject.shape().vocab, other.shape().vocab);
    check::in_range(
        "comparison of models",
        "the vocabulary of the other model",
        theirs,
        own == theirs,
        &format!("{own} tokens, as the first model has"),
    )?;
    ask(&mut *other)
}

/// The routes of another model on the same text.
fn routes_of_other(material: &Material<'_>, number: usize) -> Result<RoutingTrace, AnalysisError> {
    of_other(material, number, |other| Ok(record_routing(other, material.batches.iter().cloned())?))
}
