//! Neurons that see the same tokens: those of a dense layer, of one expert, or of the expert that all tokens share.

use std::collections::BTreeMap;

use moescope_base::{
    FeedForwardShape, HookPoint, Projection, Site, SubjectShape, Value, WeightMatrix, WeightPlace,
};

use crate::AnalysisError;
use crate::instrument::Material;

const METHOD: &str = "neuron profiles";

/// Which neurons of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Those of a dense layer.
    Dense,
    /// Those of one expert.
    Expert(usize),
    /// Those of the expert that all tokens share.
    Shared,
}

/// Neurons of one place in one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bank {
    pub(super) layer: usize,
    pub(super) place: Place,
}

/// All banks of a layer.
pub(super) fn banks(shape: &SubjectShape, layer: usize) -> Vec<Bank> {
    let bank = |place| Bank { layer, place };
    match shape.feed_forward[layer] {
        FeedForwardShape::Dense { .. } => vec![bank(Place::Dense)],
        FeedForwardShape::Routed { experts, .. } => {
            let shared = shape.options.has(Site::SharedPost).then_some(bank(Place::Shared));
            (0..experts).map(|expert| bank(Place::Expert(expert))).chain(shared).collect()
        }
    }
}

/// The choices and weights of a routed layer, and the weight of its shared expert.
pub(super) fn router_points(shape: &SubjectShape, layer: usize) -> Vec<HookPoint> {
    let routed = matches!(shape.feed_forward[layer], FeedForwardShape::Routed { .. });
    let sites = [Site::RouterIndices, Site::RouterWeights, Site::SharedWeight].into_iter();
    let has = move |site: &Site| routed && shape.options.has(*site);
    sites.filter(has).map(|site| HookPoint::block(site, layer)).collect()
}

impl Bank {
    /// Name of the place in tables: the number of the expert, `shared`, or nothing in a dense layer.
    pub(super) fn name(&self) -> String {
        match self.place {
            Place::Dense => String::new(),
            Place::Expert(expert) => expert.to_string(),
            Place::Shared => "shared".into(),
        }
    }

    /// Hidden activations.
    pub(super) fn post(&self) -> HookPoint {
        match self.place {
            Place::Dense => HookPoint::block(Site::MlpPost, self.layer),
            Place::Expert(expert) => HookPoint::expert(Site::ExpertPost, self.layer, expert),
            Place::Shared => HookPoint::block(Site::SharedPost, self.layer),
        }
    }

    /// What the activation function sees.
    pub(super) fn gate(&self) -> HookPoint {
        match self.place {
            Place::Dense => HookPoint::block(Site::MlpPre, self.layer),
            Place::Expert(expert) => HookPoint::expert(Site::ExpertGate, self.layer, expert),
            Place::Shared => HookPoint::block(Site::SharedGate, self.layer),
        }
    }

    /// What one expert adds as a whole.
    pub(super) fn adds(&self) -> Option<HookPoint> {
        match self.place {
            Place::Expert(expert) => Some(HookPoint::expert(Site::ExpertOutWeighted, self.layer, expert)),
            Place::Dense | Place::Shared => None,
        }
    }

    /// All of these.
    pub(super) fn points(&self) -> Vec<HookPoint> {
        [self.post(), self.gate()].into_iter().chain(self.adds()).collect()
    }

    /// What the neurons write with, `[d_model, neuron]`.
    ///
    /// # Errors
    /// If the subject does not show its weights.
    pub(super) fn down(&self, material: &mut Material<'_>) -> Result<WeightMatrix, AnalysisError> {
        let (layer, projection) = (self.layer, Projection::Down);
        let place = match self.place {
            Place::Dense => WeightPlace::Dense { layer, projection },
            Place::Expert(expert) => WeightPlace::Expert { layer, expert, projection },
            Place::Shared => WeightPlace::Shared { layer, projection },
        };
        let (what, advice) =
            ("the subject does not show what its neurons write", "open the model from its files");
        let found = material.parameters(METHOD)?.weights(place)?;
        found.ok_or(AnalysisError::NoWeights { method: METHOD, what, advice })
    }

    /// The tokens of a pass that reach these neurons, as rows of the batch, each with its weight as applied.
    ///
    /// # Errors
    /// If a value is missing.
    pub(super) fn reached(
        &self,
        seen: &BTreeMap<HookPoint, Value>,
        tokens: usize,
    ) -> Result<Vec<(u32, f64)>, AnalysisError> {
        let Place::Expert(expert) = self.place else {
            let weights = match self.place {
                Place::Shared => seen.get(&HookPoint::block(Site::SharedWeight, self.layer)),
                _ => None,
            };
            let weight =
                |token: usize| weights.and_then(Value::real).map_or(1.0, |weights| f64::from(weights[token]));
            return Ok((0..tokens).map(|token| (token as u32, weight(token))).collect());
        };
        let [indices, weights] = [Site::RouterIndices, Site::RouterWeights].map(|site| {
            let point = HookPoint::block(site, self.layer);
            seen.get(&point).ok_or(AnalysisError::NotRecorded { point })
        });
        let (indices, weights) = (indices?, weights?);
        let slots = indices.columns();
        let (chosen, weights) = (indices.integer().unwrap_or_default(), weights.real().unwrap_or_default());
        let rows = value(seen, self.post())?.rows().unwrap_or_default();
        let weight = |row: &u32| {
            let own = *row as usize * slots..(*row as usize + 1) * slots;
            let slot = chosen[own.clone()].iter().position(|chosen| *chosen == expert as i64);
            (*row, slot.map_or(0.0, |slot| f64::from(weights[own.start + slot])))
        };
        Ok(rows.iter().map(weight).collect())
    }
}

/// A recorded value.
pub(super) fn value(seen: &BTreeMap<HookPoint, Value>, point: HookPoint) -> Result<&Value, AnalysisError> {
    seen.get(&point).ok_or(AnalysisError::NotRecorded { point })
}

/// Length of each column.
pub(super) fn lengths(down: &WeightMatrix) -> Vec<f64> {
    let mut squares = vec![0.0; down.columns()];
    for row in 0..down.rows() {
        squares.iter_mut().zip(down.row(row)).for_each(|(square, x)| *square += f64::from(*x).powi(2));
    }
    squares.into_iter().map(f64::sqrt).collect()
}
