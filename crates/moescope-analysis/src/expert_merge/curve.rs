//! What a model loses with ever more experts merged.

use moescope_base::{Seed, Subject};

use super::grouping::{alike, dealt};
use super::layer::{Layer, layers, parameters};
use super::{METHOD, RANDOM_GROUPINGS};
use crate::document_loss::{Judged, minus};
use crate::expert_weights::ExpertWeights;
use crate::statistics::{Bootstrap, Resampling};
use crate::{AnalysisError, Sample};

/// How neurons stand when experts are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Matched to those of the most used expert of the group.
    Matched,
    /// As they are.
    Plain,
}

impl Way {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Way::Matched => "matched",
            Way::Plain => "as they stand",
        }
    }
}

/// Some experts merged, in all looked-at layers at once.
///
/// Every group of experts becomes one: the mean of its members' weights, each weighted by how often it is chosen. Tokens that choose a
/// member go to the merged expert, and where they choose two, with the sum of their weights. Groups and use are decided on half of the
/// documents, the loss is that of the others.
///
/// - **Unit and range:** nats per token of next-token loss, above 0 where the model is worse.
/// - **Null:** groups of the same sizes with random members, mean over [`RANDOM_GROUPINGS`].
/// - **Does not show:** what training after merging would restore, nor what merging by answers rather than weights would lose.
/// - **Source:** merging by use after matching of neurons: Li et al. 2024 (arXiv 2310.01334), who group by what the router says.
#[derive(Clone, Debug, PartialEq)]
pub struct MergePoint {
    /// How neurons stand.
    pub way: Way,
    /// Experts that are gone, of all candidates.
    pub merged: usize,
    /// The same as a share of the candidates.
    pub share: f64,
    /// Change of the loss.
    pub loss: Bootstrap,
    /// Mean change with random groups.
    pub random: f64,
}

/// Shares of the candidates that are merged away; the first point merges one pair of each layer whatever the share.
const SHARES: [f64; 3] = [0.0, 0.25, 0.5];

/// Merges ever more experts of some layers.
///
/// Six readings of the text for each share: both ways, each with the groups that are alike and with random
/// ones. In a small model two shares may merge equally many experts, and the second is then left out.
///
/// # Errors
/// If no layer has two experts that are chosen, there are fewer than eight documents, or the subject cannot answer or run with other
/// weights.
pub fn merging_curve(
    subject: &mut dyn Subject,
    samples: &[Sample],
    seed: Seed,
    resampling: Resampling,
) -> Result<Vec<MergePoint>, AnalysisError> {
    let judged = Judged::new(METHOD, samples)?;
    let (deciding, judging) = judged.halves()?;
    let layers = layers(subject, &judged, seed)?;
    let free = judged.losses(subject, &[])?;
    let candidates: usize = layers.iter().map(|layer| layer.candidates.len()).sum();
    let mut found: Vec<MergePoint> = Vec::new();
    for share in SHARES {
        let count = |layer: &Layer| ((share * layer.candidates.len() as f64).round() as usize).max(1);
        let groups: Vec<Vec<Vec<usize>>> =
            layers.iter().map(|layer| alike(&layer.cosines, count(layer))).collect();
        let merged = layers.iter().map(count).sum();
        if found.last().is_some_and(|point| point.merged >= merged) {
            continue;
        }
        for way in [Way::Plain, Way::Matched] {
            let mut change = |groups: &[Vec<Vec<usize>>]| {
                let losses = with_groups(subject, &judged, &layers, groups, (way, &deciding))?;
                Ok::<_, AnalysisError>(minus(&losses, &free))
            };
            let own = change(&groups)?;
            let mut random = 0.0;
            for draw in 0..RANDOM_GROUPINGS {
                let seed = seed.child("random groups").index(draw as u64);
                let dealt: Vec<Vec<Vec<usize>>> = groups
                    .iter()
                    .enumerate()
                    .map(|(layer, groups)| dealt(groups, seed.index(layer as u64)))
                    .collect();
                random += judged.estimate(&change(&dealt)?, &judging) / RANDOM_GROUPINGS as f64;
            }
            let loss = judged.mean(&own, &judging, resampling)?;
            let share = merged as f64 / candidates as f64;
            found.push(MergePoint { way, merged, share, loss, random });
        }
    }
    Ok(found)
}

/// Loss of each document with these groups, places among the candidates, merged in each layer.
fn with_groups(
    subject: &mut dyn Subject,
    judged: &Judged<'_>,
    layers: &[Layer],
    groups: &[Vec<Vec<usize>>],
    (way, deciding): (Way, &[usize]),
) -> Result<Vec<f64>, AnalysisError> {
    let mut merge_all = || {
        for (layer, groups) in layers.iter().zip(groups) {
            for group in groups.iter().filter(|group| group.len() > 1) {
                merge(subject, layer, group, (way, deciding))?;
            }
        }
        judged.losses(subject, &[])
    };
    let losses = merge_all();
    parameters(subject)?.restore()?;
    losses
}

/// Puts the mean of a group in the place of every member of it.
///
/// The most used member is the anchor that the neurons of the others are matched to. As every member then computes the same, tokens that chose
/// any of them reach the merged expert, and no route has to be changed.
///
/// An example: members that the deciding half chose 30 times and 10 times count 31/42 and 11/42.
fn merge(
    subject: &mut dyn Subject,
    layer: &Layer,
    group: &[usize],
    (way, deciding): (Way, &[usize]),
) -> Result<(), AnalysisError> {
    let weights = parameters(subject)?;
    // One more than was counted, so that a group that the deciding half never chose has a mean as well.
    let mut members: Vec<(usize, f64)> = group
        .iter()
        .map(|place| layer.candidates[*place])
        .map(|expert| (expert, 1.0 + layer.uses(expert, deciding)))
        .collect();
    members.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let (anchor, all) = (members[0].0, members.iter().map(|member| member.1).sum::<f64>());
    let to = |expert: usize| (way == Way::Matched && expert != anchor).then_some(anchor);
    let aligned: Vec<(f64, ExpertWeights)> = members
        .iter()
        .map(|(expert, uses)| Ok((uses / all, layer.aligned(weights, *expert, to(*expert))?)))
        .collect::<Result<_, AnalysisError>>()?;
    let mean =
        ExpertWeights::mean(&aligned.iter().map(|(share, expert)| (*share, expert)).collect::<Vec<_>>())?;
    members.iter().try_for_each(|(expert, _)| mean.put(weights, layer.number, *expert))
}
