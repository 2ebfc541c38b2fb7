use moescope_analysis::routing::{NEAR_TIE, Permutations, load, sharpness};
use moescope_analysis::specialisation::{
    Labels, domain_given_token, domain_specialisation, label_specialisation,
};
use moescope_trace::RoutingTrace;
use serde::{Deserialize, Serialize};

use super::spectrum::LayerSpectrum;
use super::{Information, finite};
use crate::StudyError;

/// Where the tokens go, and what that tells about them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutingMeasure {
    /// Routed layers in order.
    pub layers: Vec<LayerMeasure>,
}

/// One routed layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerMeasure {
    /// Block.
    pub layer: usize,
    /// Effective number of experts.
    pub effective_experts: f64,
    /// Largest load over the mean load, minus 1.
    pub max_violation: f64,
    /// Share of experts that no token chose.
    pub dead_share: f64,
    /// Mean entropy of the router's scores, in nats; none for routers that do not score.
    pub entropy: Option<f64>,
    /// What one choice tells about the domain.
    pub domain: Information,
    /// What one choice tells about the token.
    pub token: Information,
    /// What one choice tells about the domain once the token is known.
    pub domain_given_token: Information,
    /// Effective rank of the layer's output.
    pub layer_rank: f64,
    /// Participation ratio of the layer's output.
    pub layer_participation: f64,
    /// Effective rank of one expert's output, mean over experts with enough tokens; none if no expert has enough.
    pub expert_rank: Option<f64>,
}

impl RoutingMeasure {
    pub(crate) fn of(
        trace: &RoutingTrace,
        spectra: &[LayerSpectrum],
        permutations: Permutations,
    ) -> Result<RoutingMeasure, StudyError> {
        let loads = load(trace)?;
        let sharpness = sharpness(trace, NEAR_TIE)?;
        let domain = domain_specialisation(trace, permutations)?;
        let token = label_specialisation(trace, &Labels::token(trace.tokens()), permutations)?;
        let conditional = domain_given_token(trace, permutations)?;
        let layers = trace.layers().iter().enumerate().map(|(i, layer)| LayerMeasure {
            layer: layer.layer,
            effective_experts: loads.layers[i].effective_experts,
            max_violation: loads.layers[i].max_violation,
            dead_share: loads.layers[i].dead_share,
            entropy: finite(sharpness.layers[i].entropy),
            domain: Information::from(&domain.tests[i]),
            token: Information::from(&token.tests[i]),
            domain_given_token: Information::from(&conditional.tests[i]),
            layer_rank: spectra[i].layer_rank,
            layer_participation: spectra[i].layer_participation,
            expert_rank: finite(spectra[i].expert_rank),
        });
        Ok(RoutingMeasure { layers: layers.collect() })
    }
}
