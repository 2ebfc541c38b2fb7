//! Routes under the names and in the form that users of other tools expect.

use moescope_base::{FeedForwardShape, HookPoint, Site, SubjectShape, ValueData};

use crate::{Recording, TraceError};

/// A tool whose names are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compat {
    /// TransformerLens 2: `blocks.L.mlp.hook_expert_weights` are all scores of the router, before the choice.
    TransformerLens2,
    /// TransformerLens 4: `blocks.L.mlp.hook_expert_weights` are the weights as applied, zero for experts that were not chosen.
    TransformerLens4,
    /// vLLM and SGLang: `routed_experts`, the choices of all routed layers in one tensor.
    Vllm,
}

/// A tensor that is written beside the recorded values.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// Lengths of its axes.
    pub shape: Vec<usize>,
    /// Its numbers, row-major.
    pub data: ValueData,
}

impl Compat {
    /// What must be recorded for it.
    pub fn points(self, shape: &SubjectShape) -> Vec<HookPoint> {
        let sites: &[Site] = match self {
            Compat::TransformerLens2 => &[Site::RouterIndices, Site::RouterScores],
            Compat::TransformerLens4 => &[Site::RouterIndices, Site::RouterWeights],
            Compat::Vllm => &[Site::RouterIndices],
        };
        let layers = shape.routed_layers();
        layers
            .into_iter()
            .flat_map(|layer| sites.iter().map(move |site| HookPoint::block(*site, layer)))
            .collect()
    }

    /// The tensors in the tool's form, from a recording of [`points`](Self::points).
    ///
    /// For TransformerLens, for each routed layer `blocks.L.mlp.hook_expert_indices` `[batch, pos, slot]` and
    /// `hook_expert_weights` `[batch, pos, expert]`. For vLLM `routed_experts` `[batch, pos, routed layer, slot]`, and
    /// `routed_experts.layers` with the number of each of these layers; the experts are those of the checkpoint, wherever an engine may place
    /// them.
    ///
    /// # Errors
    /// [`TraceError::Inconsistent`] for a model without routed layers; for vLLM also when its layers choose different numbers of
    /// experts, which one tensor cannot hold.
    pub fn exports(self, recording: &Recording, shape: &SubjectShape) -> Result<Vec<Export>, TraceError> {
        let layers = shape.routed_layers();
        if layers.is_empty() {
            return Err(inconsistent("no layer with a router", "a mixture of experts"));
        }
        match self {
            Compat::Vllm => routed_experts(recording, &layers),
            _ => Ok(layers.into_iter().flat_map(|layer| self.layer(recording, shape, layer)).collect()),
        }
    }

    /// Choices and weights of one layer, as TransformerLens names them.
    fn layer(self, recording: &Recording, shape: &SubjectShape, layer: usize) -> [Export; 2] {
        let value = |site| &recording.values[&HookPoint::block(site, layer)];
        let indices = value(Site::RouterIndices);
        let axes = &indices.shape()[..2];
        let weights = match self {
            Compat::TransformerLens4 => {
                let FeedForwardShape::Routed { experts, .. } = shape.feed_forward[layer] else {
                    unreachable!("the layer is routed")
                };
                let chosen = indices.integer().unwrap_or(&[]).chunks_exact(indices.columns());
                let weights =
                    value(Site::RouterWeights).real().unwrap_or(&[]).chunks_exact(indices.columns());
                let spread =
                    chosen.zip(weights).flat_map(|(chosen, weights)| spread(chosen, weights, experts));
                Export {
                    name: format!("blocks.{layer}.mlp.hook_expert_weights"),
                    shape: [axes, &[experts]].concat(),
                    data: ValueData::Real(spread.collect()),
                }
            }
            _ => {
                let scores = value(Site::RouterScores);
                Export {
                    name: format!("blocks.{layer}.mlp.hook_expert_weights"),
                    shape: scores.shape().to_vec(),
                    data: scores.data().clone(),
                }
            }
        };
        let indices = Export {
            name: format!("blocks.{layer}.mlp.hook_expert_indices"),
            shape: indices.shape().to_vec(),
            data: indices.data().clone(),
        };
        [indices, weights]
    }
}

/// The weights of a token's experts at their numbers, zeros elsewhere.
fn spread(chosen: &[i64], weights: &[f32], experts: usize) -> Vec<f32> {
    let mut row = vec![0.0; experts];
    for (&expert, &weight) in chosen.iter().zip(weights) {
        row[expert as usize] = weight;
    }
    row
}

/// The choices of all layers, token by token.
fn routed_experts(recording: &Recording, layers: &[usize]) -> Result<Vec<Export>, TraceError> {
    let values = layers.iter().map(|&layer| &recording.values[&HookPoint::block(Site::RouterIndices, layer)]);
    let values: Vec<_> = values.collect();
    let slots = values[0].columns();
    if let Some(other) = values.iter().find(|value| value.columns() != slots) {
        let found = format!("layers of {slots} and of {} experts for each token", other.columns());
        return Err(inconsistent(&found, "one number for all layers; export for TransformerLens instead"));
    }
    let tokens = recording.tokens.len();
    let mut numbers = Vec::with_capacity(tokens * layers.len() * slots);
    for token in 0..tokens {
        for value in &values {
            numbers.extend_from_slice(&value.integer().unwrap_or(&[])[token * slots..(token + 1) * slots]);
        }
    }
    let shape = vec![recording.tokens.batch(), recording.tokens.positions(), layers.len(), slots];
    let names = layers.iter().map(|&layer| layer as i64).collect();
    Ok(vec![
        Export { name: "routed_experts".into(), shape, data: ValueData::Integer(numbers) },
        Export {
            name: "routed_experts.layers".into(),
            shape: vec![layers.len()],
            data: ValueData::Integer(names),
        },
    ])
}

fn inconsistent(found: &str, wanted: &str) -> TraceError {
    TraceError::Inconsistent {
        what: "the export for another tool".into(),
        found: found.into(),
        wanted: wanted.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::record_tensors;
    use crate::testing::{Planted, batch};
    use moescope_base::Subject;

    fn exported(compat: Compat) -> (Recording, Vec<Export>) {
        let (tokens, _) = batch(&[0, 1, 2, 3]);
        let mut subject = Planted::new();
        let shape = subject.shape().clone();
        let mut points = compat.points(&shape);
        points.extend(Compat::TransformerLens4.points(&shape));
        points.sort_unstable();
        points.dedup();
        let recording = record_tensors(&mut subject, &tokens, &points, &[], &[]).unwrap();
        let exports = compat.exports(&recording, &shape).unwrap();
        (recording, exports)
    }

    #[test]
    fn applied_weights_stand_at_their_experts_and_zeros_elsewhere() {
        assert_eq!(spread(&[2, 0], &[0.7, 0.3], 4), [0.3, 0.0, 0.7, 0.0]);
        let (recording, exports) = exported(Compat::TransformerLens4);
        for pair in exports.chunks_exact(2) {
            let layer: usize = pair[0].name.split('.').nth(1).unwrap().parse().unwrap();
            let applied = recording.values[&HookPoint::block(Site::RouterWeights, layer)].real().unwrap();
            let ValueData::Real(spread) = &pair[1].data else { panic!("weights are real") };
            assert!((spread.iter().sum::<f32>() - applied.iter().sum::<f32>()).abs() < 1e-5);
            assert_eq!(pair[1].shape.iter().product::<usize>(), spread.len());
            assert!(pair[0].name.ends_with("mlp.hook_expert_indices"));
        }
    }

    #[test]
    fn scores_are_those_before_the_choice() {
        let (recording, exports) = exported(Compat::TransformerLens2);
        let layer: usize = exports[1].name.split('.').nth(1).unwrap().parse().unwrap();
        assert_eq!(&exports[1].data, recording.values[&HookPoint::block(Site::RouterScores, layer)].data());
    }

    #[test]
    fn one_tensor_holds_the_choices_of_all_layers_token_by_token() {
        let (recording, exports) = exported(Compat::Vllm);
        let ValueData::Integer(layers) = &exports[1].data else { panic!("numbers of layers") };
        let ValueData::Integer(routed) = &exports[0].data else { panic!("numbers of experts") };
        let [_, positions, count, slots] = exports[0].shape[..] else { panic!("four axes") };
        assert_eq!(count, layers.len());
        for (place, &layer) in layers.iter().enumerate() {
            let point = HookPoint::block(Site::RouterIndices, layer as usize);
            let own = recording.values[&point].integer().unwrap();
            for token in 0..recording.tokens.batch() * positions {
                let found = &routed[(token * count + place) * slots..][..slots];
                assert_eq!(found, &own[token * slots..][..slots]);
            }
        }
    }

    #[test]
    fn a_dense_model_has_nothing_to_export() {
        let (recording, _) = exported(Compat::Vllm);
        let mut shape = Planted::new().shape().clone();
        shape.feed_forward = vec![FeedForwardShape::Dense { width: 4 }; shape.feed_forward.len()];
        let error = Compat::Vllm.exports(&recording, &shape).unwrap_err().to_string();
        assert!(error.contains("no layer with a router"), "{error}");
    }
}
