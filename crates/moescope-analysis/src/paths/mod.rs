//! Paths: which sets of experts a token passes through over all layers, and what the many possible ones are good for.

mod coverage;
mod effective_number;
mod flows;
mod information;
mod intern;
#[cfg(test)]
mod planted_subject;
mod restriction;
mod sequence;

pub use coverage::{CoveragePoint, CoverageReport, coverage};
pub(crate) use effective_number::seen_share;
pub use effective_number::{
    EffectiveNumber, EffectiveNumberReport, PathEntropy, combinations_log2, effective_number, entropy,
};
pub(crate) use flows::evenly_spaced;
pub use flows::{FlowStream, Flows, flows};
pub use information::{
    CrossLayerReport, PathInformation, PathInformationReport, cross_layer_information, path_information,
};
pub use intern::Interned;
pub use restriction::{
    Budget, EvaluationBatch, LayerSets, RestrictionPoint, RestrictionReport, SetChoice, most_used_sets,
    restriction,
};
pub use sequence::{PathKind, Paths};
