//! The weights of routed layers as an analysis sees them, and other weights in their place.

use moescope_base::{Parameters, Projection, SubjectError, WeightMatrix, WeightPlace};

use crate::ModelError;
use crate::model::Model;
use crate::parameters::{BlockIndex, HiddenIndex, Linear};
use crate::subject::ModelSubject;

impl Parameters for ModelSubject {
    fn router(&mut self, layer: usize) -> Result<Option<WeightMatrix>, SubjectError> {
        self.weights(WeightPlace::Router { layer })
    }

    fn expert(
        &mut self,
        layer: usize,
        expert: usize,
        projection: Projection,
    ) -> Result<Option<WeightMatrix>, SubjectError> {
        self.weights(WeightPlace::Expert { layer, expert, projection })
    }

    fn weights(&mut self, place: WeightPlace) -> Result<Option<WeightMatrix>, SubjectError> {
        let Some((parameter, expert)) = found(self.model(), place)? else { return Ok(None) };
        matrix(self.model(), parameter, expert).map(Some)
    }

    fn replace(&mut self, place: WeightPlace, with: &WeightMatrix) -> Result<(), SubjectError> {
        let refused = |reason: String| SubjectError::Input { reason };
        let (parameter, expert) =
            found(self.model(), place)?.ok_or_else(|| refused(format!("the model has no {place}")))?;
        let old = matrix(self.model(), parameter, expert)?;
        if (old.rows(), old.columns()) != (with.rows(), with.columns()) {
            let sizes = |matrix: &WeightMatrix| format!("{} by {}", matrix.rows(), matrix.columns());
            return Err(refused(format!("{place} is {}, not {}", sizes(&old), sizes(with))));
        }
        self.put((parameter, expert), with.data(), old)
    }

    fn restore(&mut self) -> Result<(), SubjectError> {
        self.put_back()
    }
}

/// The parameter of a place, and the expert whose part of it is meant; none where the model has no such weights.
fn found(model: &Model, place: WeightPlace) -> Result<Option<(usize, Option<usize>)>, SubjectError> {
    let of_expert = |layer: usize, expert: usize, projection: Projection| {
        let hidden = routed_block(model, layer)?.hidden;
        let experts = model.layout().specifications[hidden.gate.weight].shape[0];
        if expert >= experts {
            let reason = format!("block {layer} has no expert {expert}, its last is {}", experts - 1);
            return Err(SubjectError::Input { reason });
        }
        Ok(of_layer(hidden, projection))
    };
    Ok(match place {
        WeightPlace::Router { layer } => {
            routed_block(model, layer)?.router.map(|linear| (linear.weight, None))
        }
        WeightPlace::Expert { layer, expert, projection } => {
            of_expert(layer, expert, projection)?.map(|linear| (linear.weight, Some(expert)))
        }
        WeightPlace::ExpertBias { layer, expert, projection } => of_expert(layer, expert, projection)?
            .and_then(|linear| linear.bias)
            .map(|place| (place, Some(expert))),
        WeightPlace::Attention { layer, number } => {
            block(model, layer)?.attention.matrices().get(number).map(|place| (*place, None))
        }
        WeightPlace::Dense { layer, projection } => {
            let block = block(model, layer)?;
            let dense = !model.description().subject_shape().routed_layers().contains(&layer);
            let linear = dense.then(|| of_layer(block.hidden, projection)).flatten();
            linear.map(|linear| (linear.weight, None))
        }
        WeightPlace::Shared { layer, projection } => {
            let linear = block(model, layer)?.shared.and_then(|shared| of_layer(shared.hidden, projection));
            linear.map(|linear| (linear.weight, None))
        }
    })
}

/// One of the matrices around a layer of neurons.
fn of_layer(hidden: HiddenIndex, projection: Projection) -> Option<Linear> {
    match projection {
        Projection::Gate => Some(hidden.gate),
        Projection::Up => hidden.up,
        Projection::Down => Some(hidden.down),
    }
}

/// The places of a block.
fn block(model: &Model, layer: usize) -> Result<&BlockIndex, SubjectError> {
    model.layout().blocks.get(layer).ok_or_else(|| {
        let reason = format!("the model has no block {layer}, it has {}", model.layout().blocks.len());
        SubjectError::Input { reason }
    })
}

/// The places of a routed block.
fn routed_block(model: &Model, layer: usize) -> Result<BlockIndex, SubjectError> {
    let routed = model.description().subject_shape().routed_layers();
    if !routed.contains(&layer) {
        let reason = format!("block {layer} has no experts; blocks that have are {routed:?}");
        return Err(SubjectError::Input { reason });
    }
    Ok(model.layout().blocks[layer])
}

/// A parameter, or the part of it that is one expert's, from memory or from its file.
fn matrix(model: &Model, place: usize, expert: Option<usize>) -> Result<WeightMatrix, SubjectError> {
    let wanted = &model.layout().specifications[place];
    let columns = match wanted.shape[usize::from(expert.is_some())..] {
        [_] => 1, // the bias of an expert
        _ => wanted.shape[wanted.shape.len() - 1],
    };
    let data = match (model.stock(), expert) {
        (None, None) => model.parameters()[place].tensor.data().to_vec(),
        (None, Some(expert)) => {
            let all = model.parameters()[place].tensor.data();
            let each = all.len() / wanted.shape[0];
            all[expert * each..(expert + 1) * each].to_vec()
        }
        (Some(stock), None) => stock.read(place, wanted)?.data().to_vec(),
        (Some(stock), Some(expert)) => {
            let read: Result<_, ModelError> = stock.experts(place, wanted, expert..expert + 1, &|_| true);
            read?.data().to_vec()
        }
    };
    WeightMatrix::new(columns, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::Router;
    use crate::testing;
    use moescope_base::{FeedForwardShape, HookPoint, Site, Subject};

    /// Block, router and gate of the first expert of the first routed block.
    fn first(subject: &mut ModelSubject) -> Option<(usize, Option<WeightMatrix>, WeightMatrix)> {
        let layer = *subject.shape().routed_layers().first()?;
        let weights = subject.parameters().unwrap();
        let gate = weights.expert(layer, 0, Projection::Gate).unwrap().unwrap();
        Some((layer, weights.router(layer).unwrap(), gate))
    }

    #[test]
    fn every_family_shows_the_weights_that_its_pass_multiplies_with_from_memory_and_from_files() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if !entry.join("config.json").is_file() {
                continue;
            }
            let mut whole = ModelSubject::new(Model::open(&entry).unwrap());
            let Some((layer, router, gate)) = first(&mut whole) else { continue };
            let mut streamed = ModelSubject::new(Model::open_streamed(&entry, 0).unwrap());
            assert_eq!(first(&mut streamed), Some((layer, router, gate.clone())), "{}", entry.display());
            let FeedForwardShape::Routed { expert_width, .. } = whole.shape().feed_forward[layer] else {
                unreachable!("a routed layer")
            };
            assert_eq!((gate.rows(), gate.columns()), (expert_width, whole.shape().d_model));
            seen += 1;
        }
        assert!(seen >= 10, "{seen} routed checkpoints");
    }

    #[test]
    fn an_expert_is_its_matrices() {
        let mut subject = testing::subject(&testing::routed_description(Router::learned(true)));
        let layer = subject.shape().routed_layers()[0];
        let shape = subject.shape().feed_forward[layer];
        let FeedForwardShape::Routed { experts, .. } = shape else { unreachable!("a routed layer") };
        let sites = [Site::MlpIn, Site::RouterLogits].map(|site| HookPoint::block(site, layer));
        let gates = (0..experts).map(|expert| HookPoint::expert(Site::ExpertGate, layer, expert));
        let points: Vec<HookPoint> = sites.into_iter().chain(gates).collect();
        let values = testing::run(&mut subject, &points, &[]).values;
        let input = values[&sites[0]].real().unwrap();
        let d = subject.shape().d_model;
        let close = |found: &[f32], x: &[f32], weights: &WeightMatrix| {
            (0..weights.rows()).all(|row| {
                let dot: f32 = weights.row(row).iter().zip(x).map(|(w, x)| w * x).sum();
                (dot - found[row]).abs() < 1e-4
            })
        };
        let weights = subject.parameters().unwrap();
        let router = weights.router(layer).unwrap().unwrap();
        assert!(close(values[&sites[1]].real().unwrap(), &input[..d], &router));
        for expert in 0..experts {
            let gate = weights.expert(layer, expert, Projection::Gate).unwrap().unwrap();
            let value = &values[&points[2 + expert]];
            if let Some(token) = value.rows().and_then(|rows| rows.first()) {
                let x = &input[*token as usize * d..][..d];
                assert!(close(value.real().unwrap(), x, &gate), "expert {expert}");
            }
        }
    }

    /// The activations of a layer of neurons, what it adds, and the matrix that it should write with.
    fn writes(
        subject: &mut ModelSubject,
        place: WeightPlace,
        hidden: HookPoint,
        out: HookPoint,
    ) -> (Vec<f32>, Vec<f32>, WeightMatrix) {
        let values = testing::run(subject, &[hidden, out], &[]).values;
        let [hidden, out] = [hidden, out].map(|point| values[&point].real().unwrap().to_vec());
        (hidden, out, subject.parameters().unwrap().weights(place).unwrap().unwrap())
    }

    #[test]
    fn dense_layers_and_shared_experts_write_with_the_matrices_that_are_shown() {
        let projection = Projection::Down;
        let dense = testing::subject(&testing::dense_description());
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/qwen2_moe");
        let shared = ModelSubject::new(Model::open(&folder).unwrap());
        let streamed = ModelSubject::new(Model::open_streamed(&folder, 0).unwrap());
        let routed = shared.shape().routed_layers()[0];
        let dense_points = [Site::MlpPost, Site::MlpOut].map(|site| HookPoint::block(site, 0));
        let shared_points = [Site::SharedPost, Site::SharedOut].map(|site| HookPoint::block(site, routed));
        let mut read = Vec::new();
        for (mut subject, place, [hidden, out]) in [
            (dense, WeightPlace::Dense { layer: 0, projection }, dense_points),
            (shared, WeightPlace::Shared { layer: routed, projection }, shared_points),
            (streamed, WeightPlace::Shared { layer: routed, projection }, shared_points),
        ] {
            let (hidden, out, down) = writes(&mut subject, place, hidden, out);
            assert_eq!(down.rows(), subject.shape().d_model);
            for (hidden, out) in hidden.chunks(down.columns()).zip(out.chunks(down.rows())) {
                for (row, out) in out.iter().enumerate() {
                    let dot: f32 = down.row(row).iter().zip(hidden).map(|(w, x)| w * x).sum();
                    assert!((dot - out).abs() < 1e-4, "{place}");
                }
            }
            read.push(down);
        }
        assert_eq!(read[1], read[2], "from memory and from files");
        let mut routed = testing::subject(&testing::routed_description(Router::learned(true)));
        let layer = routed.shape().routed_layers()[0];
        let weights = routed.parameters().unwrap();
        assert_eq!(weights.weights(WeightPlace::Dense { layer, projection }).unwrap(), None);
        assert_eq!(weights.weights(WeightPlace::Shared { layer, projection }).unwrap(), None);
        assert!(weights.weights(WeightPlace::Dense { layer: 99, projection }).is_err());
    }

    /// Logits of a pass.
    fn logits(subject: &mut ModelSubject) -> Vec<f32> {
        let point = HookPoint::global(Site::Logits);
        testing::run(subject, &[point], &[]).values[&point].real().unwrap().to_vec()
    }

    #[test]
    fn other_weights_bite_and_are_taken_back_to_the_bit_from_memory_and_from_files() {
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/gpt_oss");
        let whole = ModelSubject::new(Model::open(&folder).unwrap());
        let streamed = ModelSubject::new(Model::open_streamed(&folder, 0).unwrap());
        let mut changed = Vec::new();
        for mut subject in [whole, streamed] {
            let before = logits(&mut subject);
            let layer = subject.shape().routed_layers()[0];
            let expert = |projection| WeightPlace::Expert { layer, expert: 1, projection };
            let bias = WeightPlace::ExpertBias { layer, expert: 1, projection: Projection::Up };
            let places = [
                expert(Projection::Gate),
                expert(Projection::Down),
                bias,
                WeightPlace::Router { layer },
                WeightPlace::Attention { layer, number: 3 },
            ];
            let mut after = Vec::new();
            for place in places {
                let weights = subject.parameters().unwrap();
                let old = weights.weights(place).unwrap().unwrap();
                let twice = old.data().iter().map(|x| 2.0 * x + 0.1).collect();
                let twice = WeightMatrix::new(old.columns(), twice).unwrap();
                weights.replace(place, &twice).unwrap();
                assert_eq!(weights.weights(place).unwrap().unwrap(), twice, "{place}");
                after.push(logits(&mut subject));
                assert_ne!(after.last(), Some(&before), "{place}");
                let weights = subject.parameters().unwrap();
                weights.replace(place, &old).unwrap();
                assert_eq!(logits(&mut subject), before, "{place}");
                let weights = subject.parameters().unwrap();
                weights.replace(place, &twice).unwrap();
                weights.restore().unwrap();
                assert_eq!(weights.weights(place).unwrap().unwrap(), old, "{place}");
                assert_eq!(logits(&mut subject), before, "{place}");
            }
            changed.push((before, after));
        }
        assert_eq!(changed[0], changed[1], "from memory and from files");
    }

    #[test]
    fn weights_of_other_sizes_and_at_no_place_are_refused() {
        let mut subject = testing::subject(&testing::routed_description(Router::learned(true)));
        let layer = subject.shape().routed_layers()[0];
        let weights = subject.parameters().unwrap();
        let small = WeightMatrix::new(1, vec![1.0]).unwrap();
        let told = weights.replace(WeightPlace::Router { layer }, &small).unwrap_err().to_string();
        assert!(told.contains("not 1 by 1"), "{told}");
        let none = WeightPlace::Attention { layer, number: 99 };
        assert_eq!(weights.weights(none).unwrap(), None);
        assert!(weights.replace(none, &small).unwrap_err().to_string().contains("has no matrix 99"));
    }

    #[test]
    fn what_there_is_not_is_told() {
        let mut dense = testing::subject(&testing::dense_description());
        let told = dense.parameters().unwrap().router(0).unwrap_err().to_string();
        assert!(told.contains("block 0 has no experts"), "{told}");
        let mut routed = testing::subject(&testing::routed_description(Router::learned(true)));
        let layer = routed.shape().routed_layers()[0];
        let told = routed.parameters().unwrap().expert(layer, 999, Projection::Down).unwrap_err().to_string();
        assert!(told.contains("no expert 999"), "{told}");
    }
}
