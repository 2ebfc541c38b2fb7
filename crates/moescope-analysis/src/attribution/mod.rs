//! Attribution: gradient × difference against the true effect of an edit, with flips of routes counted.

mod evaluation;
mod experiment;
mod gives;
mod integrated;
mod patching;
#[cfg(test)]
mod planted;

use moescope_base::{Seed, Site, Subject};
use serde::{Deserialize, Serialize};

pub use patching::AttributionPatching;

use crate::statistics::{Bootstrap, Resampling};
use crate::{AnalysisError, Sample, check};

/// What an edited vector is replaced by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replacement {
    /// The mean vector over all tokens of all samples at the same place.
    Mean,
    /// Zero.
    Zero,
}

/// How many edits to make, and of what kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttributionOptions {
    /// Edits of each sequence, each in a pass of its own; all sequences of a batch are edited in the same pass.
    pub rounds: usize,
    /// What an edited vector is replaced by.
    pub replacement: Replacement,
    /// Whether to make every edit a second time with the routes of the unedited pass, to separate what flips do.
    pub freeze_routes: bool,
    /// Steps of integrated gradients on the straight way from each vector to its replacement, a pass with gradients for each, and one more
    /// with the routes held; 0 for none.
    pub steps: usize,
    /// Intervals over documents.
    pub resampling: Resampling,
    /// Source of the places.
    pub seed: Seed,
}

/// One edit: what the gradient predicted, and what happened.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EditEffect {
    /// Document of the edited token.
    pub document: u32,
    /// Block.
    pub layer: usize,
    /// `hook_attn_out` or `hook_mlp_out`.
    pub site: Site,
    /// Position in the sequence.
    pub position: usize,
    /// Gradient of the summed loss of the sequence times the change of the vector, in nats.
    pub predicted: f64,
    /// Change of the summed loss of the sequence, in nats.
    pub actual: f64,
    /// The same with all routes as in the unedited pass; none if not asked for or without routed layers.
    pub frozen: Option<f64>,
    /// Whether the set of chosen experts changed for any token of the sequence in any layer.
    pub flipped: bool,
    /// Integrated gradients instead of the gradient, routes free; none if not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrated: Option<f64>,
    /// The same with all routes as in the unedited pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrated_frozen: Option<f64>,
}

/// How well gradient × difference predicts the true effect of single-position edits.
///
/// - **Unit and range:** correlations −1 to 1; `slope` is nats of effect per predicted nat, 1 if the prediction is right on
///   average; errors are mean |predicted − actual| over mean |actual| *of the same edits*, 0 if exact, 1 as good as
///   predicting no effect; `flip_share` 0 to 1. Intervals resample documents.
/// - **Null:** correlation 0, slope 0, error 1: a prediction of 0.
/// - **Does not show:** that flips cause the larger error of edits that flip: such edits are larger, too. For that compare, on
///   the *same* edits, `error_with_flip` with `frozen_error_with_flip`, where routes were not allowed to change.
/// - **Source:** attribution patching (Nanda 2023; Syed et al. 2023), here against ablation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// Pearson correlation of predicted and actual effect.
    pub pearson: Bootstrap,
    /// Spearman correlation.
    pub spearman: Bootstrap,
    /// Least-squares slope of the actual on the predicted effect.
    pub slope: Bootstrap,
    /// Relative error of all edits.
    pub error: Bootstrap,
    /// Share of edits that flip a route.
    pub flip_share: Bootstrap,
    /// Relative error of edits that flip a route; none with fewer than two documents that have one.
    pub error_with_flip: Option<Bootstrap>,
    /// Relative error of edits that do not; none likewise.
    pub error_without_flip: Option<Bootstrap>,
    /// Relative error against the effect with frozen routes, all edits.
    pub frozen_error: Option<Bootstrap>,
    /// The same for edits that flip a route when they may.
    pub frozen_error_with_flip: Option<Bootstrap>,
    /// Integrated gradients on the same edits; none if not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrated: Option<Integrated>,
    /// Every edit.
    pub edits: Vec<EditEffect>,
}

/// How well gradients integrated along the straight way to the replacement predict the true effect of the same edits.
///
/// Where the effect is smooth, the integral is the effect (completeness), and the error falls with the number of steps. A flip of a route on
/// the way is a jump, which no gradient sees: what is left of the error where an edit flips is what the jumps did.
///
/// - **Unit and range:** as those of [`Attribution`]: errors are mean |integral − actual| over mean |actual| of the same edits, and so the
///   completeness error relative to the effects.
/// - **Null:** error 1, as good as predicting no effect; beside it the error of the gradient alone.
/// - **Does not show:** that the way is one that the model knows: vectors between two are off its ground.
/// - **Source:** integrated gradients, Sundararajan et al. 2017, by the midpoint rule; for edits of vectors Hanna et al. 2024.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Integrated {
    /// Steps of the integral.
    pub steps: usize,
    /// Relative error of all edits.
    pub error: Bootstrap,
    /// Of edits that flip a route; none with fewer than two documents that have one.
    pub error_with_flip: Option<Bootstrap>,
    /// Of edits that do not.
    pub error_without_flip: Option<Bootstrap>,
    /// Routes held on the way, against the effect with routes held.
    pub frozen_error: Option<Bootstrap>,
    /// The same for edits that flip a route when they may.
    pub frozen_error_with_flip: Option<Bootstrap>,
}

/// Edits single positions of every sequence and compares the effects with what the gradient predicts.
///
/// Every edit has its layer, site and position drawn by the seed; the last position is left out, as no loss follows it.
///
/// # Errors
/// If the subject cannot answer or leaves out a value, sequences are shorter than two tokens, fewer than two documents
/// are edited, or no edit has an effect.
pub fn attribution(
    subject: &mut dyn Subject,
    samples: &[Sample],
    options: AttributionOptions,
) -> Result<Attribution, AnalysisError> {
    check::at_least("attribution", "rounds", options.rounds, 1)?;
    let replacements = experiment::replacements(subject, samples, options.replacement)?;
    let (mut edits, mut first) = (Vec::new(), 0);
    for sample in samples {
        edits.extend(experiment::edit_effects(subject, (sample, first), &replacements, &options)?);
        first += sample.tokens().batch();
    }
    evaluation::evaluate(edits, options.steps, options.resampling)
}

#[cfg(test)]
mod tests {
    use super::planted::{Planted, READ, Routing, WIDTH, embed};
    use super::*;
    use crate::planted_model::{model, own_text, rename};
    use crate::statistics::BootstrapMethod;
    use moescope_base::Tokens;
    use moescope_model::ModelSubject;

    fn options(replacement: Replacement) -> AttributionOptions {
        let resampling =
            Resampling { replicates: 200, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
        AttributionOptions {
            rounds: 4,
            replacement,
            freeze_routes: true,
            steps: 4,
            resampling,
            seed: Seed(3),
        }
    }

    fn samples() -> Vec<Sample> {
        let ids = |first: u32| (0..48).map(|i| (first + 7 * i) % 61).collect();
        let batch = |first: u32| Tokens::new(ids(first), 8, 6).unwrap();
        vec![Sample::one_document_each(batch(0), 0), Sample::one_document_each(batch(30), 8)]
    }

    fn run(routing: Routing, factors: [f32; 2], replacement: Replacement) -> Attribution {
        attribution(&mut Planted::new(routing, factors), &samples(), options(replacement)).unwrap()
    }

    #[test]
    fn a_linear_model_is_predicted_exactly() {
        for replacement in [Replacement::Mean, Replacement::Zero] {
            let found = run(Routing::Dense, [2.0, 2.0], replacement);
            assert_eq!(found.edits.len(), 2 * 8 * 4);
            assert!(found.error.estimate < 1e-5 && found.pearson.estimate > 0.99999);
            assert!((found.slope.estimate - 1.0).abs() < 1e-4);
            assert_eq!(found.flip_share.estimate, 0.0);
            assert!(found.error_with_flip.is_none() && found.frozen_error.is_none());
        }
    }

    /// Id of an edited token, and the mean vector that attention writes over all samples.
    fn edited(edit: &EditEffect) -> ([f64; WIDTH], [f64; WIDTH]) {
        let samples = samples();
        let (sample, row) =
            (&samples[edit.document as usize / 8], edit.document as usize % 8 * 6 + edit.position);
        let written = |id: &u32| embed(*id).map(f64::from);
        let all: Vec<[f64; WIDTH]> =
            samples.iter().flat_map(|sample| sample.tokens().ids()).map(written).collect();
        let mean = std::array::from_fn(|c| all.iter().map(|x| x[c]).sum::<f64>() / all.len() as f64);
        (written(&sample.tokens().ids()[row]), mean)
    }

    fn read(vector: [f64; WIDTH]) -> f64 {
        READ.iter().zip(vector).map(|(r, x)| f64::from(*r) * x).sum()
    }

    #[test]
    fn the_effect_of_an_edit_of_a_linear_model_by_hand() {
        // Attention writes a, the expert 2 a, and the loss is READ · 3 a. Without a the loss falls by READ · 3 a, without 2 a by READ · 2 a.
        let found = run(Routing::Dense, [2.0, 2.0], Replacement::Zero);
        for edit in &found.edits {
            let a = read(edited(edit).0);
            let wanted = if edit.site == Site::AttnOut { -3.0 * a } else { -2.0 * a };
            for number in [edit.predicted, edit.actual, edit.integrated.unwrap()] {
                assert!((number - wanted).abs() < 1e-4, "{edit:?}, {wanted}");
            }
        }
        for site in [Site::AttnOut, Site::MlpOut] {
            assert!(found.edits.iter().any(|edit| edit.site == site && edit.actual.abs() > 1.0));
        }
    }

    #[test]
    fn what_a_flip_does_is_missed_by_hand() {
        // Where attention writes a with a₀ > 0, the expert writes −3 a, and the loss is READ · −2 a. The mean m with m₀ ≤ 0 goes to the other
        // expert, and the loss is then READ · 3 m. The gradient says READ · −2 (m − a), and so it is with the routes held.
        let found = run(Routing::BySign, [2.0, -3.0], Replacement::Mean);
        let (mut flips, mut stays) = (0, 0);
        for edit in found.edits.iter().filter(|edit| edit.site == Site::AttnOut) {
            let (a, m) = edited(edit);
            let factor = |x: [f64; WIDTH]| if x[0] > 0.0 { -2.0 } else { 3.0 };
            let wanted = [
                factor(a) * (read(m) - read(a)),
                factor(m) * read(m) - factor(a) * read(a),
                factor(a) * (read(m) - read(a)),
            ];
            for (number, wanted) in [edit.predicted, edit.actual, edit.frozen.unwrap()].iter().zip(wanted) {
                assert!((number - wanted).abs() < 1e-4, "{edit:?}, {wanted}");
            }
            let flipped = (a[0] > 0.0) != (m[0] > 0.0);
            assert_eq!(edit.flipped, flipped, "{edit:?}");
            // What is missed is the difference of the two experts at the mean.
            let missed = if flipped { (factor(m) - factor(a)) * read(m) } else { 0.0 };
            assert!((edit.actual - edit.predicted - missed).abs() < 1e-4, "{edit:?}");
            (flips, stays) = (flips + usize::from(flipped), stays + usize::from(!flipped));
        }
        assert!(flips > 3 && stays > 3, "{flips} {stays}");
    }

    #[test]
    fn a_router_that_edits_cannot_reach_does_not_flip() {
        let found = run(Routing::ById, [2.0, -3.0], Replacement::Mean);
        assert_eq!(found.flip_share.estimate, 0.0);
        assert!(found.error.estimate < 1e-5 && found.frozen_error.unwrap().estimate < 1e-5);
    }

    #[test]
    fn experts_may_be_renamed() {
        let sample = [own_text(&model(2, 3, |_, _| {}), 12, 5)];
        let found = |change: fn(&str, &mut [f32])| {
            let mut subject = ModelSubject::new(model(2, 3, change));
            attribution(&mut subject, &sample, options(Replacement::Mean)).unwrap()
        };
        let (plain, turned) = (found(|_, _| {}), found(rename));
        assert_eq!(plain.edits.len(), turned.edits.len());
        for (own, twin) in plain.edits.iter().zip(&turned.edits) {
            assert_eq!(
                (own.layer, own.site, own.position, own.flipped),
                (twin.layer, twin.site, twin.position, twin.flipped)
            );
            assert!((own.predicted - twin.predicted).abs() < 1e-4 && (own.actual - twin.actual).abs() < 1e-4);
        }
        assert!(plain.edits.iter().any(|edit| edit.actual.abs() > 1e-2), "something to tell");
    }

    #[test]
    fn a_hard_threshold_flips_and_freezing_the_routes_restores_the_prediction() {
        let found = run(Routing::BySign, [2.0, -3.0], Replacement::Mean);
        let share = found.flip_share.estimate;
        assert!(share > 0.1 && share < 0.6, "{share}");
        assert!(found.error_with_flip.unwrap().low > 0.2);
        assert!(found.error_without_flip.unwrap().estimate < 1e-5);
        assert!(found.frozen_error_with_flip.unwrap().estimate < 1e-5);
        assert!(found.pearson.estimate < 0.99);
    }

    #[test]
    fn flips_between_equal_experts_are_counted_and_harmless() {
        let found = run(Routing::BySign, [2.0, 2.0], Replacement::Mean);
        assert!(found.flip_share.estimate > 0.1 && found.error_with_flip.unwrap().estimate < 1e-5);
    }

    #[test]
    fn only_outputs_that_something_follows_are_edited_and_the_table_shows_it() {
        let found = run(Routing::BySign, [2.0, -3.0], Replacement::Zero);
        assert!(found.edits.iter().all(|e| e.position < 5 && e.document < 16));
        let table = found.table("attribution", "Attribution").unwrap();
        assert_eq!(table.rows(), 14);
        assert_eq!(table.column("value_null").unwrap().data.number(3), Some(1.0));
    }

    #[test]
    fn integrals_are_exact_where_nothing_jumps_and_miss_what_flips_do() {
        let integrated = run(Routing::Dense, [2.0, 2.0], Replacement::Mean).integrated.unwrap();
        assert!(integrated.error.high < 1e-5 && integrated.frozen_error.is_none());
        let found = run(Routing::BySign, [2.0, -3.0], Replacement::Mean);
        let integrated = found.integrated.unwrap();
        assert!(integrated.error_without_flip.unwrap().estimate < 1e-5);
        assert!(integrated.error_with_flip.unwrap().low > 0.1, "{integrated:?}");
        assert!(integrated.frozen_error_with_flip.unwrap().estimate < 1e-5);
        let options = AttributionOptions { steps: 0, ..options(Replacement::Mean) };
        let without =
            attribution(&mut Planted::new(Routing::BySign, [2.0, -3.0]), &samples(), options).unwrap();
        assert!(without.integrated.is_none() && without.error == found.error);
    }

    #[test]
    fn an_edit_without_effect_is_no_experiment() {
        let same = vec![Sample::one_document_each(Tokens::new(vec![5; 24], 4, 6).unwrap(), 0)];
        let result =
            attribution(&mut Planted::new(Routing::Dense, [1.0; 2]), &same, options(Replacement::Mean));
        assert!(result.is_err());
        let short = vec![Sample::one_document_each(Tokens::new(vec![5; 4], 4, 1).unwrap(), 0)];
        assert!(
            attribution(&mut Planted::new(Routing::Dense, [1.0; 2]), &short, options(Replacement::Mean))
                .is_err()
        );
    }

    #[test]
    fn the_seed_decides_the_places() {
        let places = |seed| {
            let options = AttributionOptions { seed: Seed(seed), ..options(Replacement::Zero) };
            attribution(&mut Planted::new(Routing::Dense, [1.0; 2]), &samples(), options).unwrap().edits
        };
        assert_eq!(places(3), places(3));
        assert_ne!(places(3), places(4));
    }
}
