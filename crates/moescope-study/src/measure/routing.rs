//! Routing, layer by layer: how evenly, how sharply, and by what.

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
///
/// Even load is not specialisation and sharp routing is not either: a router can be each of the three without the
/// others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutingMeasure {
    /// Routed layers in order of depth.
    pub layers: Vec<LayerMeasure>,
}

/// One routed layer over all validation tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerMeasure {
    /// Block, counted from 0.
    pub layer: usize,
    /// Effective number of experts, exp of the entropy of the loads: from 1 to the number of experts. A router that
    /// draws at random also reaches the upper end.
    pub effective_experts: f64,
    /// Largest load over the mean load, minus 1: 0 if even (MaxVio, Wang et al. 2024). Over all tokens, so shorter
    /// batches are less even.
    pub max_violation: f64,
    /// Share of experts that no token of the validation windows chose, 0 to 1.
    pub dead_share: f64,
    /// Mean entropy of the router's scores, in nats; none for routers that do not score.
    pub entropy: Option<f64>,
    /// What one choice of an expert tells about the domain.
    pub domain: Information,
    /// What one choice tells about the token's id; the null moves routes along documents, as that of paths does.
    pub token: Information,
    /// What one choice tells about the domain once the token is known: specialisation in the domain itself and not in
    /// its vocabulary.
    pub domain_given_token: Information,
    /// Effective rank of the layer's output: exp of the entropy of its normalised covariance eigenvalues, from 1 to
    /// the width of the residual stream. Comparable between models at the equal number of rows taken here.
    pub layer_rank: f64,
    /// Participation ratio (Σλ)² / Σλ² of the layer's output; at most the effective rank, and more under the rule of
    /// the largest directions.
    pub layer_participation: f64,
    /// Effective rank of one expert's output, mean over experts with enough tokens; none if no expert has enough.
    /// Experts that are rarely chosen are not in it.
    pub expert_rank: Option<f64>,
    /// The same as a share of the most that an expert of this width could have.
    pub expert_rank_share: Option<f64>,
    /// Participation ratio of one expert's output, averaged like its effective rank; none where that is none, and in
    /// measurements of versions that did not keep it.
    pub expert_participation: Option<f64>,
    /// The same as a share of the most that an expert of this width could have.
    pub expert_participation_share: Option<f64>,
}

impl RoutingMeasure {
    /// Puts loads, sharpness, information and spectra of each routed layer side by side. `spectra[routed layer]`
    /// belongs to the layers of the trace in order.
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
            expert_rank_share: finite(spectra[i].expert_rank_share),
            expert_participation: finite(spectra[i].expert_participation),
            expert_participation_share: finite(spectra[i].expert_participation_share),
        });
        Ok(RoutingMeasure { layers: layers.collect() })
    }
}
