use super::Instrument;
use super::standard::{DomainProbe, Lens, Paths, RouteLoad, Specialisation};
use crate::ablation::Ablation;
use crate::activation_patch::ActivationPatching;
use crate::attribution::AttributionPatching;
use crate::calibration::CalibrationError;
use crate::causal_trace::CausalTracing;
use crate::committee::Committee;
use crate::domain_shift::DomainShift;
use crate::expert_cache::ExpertCache;
use crate::expert_merge::ExpertMerging;
use crate::expert_profile::ExpertProfile;
use crate::expert_prune::ExpertPruning;
use crate::expert_representation::ExpertRepresentation;
use crate::expert_similarity::ExpertSimilarity;
use crate::generated_routes::PrefillDecode;
use crate::induction::InductionHeads;
use crate::intrinsic_dimension::TwoNeighbours;
use crate::jacobian_lens::JacobianLens;
use crate::knockout::ExpertImportances;
use crate::logit_attribution::LogitAttribution;
use crate::model_comparison::{ExpertAlignments, ModelAgreement, ModelSimilarity, RouteSaturation};
use crate::neuron_profile::NeuronProfile;
use crate::path_patch::PathPatching;
use crate::path_profile::PathProfile;
use crate::predictability::Predictability;
use crate::quantised_experts::QuantisedExperts;
use crate::route_patch::RoutePatching;
use crate::router_geometry::RouterGeometry;
use crate::routing_regret::RoutingRegret;
use crate::similarity::LayerSimilarity;
use crate::sparse_dictionary::SparseDictionaries;
use crate::sparse_probe::SparseProbe;
use crate::stream_spectrum::StreamSpectrum;
use crate::superposition::Superposition;
use crate::tuned_lens::TunedLens;
use crate::weight_sizes::ExpertWeightSizes;

/// Every instrument, in the order of reading.
pub const CASE: &[&dyn Instrument] = &[
    &RouteLoad,
    &Committee,
    &Specialisation,
    &ExpertProfile,
    &Predictability,
    &RouterGeometry,
    &ExpertSimilarity,
    &ExpertWeightSizes,
    &Paths,
    &PathProfile,
    &DomainProbe,
    &SparseProbe,
    &SparseDictionaries,
    &NeuronProfile,
    &Superposition,
    &LayerSimilarity,
    &ExpertRepresentation,
    &TwoNeighbours,
    &StreamSpectrum,
    &Lens,
    &TunedLens,
    &JacobianLens,
    &LogitAttribution,
    &InductionHeads,
    &Ablation,
    &ExpertImportances,
    &ExpertMerging,
    &ExpertPruning,
    &AttributionPatching,
    &RoutePatching,
    &PathPatching,
    &CausalTracing,
    &ActivationPatching,
    &RoutingRegret,
    &CalibrationError,
    &ExpertCache,
    &PrefillDecode,
    &QuantisedExperts,
    &DomainShift,
    &RouteSaturation,
    &ModelAgreement,
    &ModelSimilarity,
    &ExpertAlignments,
];

/// The instrument of a name, if there is one.
pub fn named(name: &str) -> Option<&'static dyn Instrument> {
    CASE.iter().copied().find(|instrument| instrument.about().name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instrument::Range;
    use std::collections::BTreeSet;

    #[test]
    fn names_differ_and_nothing_is_left_unsaid() {
        let names: BTreeSet<&str> = CASE.iter().map(|instrument| instrument.about().name).collect();
        assert_eq!(names.len(), CASE.len());
        for instrument in CASE {
            let about = instrument.about();
            assert_eq!(named(about.name).map(|found| found.about()), Some(about));
            for text in [about.question, about.null, about.does_not_show, about.source, about.passes] {
                assert!(!text.is_empty(), "{}", about.name);
            }
        }
        assert!(named("none").is_none());
    }

    #[test]
    fn every_table_and_column_is_said_once_and_every_bound_is_one() {
        let mut tables = BTreeSet::new();
        for gives in CASE.iter().flat_map(|instrument| instrument.about().gives) {
            assert!(tables.insert(gives.table), "{} is given twice", gives.table);
            let columns: Vec<&str> =
                gives.rows.iter().copied().chain(gives.numbers.iter().map(|number| number.column)).collect();
            assert_eq!(columns.iter().collect::<BTreeSet<_>>().len(), columns.len(), "{}", gives.table);
            assert!(!gives.numbers.is_empty(), "{}", gives.table);
            for number in gives.numbers {
                if let Range::Within(low, high) = number.range {
                    assert!(low < high, "{}: {number}", gives.table);
                }
            }
        }
        assert!(CASE.iter().all(|instrument| !instrument.about().gives.is_empty()));
    }
}
