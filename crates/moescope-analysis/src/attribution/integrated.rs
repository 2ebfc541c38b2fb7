use moescope_base::{Edit, HookPoint, Request, Subject, TokenSelection, Tokens, ValueEdit};

use super::experiment::{Clean, Place};
use crate::AnalysisError;

/// Gradients integrated along the straight way from each place's vector to its replacement, one number for each sequence.
///
/// The midpoint rule: the mean of the gradients at `steps` points, times the change of the vector. `held` are edits that stand before, such as
/// those that hold the routes.
pub(super) fn integrate(
    subject: &mut dyn Subject,
    tokens: &Tokens,
    clean: &Clean<'_>,
    places: &[Place],
    steps: usize,
    held: &[Edit],
) -> Result<Vec<f64>, AnalysisError> {
    let mut points: Vec<HookPoint> = places.iter().map(Place::point).collect();
    points.sort_unstable();
    points.dedup();
    let mut integrals = vec![0.0; places.len()];
    for step in 0..steps {
        let share = (step as f32 + 0.5) / steps as f32;
        let on_the_way = |place: &Place| {
            let [old, new] = clean.ends(place)?;
            let vector = old.iter().zip(new).map(|(old, new)| old + share * (new - old)).collect();
            let tokens = TokenSelection::Rows(vec![place.row as u32]);
            Ok(Edit::Value { at: place.point(), tokens, change: ValueEdit::Set { vector } })
        };
        let mut edits = held.to_vec();
        edits.extend(places.iter().map(on_the_way).collect::<Result<Vec<Edit>, AnalysisError>>()?);
        let seen = subject.run(&Request { edits: &edits, gradients: &points, ..Request::of(tokens) })?;
        for (integral, place) in integrals.iter_mut().zip(places) {
            *integral += clean.slope(place, &seen.gradients)? / steps as f64;
        }
    }
    Ok(integrals)
}

#[cfg(test)]
mod tests {
    use super::super::{AttributionOptions, Replacement, attribution};
    use crate::Sample;
    use crate::statistics::{BootstrapMethod, Resampling};
    use moescope_base::{Seed, Tokens};
    use moescope_model::{Description, FeedForward, Model, ModelSubject, Variation};

    #[test]
    fn more_steps_come_nearer_to_the_effect_of_a_smooth_model() {
        let description = Description {
            vocab: 20,
            d_model: 12,
            heads: 2,
            key_value_heads: 2,
            head_dim: 6,
            rope_theta: 10_000.0,
            norm_epsilon: 1e-6,
            max_positions: 16,
            tied_embeddings: false,
            qk_norm: false,
            feed_forward: vec![FeedForward::Dense { width: 16 }; 2],
            variation: Variation::default(),
        };
        let mut subject = ModelSubject::new(Model::initialise(description, Seed(3)).unwrap());
        let ids = (0..128).map(|i| (i * i + 3 * i) % 20).collect();
        let samples = [Sample::one_document_each(Tokens::new(ids, 16, 8).unwrap(), 0)];
        let resampling =
            Resampling { replicates: 50, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
        let mut run = |steps: usize| {
            let options = AttributionOptions {
                rounds: 2,
                replacement: Replacement::Zero,
                freeze_routes: true,
                steps,
                resampling,
                seed: Seed(2),
            };
            attribution(&mut subject, &samples, options).unwrap()
        };
        let (one, many) = (run(1), run(16));
        let [coarse, fine] = [&one, &many].map(|found| found.integrated.unwrap().error.estimate);
        assert!(
            fine < 0.25 * coarse && fine < 0.1 * many.error.estimate,
            "{coarse} {fine} {}",
            many.error.estimate
        );
    }
}
