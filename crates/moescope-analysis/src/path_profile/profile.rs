//! Everything that is told of one path.

use moescope_base::Seed;
use moescope_trace::{LayerRouting, RoutingTrace};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::loss::{Beyond, Losses};
use super::purity::{Labelled, Purer, Purities, purities};
use super::walks::{Path, Walks};
use super::{NAMED, TEXTS};
use crate::AnalysisError;
use crate::expert_profile::{Tokens, telling_tokens};
use crate::neuron_profile::{Domains, Parts, Strongest, Text};
use crate::predictions::Predictions;
use crate::routing::Permutations;
use crate::statistics::{Bootstrap, Resampling};

/// What is told of one path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Profile {
    /// Share of all tokens.
    pub(super) share: Bootstrap,
    /// The tokens by which it is known.
    pub(super) known: Tokens,
    /// The predictions by which it is known.
    pub(super) predicts: Tokens,
    /// Where it is walked most; none with one domain.
    pub(super) domain: Option<Strongest>,
    /// Whether its tokens are more alike than those of its experts.
    pub(super) purity: Purer,
    /// Mean loss.
    pub(super) loss: Bootstrap,
    /// The same beside that of the same tokens elsewhere.
    pub(super) beyond: Beyond,
    /// Mean entropy of the routers that it passes.
    pub(super) entropy: Bootstrap,
    /// Places in the text.
    pub(super) texts: Vec<usize>,
}

/// What is told of all paths.
pub(super) struct Profiles {
    pub(super) walks: Walks,
    pub(super) of: Vec<Profile>,
    /// Label and what paths tell of it beyond experts.
    pub(super) purities: Vec<(&'static str, Purities)>,
    /// Mean loss of all tokens.
    pub(super) loss: f64,
    /// Mean entropy of the routers over all tokens.
    pub(super) entropy: f64,
}

/// How profiles are drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) permutations: Permutations,
    pub(super) resampling: Resampling,
    pub(super) seed: Seed,
}

/// Profiles of the most used paths.
///
/// # Errors
/// As [`Walks::of`], and if no interval can be drawn.
pub(super) fn profiles(
    trace: &RoutingTrace,
    text: &Text,
    predictions: &Predictions,
    setting: Setting,
) -> Result<Profiles, AnalysisError> {
    let walks = Walks::of(trace)?;
    let tokens = trace.tokens();
    let (ids, documents) = (&tokens.ids, &tokens.documents);
    let routed = as_routes(&walks, ids.len());
    let told = |label: &str, ids: &[u32]| {
        telling_tokens(&routed, ids, documents, NAMED, setting.permutations.child(label))
    };
    let (known, predicts) = (told("token", ids), told("prediction", &predictions.ids));
    let classes: Vec<u32> = tokens.classes.iter().map(|class| u32::from(*class)).collect();
    let domains_of: Vec<u32> = tokens.domains.iter().map(|domain| u32::from(*domain)).collect();
    let labels: [(&str, &[u32]); 4] =
        [("token", ids), ("prediction", &predictions.ids), ("class", &classes), ("domain", &domains_of)];
    let several = |labels: &[u32]| labels.iter().any(|label| *label != labels[0]);
    let told =
        |(name, labels): &(&'static str, &[u32])| (*name, purities(&walks, Labelled { labels, documents }));
    let purities: Vec<(&str, Purities)> =
        labels.par_iter().filter(|(name, of)| *name == "token" || several(of)).map(told).collect();
    let losses = Losses::new(ids, documents, &predictions.losses);
    let entropy = entropies(trace, &walks.layers);
    let draws = setting.permutations.enough_for(walks.paths.len()).count;
    let domains = Domains::new(documents, &tokens.domains, draws, setting.seed.child("domains"));
    let order = order(ids.len(), setting.seed.child("texts"));
    let profile = |(place, path): (usize, &Path)| {
        let indicator = indicator(path, ids.len());
        let (on, costs) = losses.on(path);
        // Routers that do not score have no entropy.
        let sharp = path.tokens.iter().filter(|token| entropy[**token].is_finite());
        let (here, sharp): (Vec<u32>, Vec<f64>) =
            sharp.map(|token| (documents[*token], entropy[*token])).unzip();
        let entropy = Parts::new(&here, sharp.into_iter());
        let share = Parts::new(documents, indicator.into_iter());
        Ok(Profile {
            domain: domains.as_ref().and_then(|domains| domains.strongest(&share)),
            share: share.interval(setting.resampling)?,
            known: known[place].clone(),
            predicts: predicts[place].clone(),
            purity: purities[0].1.paths[place],
            loss: Parts::new(&on, costs.into_iter()).interval(setting.resampling)?,
            beyond: losses.beyond(path),
            entropy: entropy.interval(setting.resampling)?,
            texts: some_texts(path, text, &order),
        })
    };
    let of = walks.paths.par_iter().enumerate().map(profile).collect::<Result<_, AnalysisError>>()?;
    let known: Vec<f64> = predictions.losses.iter().copied().flatten().collect();
    let (loss, entropy) = (mean(&known), mean(&entropy));
    Ok(Profiles { walks, of, purities, loss, entropy })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Paths in the place of experts, one for each token; those without a profile together are the last.
///
/// What tells an expert tells a path in the same way: both are choices of one out of some for each token. Weights and scores have no meaning here,
/// and the test does not read them.
fn as_routes(walks: &Walks, tokens: usize) -> LayerRouting {
    LayerRouting {
        layer: 0,
        experts: walks.paths.len() + 1,
        per_token: 1,
        choices: walks.path_of(tokens),
        weights: vec![1.0; tokens],
        entropy: vec![0.0; tokens],
        margin: vec![0.0; tokens],
        relative_margin: vec![0.0; tokens],
    }
}

/// Mean entropy of the routers in these layers, for each token; nats.
fn entropies(trace: &RoutingTrace, layers: &[usize]) -> Vec<f64> {
    let mut sums = vec![0.0; trace.tokens().len()];
    for layer in trace.layers().iter().filter(|layer| layers.contains(&layer.layer)) {
        sums.iter_mut().zip(&layer.entropy).for_each(|(sum, entropy)| *sum += f64::from(*entropy));
    }
    sums.iter_mut().for_each(|sum| *sum /= layers.len() as f64);
    sums
}

/// One for the tokens of a path, 0 for all others.
fn indicator(path: &Path, tokens: usize) -> Vec<f64> {
    let mut on = vec![0.0; tokens];
    path.tokens.iter().for_each(|token| on[*token] = 1.0);
    on
}

/// A random rank of each token, which does not depend on names of experts.
fn order(tokens: usize, seed: Seed) -> Vec<u32> {
    let mut order: Vec<u32> = (0..tokens as u32).collect();
    order.shuffle(&mut seed.rng());
    order
}

/// A few tokens of a path, drawn by chance from different documents: nothing is shown because it fits.
///
/// The strongest examples of anything look convincing. What is shown here stands for the path as a reader would meet it.
fn some_texts(path: &Path, text: &Text, order: &[u32]) -> Vec<usize> {
    let mut tokens = path.tokens.clone();
    tokens.sort_by_key(|token| order[*token]);
    let mut taken: Vec<usize> = Vec::new();
    for token in tokens {
        let apart = |other: &usize| text.documents[*other] != text.documents[token];
        if taken.len() < TEXTS && taken.iter().all(apart) {
            taken.push(token);
        }
    }
    taken
}
