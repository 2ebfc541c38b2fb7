//! Whether experts specialise: what the choice of experts tells about domain, token, class and position.

mod by_domain;
mod choices;
mod divergence;
mod grouping;
mod information;
mod joint_counts;
mod labels;
mod lift;
mod promoted_tokens;
mod report;
mod sides;
mod token_clusters;

pub use by_domain::{DomainLoadReport, LayerDomainLoad, domain_load};
pub use choices::Choices;
pub use divergence::{
    ExpertDivergence, LayerDivergence, Side, answer_divergence, cluster_divergence, divergence_figure,
    divergence_table, expert_divergence_table,
};
pub use grouping::Exchange;
pub use information::{InformationTest, information, information_each};
pub use labels::Labels;
pub(crate) use labels::position_bucket;
pub use lift::{DomainLift, domain_lift};
pub use promoted_tokens::{
    PROMOTED, PromotedClusters, PromotedTokens, clusters_by_unembedding, kept, promoted_tokens,
};
pub use report::{
    SpecialisationReport, domain_given_token, domain_specialisation, information_table, label_specialisation,
    specialisation,
};
pub(crate) use sides::both_sides;
pub use token_clusters::{TokenClusters, clusters_by_embedding, clusters_by_frequency};
