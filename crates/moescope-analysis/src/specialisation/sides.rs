//! Both sides of the divergence of experts, of the material that instruments have.

use moescope_base::Tokens;
use moescope_trace::{TokenTable, record_routing};

use super::divergence::{LayerDivergence, answer_divergence, cluster_divergence};
use super::promoted_tokens::{clusters_by_unembedding, promoted_tokens};
use super::token_clusters::{clusters_by_embedding, clusters_by_frequency};
use crate::instrument::Material;
use crate::routing::Permutations;
use crate::sequences::drawn;
use crate::{AnalysisError, Sample};

/// Sequences whose answers are read, at most; of as many documents as there are.
const SEQUENCES: usize = 64;

/// The divergence of experts from their layer over clusters of the tokens that they get, in the whole text, and of those that their answers promote,
/// in some of it. A side that has but one document has no other to exchange it with, and is left out.
///
/// # Errors
/// If the subject cannot answer.
pub(crate) fn both_sides(
    material: &mut Material<'_>,
    permutations: Permutations,
) -> Result<Vec<LayerDivergence>, AnalysisError> {
    let trace = material.routes()?.clone();
    let seed = material.seed.child("clusters of tokens");
    let clusters = clusters_by_embedding(material.subject, &material.batches, seed)?;
    let clusters = clusters.unwrap_or_else(|| clusters_by_frequency(&trace.tokens().ids));
    let mut found = Vec::new();
    for clusters in &clusters {
        found.extend(where_exchanged(cluster_divergence(&trace, clusters, permutations))?);
    }
    let samples = drawn(material, "answers", SEQUENCES)?;
    let tokens: Vec<Tokens> = samples.iter().map(|sample| sample.tokens().clone()).collect();
    let trace = record_routing(material.subject, samples.iter().map(with_table))?;
    let promoted = promoted_tokens(material.subject, &tokens, &trace)?;
    for clusters in &clusters_by_unembedding(material.subject, &promoted, seed)? {
        found.extend(where_exchanged(answer_divergence(&trace, clusters, permutations))?);
    }
    Ok(found)
}

/// What was found; nothing where there is but one document.
fn where_exchanged(
    found: Result<Vec<LayerDivergence>, AnalysisError>,
) -> Result<Vec<LayerDivergence>, AnalysisError> {
    match found {
        Err(AnalysisError::TooFew { unit: "documents", .. }) => Ok(Vec::new()),
        other => other,
    }
}

/// A sample with a table that tells its documents, and nothing else that is asked for here.
fn with_table(sample: &Sample) -> (Tokens, TokenTable) {
    let tokens = sample.tokens();
    let count = tokens.len();
    let table = TokenTable {
        ids: tokens.ids().to_vec(),
        next_ids: tokens.next_ids(0),
        domains: vec![0; count],
        documents: sample.documents().to_vec(),
        positions: (0..count).map(|token| (token % tokens.positions()) as u32).collect(),
        classes: vec![0; count],
        domain_names: vec!["text".into()],
        class_names: vec!["token".into()],
    };
    (tokens.clone(), table)
}
