//! The model with the numbers of its matrices in another order: what there is to find without training.

use moescope_base::{
    FeedForwardShape, Parameters, Projection, Seed, SubjectShape, WeightMatrix, WeightPlace,
};
use rand::seq::SliceRandom;

use super::Material;
use crate::AnalysisError;

/// What a column says of numbers that were read so.
pub(crate) const SCRAMBLED: &str = "the same of the model with the numbers of the matrices of its blocks in another order; absent where there is no room for that, or too few rows";

/// Matrices that an attention has, at most.
const ATTENTION: usize = 8;

impl Material<'_> {
    /// What `read` finds in the model with the numbers of the matrices of its blocks in another order; none where the subject cannot run with other
    /// weights, there is no room for them, or such a model cannot be read: its vectors may overflow, or its experts may get too few tokens.
    ///
    /// Embedding, unembedding, norms, biases, and what weighs a shared expert stay: what is found is what the architecture, the sizes of the weights and
    /// the text bring about. The weights are put back whatever comes of it.
    ///
    /// # Errors
    /// If the weights cannot be put back. A null that cannot be had does not cost what was found without it.
    pub(crate) fn scrambled<T>(
        &mut self,
        label: &str,
        read: impl FnOnce(&mut Self) -> Result<T, AnalysisError>,
    ) -> Result<Option<T>, AnalysisError> {
        if !self.room_for_weights {
            return Ok(None);
        }
        let (shape, seed) = (self.subject.shape().clone(), self.seed.child(label).child("scrambled"));
        let Some(parameters) = self.subject.parameters() else { return Ok(None) };
        // Whoever cannot run with other weights says so at the first of them.
        let can = scramble(parameters, &shape, seed).is_ok_and(|replaced| replaced > 0);
        let known = std::mem::take(&mut self.known);
        let found = if can { read(self).ok() } else { None };
        self.known = known;
        if let Some(parameters) = self.subject.parameters() {
            parameters.restore()?;
        }
        Ok(found)
    }
}

/// Puts the numbers of every matrix of the blocks into another order, and says of how many.
fn scramble(
    parameters: &mut dyn Parameters,
    shape: &SubjectShape,
    seed: Seed,
) -> Result<usize, moescope_base::SubjectError> {
    let mut replaced = 0;
    for (layer, feed_forward) in shape.feed_forward.iter().enumerate() {
        for (number, place) in places(layer, feed_forward).into_iter().enumerate() {
            let Some(matrix) = parameters.weights(place)? else { continue };
            let mut data = matrix.data().to_vec();
            data.shuffle(&mut seed.index(layer as u64).index(number as u64).rng());
            parameters.replace(place, &WeightMatrix::new(matrix.columns(), data)?)?;
            replaced += 1;
        }
    }
    Ok(replaced)
}

/// Where a block may have matrices.
fn places(layer: usize, feed_forward: &FeedForwardShape) -> Vec<WeightPlace> {
    let mut places: Vec<WeightPlace> =
        (0..ATTENTION).map(|number| WeightPlace::Attention { layer, number }).collect();
    match feed_forward {
        FeedForwardShape::Dense { .. } => {
            places.extend(Projection::ALL.map(|projection| WeightPlace::Dense { layer, projection }));
        }
        FeedForwardShape::Routed { experts, .. } => {
            places.push(WeightPlace::Router { layer });
            places.extend(Projection::ALL.map(|projection| WeightPlace::Shared { layer, projection }));
            places.extend((0..*experts).flat_map(|expert| {
                Projection::ALL.map(|projection| WeightPlace::Expert { layer, expert, projection })
            }));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use moescope_base::{HookPoint, Request, Site};
    use moescope_model::ModelSubject;

    use super::*;
    use crate::planted_model::{batch, model, own_text};

    /// What the stream is after the last block.
    fn stream(material: &mut Material<'_>) -> Vec<f32> {
        let point = HookPoint::block(Site::ResidPost, 1);
        let record = &[point];
        let seen = material.subject.run(&Request { record, ..Request::of(&material.batches[0].0) }).unwrap();
        seen.values[&point].real().unwrap().to_vec()
    }

    #[test]
    fn the_model_has_other_weights_meanwhile_and_its_own_afterwards() {
        let model = model(2, 4, |_, _| {});
        let sample = own_text(&model, 6, 4);
        let mut subject = ModelSubject::new(model);
        let mut material = Material::new(&mut subject, vec![batch(&sample)], Seed(1)).unwrap();
        let (before, routes) = (stream(&mut material), material.routes().unwrap().clone());
        let mut read = || {
            let both = |material: &mut Material<'_>| Ok((stream(material), material.routes()?.clone()));
            material.scrambled("test", both).unwrap().unwrap()
        };
        let (first, other) = (read(), read());
        assert!(first.0 != before && first.1 != routes);
        assert_eq!(first, other, "the seed decides");
        assert_eq!((stream(&mut material), material.routes().unwrap()), (before.clone(), &routes));
        // What fails is no finding, and leaves the model as it was, too.
        let fails = |_: &mut Material<'_>| crate::check::at_least("test", "tokens", 0, 1);
        assert_eq!(material.scrambled("test", fails).unwrap(), None);
        assert_eq!(stream(&mut material), before);
        material.room_for_weights = false;
        assert_eq!(material.scrambled("test", |_| Ok(())).unwrap(), None);
    }

    #[test]
    fn a_matrix_keeps_its_numbers() {
        let mut subject = ModelSubject::new(model(1, 4, |_, _| {}));
        let shape = moescope_base::Subject::shape(&subject).clone();
        let sorted = |subject: &mut ModelSubject, place: WeightPlace| {
            let mut data = subject.weights(place).unwrap().unwrap().data().to_vec();
            data.sort_by(f32::total_cmp);
            data
        };
        let all = places(0, &shape.feed_forward[0]);
        let there: Vec<WeightPlace> =
            all.into_iter().filter(|place| subject.weights(*place).unwrap().is_some()).collect();
        let before: Vec<Vec<f32>> = there.iter().map(|place| sorted(&mut subject, *place)).collect();
        assert_eq!(scramble(&mut subject, &shape, Seed(3)).unwrap(), there.len());
        assert!(there.iter().zip(&before).all(|(place, before)| sorted(&mut subject, *place) == *before));
    }
}
