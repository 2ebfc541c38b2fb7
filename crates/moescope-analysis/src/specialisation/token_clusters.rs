//! Clusters of token ids: by their embeddings, or by how frequent they are.

use std::collections::BTreeMap;

use moescope_base::{HookPoint, Request, Seed, Site, Subject, Tokens};
use moescope_trace::TokenTable;

use crate::AnalysisError;
use crate::clustering::k_means;
use crate::matrix::Features;

/// Numbers of clusters that are looked at, where the text has twice as many different tokens.
const WANTED: [usize; 2] = [10, 50];

/// Every token of a text in one of several clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenClusters {
    /// What decides: `embedding` or `frequency`.
    pub by: &'static str,
    /// Number of clusters.
    pub count: usize,
    /// Cluster of each token of the text: `[token]`, below `count`.
    pub of: Vec<u32>,
}

/// Clusters of the tokens of a text by the vectors that they enter the model with.
///
/// Only ids that stand in the text are clustered, each counting once however frequent it is. One pass is made over each batch.
///
/// # Errors
/// If the subject cannot answer. Nothing is an answer too: `None` where the subject does not show embeddings.
pub fn clusters_by_embedding(
    subject: &mut dyn Subject,
    batches: &[(Tokens, TokenTable)],
    seed: Seed,
) -> Result<Option<Vec<TokenClusters>>, AnalysisError> {
    let point = HookPoint::global(Site::Embed);
    let mut vectors: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (tokens, table) in batches {
        let new = |id: &u32| !vectors.contains_key(id);
        if !table.ids.iter().any(new) {
            continue;
        }
        let seen = subject.run(&Request::recording(tokens, &[point]))?;
        let Some(value) = seen.values.get(&point) else { return Ok(None) };
        let features = Features::of_value(value)?;
        for (row, id) in table.ids.iter().enumerate() {
            vectors.entry(*id).or_insert_with(|| features.row(row).to_vec());
        }
    }
    let Some(width) = vectors.values().next().map(Vec::len) else { return Ok(None) };
    let rows = Features::new(width, &vectors.values().flatten().copied().collect::<Vec<f64>>())?;
    let ids: Vec<u32> = vectors.into_keys().collect();
    let place = |id: &u32| ids.binary_search(id).expect("every id of the text has a vector");
    let of_count = |wanted: usize| {
        let clusters = k_means(&rows, wanted, seed.index(wanted as u64))?;
        let text = batches.iter().flat_map(|(_, table)| &table.ids);
        let of = text.map(|id| clusters.assigned[place(id)]).collect();
        Ok(TokenClusters { by: "embedding", count: clusters.count(), of })
    };
    counts(ids.len()).into_iter().map(of_count).collect::<Result<Vec<_>, AnalysisError>>().map(Some)
}

/// Clusters of the tokens of a text by how frequent their ids are in it: each has about as many tokens.
pub fn clusters_by_frequency(ids: &[u32]) -> Vec<TokenClusters> {
    let mut frequency: BTreeMap<u32, usize> = BTreeMap::new();
    ids.iter().for_each(|id| *frequency.entry(*id).or_default() += 1);
    let mut order: Vec<(usize, u32)> = frequency.into_iter().map(|(id, count)| (count, id)).collect();
    order.sort_unstable();
    let of_count = |wanted: usize| {
        let mut before = 0;
        let cluster = order.iter().map(|(count, id)| {
            let cluster = (before * wanted / ids.len().max(1)) as u32;
            before += count;
            (*id, cluster)
        });
        let cluster: BTreeMap<u32, u32> = cluster.collect();
        TokenClusters { by: "frequency", count: wanted, of: ids.iter().map(|id| cluster[id]).collect() }
    };
    counts(order.len()).into_iter().map(of_count).collect()
}

/// How many clusters are made of so many different tokens: those wanted, or a half where the text is smaller than all of them.
pub(super) fn counts(different: usize) -> Vec<usize> {
    let fitting: Vec<usize> = WANTED.into_iter().filter(|wanted| 2 * wanted <= different).collect();
    if fitting.is_empty() { vec![(different / 2).max(1)] } else { fitting }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted_model::{batch, model, own_text};
    use moescope_model::ModelSubject;

    #[test]
    fn frequency_by_hand() {
        // Token 7 six times, token 8 three times, tokens 1, 2 and 3 once each: of two clusters each has six tokens.
        let ids = [[7; 6].to_vec(), [8; 3].to_vec(), vec![1, 2, 3]].concat();
        let found = clusters_by_frequency(&ids).remove(0);
        assert_eq!((found.by, found.count), ("frequency", 2));
        assert_eq!(found.of, [[1; 6].to_vec(), [0; 6].to_vec()].concat());
    }

    #[test]
    fn small_texts_have_fewer_clusters() {
        assert_eq!(
            (counts(4), counts(20), counts(100), counts(1)),
            (vec![2], vec![10], vec![10, 50], vec![1])
        );
    }

    #[test]
    fn equal_tokens_are_in_one_cluster_and_equal_embeddings_too() {
        let model = model(1, 1, |_, _| {});
        let sample = own_text(&model, 12, 1);
        let (tokens, table) = batch(&sample);
        let ids = table.ids.clone();
        let mut subject = ModelSubject::new(model);
        let found = clusters_by_embedding(&mut subject, &[(tokens, table)], Seed(1)).unwrap().unwrap();
        for clusters in &found {
            assert_eq!(clusters.of.len(), ids.len());
            assert!(clusters.of.iter().all(|cluster| (*cluster as usize) < clusters.count));
            for (id, cluster) in ids.iter().zip(&clusters.of) {
                let first = ids.iter().position(|other| other == id).unwrap();
                assert_eq!(clusters.of[first], *cluster);
            }
        }
    }
}
