//! Knocking experts out: what the model loses with them, against what it loses with others of like load.

mod experts;
mod gives;
mod importance;
mod instrument;
mod matched;
mod passes;
#[cfg(test)]
mod planted;
mod report;

use std::collections::BTreeMap;

use moescope_base::{
    Edit, FeedForwardShape, HookPoint, RouteEdit, Seed, Site, Subject, TokenSelection, ValueEdit,
};
use serde::{Deserialize, Serialize};

pub use experts::{ExpertId, ExpertIdError};
pub use importance::{CurvePoint, ExpertImportance, Importance, importance};
pub use instrument::ExpertImportances;
pub use report::{Against, Removed};

use crate::statistics::{Bootstrap, Resampling};
use crate::{AnalysisError, Sample, check};
use passes::Passes;

const METHOD: &str = "knockout";

/// How an expert is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removal {
    /// It writes nothing; routes and weights stay, and what it had written is missing.
    Zero,
    /// It cannot be chosen; the next best expert takes its place, and weights follow from the changed choice.
    Ban,
}

/// How to knock out, and against what.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnockoutOptions {
    /// How an expert is taken out.
    pub removal: Removal,
    /// Random sets to compare with; fewer are drawn if there are no more.
    pub matched: usize,
    /// Intervals over documents.
    pub resampling: Resampling,
    /// Source of the random sets.
    pub seed: Seed,
}

/// What a set of experts is worth to a model, beside random sets of the same layers and of similar load.
///
/// - **Unit and range:** `loss` is the change of the next-token loss in nats per token, above 0 if the model needs the experts;
///   `kl` is the divergence of the next-token distribution from that of the unedited model, nats per token, 0 or more.
///   Intervals resample documents; both runs of a difference see the same documents, so what makes a text hard drops out.
/// - **Null:** 0 for an expert that nobody chooses, exactly. For "more than others" the null is the mean over the matched sets.
/// - **Does not show:** what a model trained without the experts would lose, nor that the experts are the place of a skill. The
///   intervals hold for the random sets that were drawn; how these differ among themselves is in `matched`, one by one.
/// - **Source:** ablation against matched random components, as in Meyes et al. 2019; with KL as in Conmy et al. 2023.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knockout {
    /// Loss of the unedited model, nats per token.
    pub free_loss: Bootstrap,
    /// The experts that were asked about.
    pub removed: Removed,
    /// The random sets, in the order of the draw.
    pub matched: Vec<Removed>,
    /// The experts beyond the mean over the random sets; none without a random set.
    pub against: Option<Against>,
}

/// Knocks the experts out in every layer at once, and then each of the random sets. `tell` hears after each pass how many are done, of
/// how many.
///
/// # Errors
/// For experts that do not exist or repeat, fewer than four documents, or a model that cannot answer.
pub fn knockout(
    subject: &mut dyn Subject,
    samples: &[Sample],
    experts: &[ExpertId],
    options: &KnockoutOptions,
    tell: &mut dyn FnMut(usize, usize),
) -> Result<Knockout, AnalysisError> {
    check_experts(subject, experts)?;
    let mut passes = Passes::new(subject, samples, tell)?;
    passes.announce(samples.len() * (3 + options.matched));
    let loads = passes.loads(experts)?;
    let sets = matched::sets(&loads, experts, options.matched, options.seed);
    passes.announce(samples.len() * (3 + sets.len()));
    let all = std::iter::once(experts).chain(sets.iter().map(Vec::as_slice));
    let edits: Vec<Vec<Edit>> = all.map(|set| edits(set, options.removal)).collect();
    let effects = passes.effects(&edits)?;
    report::report(experts, sets, &loads, &effects, options.resampling)
}

/// The edits that take the experts out.
fn edits(experts: &[ExpertId], removal: Removal) -> Vec<Edit> {
    match removal {
        Removal::Zero => experts.iter().map(|e| silence(*e)).collect(),
        Removal::Ban => {
            let mut layers: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
            experts.iter().for_each(|e| layers.entry(e.layer).or_default().push(e.expert as u32));
            let ban = |(layer, experts): (usize, Vec<u32>)| Edit::Route {
                layer: layer as u32,
                change: RouteEdit::Ban { experts },
            };
            layers.into_iter().map(ban).collect()
        }
    }
}

fn silence(expert: ExpertId) -> Edit {
    let at = HookPoint::expert(Site::ExpertOut, expert.layer, expert.expert);
    Edit::Value { at, tokens: TokenSelection::All, change: ValueEdit::Zero }
}

/// Refuses experts that the model does not have, and one named twice.
fn check_experts(subject: &dyn Subject, experts: &[ExpertId]) -> Result<(), AnalysisError> {
    check::at_least(METHOD, "experts", experts.len(), 1)?;
    let shape = subject.shape();
    for (place, id) in experts.iter().enumerate() {
        let wanted = match shape.feed_forward.get(id.layer) {
            Some(FeedForwardShape::Routed { experts, .. }) if id.expert < *experts => None,
            Some(FeedForwardShape::Routed { experts, .. }) => {
                Some(format!("an expert from 0 to {} there", experts - 1))
            }
            _ => Some(format!("a routed layer, one of {:?}", shape.routed_layers())),
        };
        let wanted = wanted.or_else(|| experts[..place].contains(id).then(|| "each expert once".into()));
        if let Some(wanted) = wanted {
            return Err(AnalysisError::OutOfRange {
                method: METHOD,
                what: "an expert",
                found: id.to_string(),
                wanted,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::planted::{Planted, samples};
    use super::*;
    use crate::statistics::BootstrapMethod;

    fn options(matched: usize) -> KnockoutOptions {
        let resampling =
            Resampling { replicates: 400, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(3) };
        KnockoutOptions { removal: Removal::Zero, matched, resampling, seed: Seed(1) }
    }

    fn ask(subject: &mut Planted, experts: &[(usize, usize)], options: &KnockoutOptions) -> Knockout {
        let experts: Vec<ExpertId> =
            experts.iter().map(|(layer, expert)| ExpertId { layer: *layer, expert: *expert }).collect();
        knockout(subject, &samples(12), &experts, options, &mut |_, _| {}).unwrap()
    }

    #[test]
    fn an_expert_that_matters_is_found_and_stands_out_from_its_like() {
        let found = ask(&mut Planted::new(), &[(1, 2)], &options(4));
        // A token in six goes to each of six experts, and without expert 2 its logit falls from 3 to 0.
        assert!(found.removed.loss.low > 0.0 && found.removed.kl.low > 0.0, "{found:?}");
        let against = found.against.unwrap();
        assert!(against.loss.low > 0.0 && against.kl.low > 0.0);
        assert_eq!((found.matched.len(), against.loss_p), (4, 0.2), "beyond all four");
        assert!(found.matched.iter().all(|set| (set.load / found.removed.load - 1.0).abs() < 0.5));
    }

    #[test]
    fn the_effect_by_hand() {
        let found = ask(&mut Planted::new(), &[(1, 2)], &options(0));
        let sum = 3f64.exp() + 3.0;
        let (chosen, spread) = (3f64.exp() / sum, 1.0 / sum);
        let loss = sum.ln() - 3.0;
        assert!((found.free_loss.estimate - loss).abs() < 1e-6);
        let sequences = samples(12);
        let predicted: Vec<u32> = sequences.iter().flat_map(|s| &s.tokens().ids()[..59]).copied().collect();
        let share = predicted.iter().filter(|id| **id == 2).count() as f64 / predicted.len() as f64;
        assert!((found.removed.loss.estimate - share * (4f64.ln() - loss)).abs() < 1e-6);
        let kl = chosen * (chosen * 4.0).ln() + 3.0 * spread * (spread * 4.0).ln();
        assert!((found.removed.kl.estimate - share * kl).abs() < 1e-6);
        assert!(found.against.is_none() && found.matched.is_empty());
    }

    #[test]
    fn an_expert_that_does_nothing_or_that_nobody_chooses_changes_nothing() {
        let idle = ask(&mut Planted::new(), &[(1, 6)], &options(3));
        assert_eq!(
            (idle.removed.load, idle.removed.loss.estimate, idle.removed.kl.estimate),
            (0.0, 0.0, 0.0)
        );
        assert_eq!((idle.removed.loss.low, idle.removed.kl.high), (0.0, 0.0));
        let useless = ask(&mut Planted::new(), &[(1, 0)], &options(3));
        assert!(useless.removed.load > 0.1);
        assert_eq!((useless.removed.loss.estimate, useless.removed.kl.estimate), (0.0, 0.0));
    }

    #[test]
    fn among_equals_none_stands_out() {
        let mut subject = Planted::equal();
        let against = ask(&mut subject, &[(1, 3)], &options(5)).against.unwrap();
        assert!(against.loss.low <= 0.0 && 0.0 <= against.loss.high, "{against:?}");
        assert!(against.kl.low <= 0.0 && 0.0 <= against.kl.high, "{against:?}");
    }

    #[test]
    fn a_ban_takes_the_expert_out_of_the_choice() {
        let banned =
            ask(&mut Planted::new(), &[(1, 2)], &KnockoutOptions { removal: Removal::Ban, ..options(0) });
        assert!(banned.removed.loss.estimate > 0.0);
        let experts = [ExpertId { layer: 1, expert: 2 }, ExpertId { layer: 1, expert: 0 }];
        let edit = Edit::Route { layer: 1, change: RouteEdit::Ban { experts: vec![2, 0] } };
        assert_eq!(edits(&experts, Removal::Ban), [edit]);
    }

    #[test]
    fn what_cannot_be_knocked_out_is_refused() {
        let refused = |experts: &[(usize, usize)], documents: u32, reason: &str| {
            let experts: Vec<ExpertId> =
                experts.iter().map(|(layer, expert)| ExpertId { layer: *layer, expert: *expert }).collect();
            let error =
                knockout(&mut Planted::new(), &samples(documents), &experts, &options(0), &mut |_, _| {})
                    .unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        };
        refused(&[], 12, "at least 1");
        refused(&[(0, 0)], 12, "one of [1]");
        refused(&[(9, 0)], 12, "one of [1]");
        refused(&[(1, 7)], 12, "from 0 to 6");
        refused(&[(1, 2), (1, 2)], 12, "each expert once");
        refused(&[(1, 2)], 3, "at least 4");
    }

    #[test]
    fn the_order_of_experts_and_of_samples_is_immaterial() {
        let mut reversed = samples(12);
        reversed.reverse();
        let experts = [ExpertId { layer: 1, expert: 2 }, ExpertId { layer: 1, expert: 4 }];
        let of = |samples: &[Sample], experts: &[ExpertId]| {
            let found = knockout(&mut Planted::new(), samples, experts, &options(2), &mut |_, _| {}).unwrap();
            (found.removed.loss, found.removed.kl)
        };
        assert_eq!(of(&samples(12), &experts), of(&reversed, &[experts[1], experts[0]]));
    }
}
