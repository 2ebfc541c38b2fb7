use std::collections::BTreeMap;

use moescope_base::{
    FeedForwardShape, Observation, Request, Site, Subject, SubjectError, SubjectShape, Tokens, Value,
    ValueData,
};
use moescope_model::ModelSubject;
use nalgebra::DMatrix;

use super::*;
use crate::matrix::random_rotation;
use crate::statistics::BootstrapMethod;
use crate::{AnalysisError, Sample};

const WIDTH: usize = 8;
const EXPERTS: usize = 4;

/// What stands in the stream after block 0 of two; after block 1 it is the answer of the token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Early {
    /// The answer already.
    Answer,
    /// The answer in other coordinates: an orthogonal map away.
    Rotated,
    /// The answer with a sign that the expert decides.
    Signed,
    /// Something of another token.
    Nothing,
}

pub(super) struct Planted {
    shape: SubjectShape,
    early: Early,
    /// Name of each expert.
    names: [u32; EXPERTS],
}

impl Planted {
    pub(super) fn new(early: Early) -> Planted {
        let routed = FeedForwardShape::Routed { experts: EXPERTS, per_token: 1, expert_width: 2 };
        let shape = SubjectShape {
            d_model: WIDTH,
            vocab: WIDTH,
            heads: 1,
            head_dim: WIDTH,
            feed_forward: vec![routed; 2],
            options: Default::default(),
        };
        Planted { shape, early, names: [0, 1, 2, 3] }
    }
}

pub(super) fn answer(id: u32) -> Vec<f32> {
    (0..WIDTH).map(|at| 2.0 * ((id * 7 + at as u32 * 3) as f32).sin()).collect()
}

impl Subject for Planted {
    fn shape(&self) -> &SubjectShape {
        &self.shape
    }

    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
        let tokens = request.tokens;
        // What the expert is does not follow from the token.
        let expert = |row: usize| (row * 7 + row / 5) % EXPERTS;
        let mut values = BTreeMap::new();
        for point in request.record {
            let value = if point.site() == Site::RouterIndices {
                let chosen = (0..tokens.len()).map(|row| i64::from(self.names[expert(row)])).collect();
                Value::new(
                    *point,
                    vec![tokens.batch(), tokens.positions(), 1],
                    ValueData::Integer(chosen),
                    None,
                )
            } else {
                let vector = |(row, id): (usize, &u32)| {
                    let last = answer(*id);
                    let sign = if expert(row) % 2 == 0 { 1.0 } else { -1.0 };
                    match (point.layer(), self.early) {
                        (Some(1), _) | (_, Early::Answer) => last,
                        (_, Early::Rotated) => (0..WIDTH).map(|at| last[(at + 3) % WIDTH]).collect(),
                        (_, Early::Signed) => last.iter().map(|x| sign * x).collect(),
                        (_, Early::Nothing) => answer((row * row % 97) as u32),
                    }
                };
                let data = tokens.ids().iter().enumerate().flat_map(vector).collect();
                Value::new(
                    *point,
                    vec![tokens.batch(), tokens.positions(), WIDTH],
                    ValueData::Real(data),
                    None,
                )
            };
            values.insert(*point, value.unwrap());
        }
        Ok(Observation { values, ..Observation::default() })
    }

    fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError> {
        Ok(residual.to_vec())
    }
}

fn samples() -> Vec<Sample> {
    let ids = (0..600).map(|i: u32| (i * i + i / 20) % 53).collect();
    vec![Sample::one_document_each(Tokens::new(ids, 30, 20).unwrap(), 0)]
}

fn run(planted: &mut Planted, seed: u64) -> LayerLenses {
    let resampling =
        Resampling { replicates: 200, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(seed) };
    let options =
        TunedLensOptions { tokens: 600, layers: 6, rank: 2, shuffles: 2, resampling, seed: Seed(seed) };
    let found = tuned_lens(planted, &samples(), options).unwrap();
    assert_eq!(found.layers.len(), 1, "the last block needs no lens");
    assert!(found.trained > found.tested && found.tested > 100);
    found.layers[0]
}

#[test]
fn an_answer_in_other_coordinates_is_read_by_the_tuned_lens_alone() {
    let found = run(&mut Planted::new(Early::Rotated), 1);
    assert!(found.tuned.high < 0.4 * found.logit.low, "{found:?}");
    assert!(found.gain.low > 0.5 && found.tuned.high < 0.5 * found.constant, "{found:?}");
}

#[test]
fn an_answer_that_stands_there_already_leaves_nothing_to_gain() {
    let found = run(&mut Planted::new(Early::Answer), 1);
    assert!(found.logit.high < 1e-5 && found.tuned.high < 1e-5 && found.gain.estimate.abs() < 1e-5);
}

#[test]
fn what_says_nothing_of_the_answer_reads_no_better_than_a_constant() {
    for seed in 1..4 {
        let found = run(&mut Planted::new(Early::Nothing), seed);
        assert!(found.tuned.estimate > 0.93 * found.constant, "{found:?}");
        let conditioned = found.conditioned.unwrap();
        assert!(conditioned.gain.low < 0.02 * found.constant, "{conditioned:?}");
    }
}

#[test]
fn a_sign_that_the_expert_decides_is_read_by_the_lens_by_expert_whatever_experts_are_called() {
    let gain = |names: [u32; EXPERTS]| {
        let found = run(&mut Planted { names, ..Planted::new(Early::Signed) }, 2).conditioned.unwrap();
        assert!(found.gain.low > 0.05 && found.divergence.high < found.shuffled, "{found:?}");
        found.gain.estimate
    };
    let (first, second) = (gain([0, 1, 2, 3]), gain([2, 0, 3, 1]));
    assert!((first - second).abs() < 0.5 * first, "{first} {second}");
}

#[test]
fn a_basis_of_the_stream_that_is_turned_with_all_that_reads_and_writes_it_changes_little() {
    use crate::planted_model::{model, own_text, turn_basis};
    let plain = model(2, 4, |_, _| {});
    let text = [own_text(&plain, 24, 2)];
    let rotation = random_rotation(plain.description().d_model, Seed(9));
    let turned = model(2, 4, |name, data| turn_basis(name, data, &rotation, [16, 8]));
    let resampling =
        Resampling { replicates: 50, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
    let options =
        TunedLensOptions { tokens: 400, layers: 2, rank: 2, shuffles: 1, resampling, seed: Seed(1) };
    let [own, other] = [plain, turned]
        .map(|model| tuned_lens(&mut ModelSubject::new(model), &text, options).unwrap().layers[0]);
    assert!(own.gain.low > 0.0, "something is learned: {own:?}");
    let near = |a: f64, b: f64, by: f64| assert!((a - b).abs() < by, "{own:?} {other:?}");
    near(own.logit.estimate, other.logit.estimate, 1e-3);
    near(own.constant, other.constant, 1e-3);
    // Steps of Adam are taken along the axes, which the training alone therefore knows.
    near(own.tuned.estimate, other.tuned.estimate, 0.15 * own.gain.estimate);
}

#[test]
fn a_capped_unembedding_a_single_block_and_few_documents_are_refused() {
    struct Capped(Planted);
    impl Subject for Capped {
        fn shape(&self) -> &SubjectShape {
            self.0.shape()
        }
        fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
            self.0.run(request)
        }
        fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError> {
            Ok(residual.iter().map(|x| x.tanh()).collect())
        }
    }
    let resampling =
        Resampling { replicates: 9, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
    let options =
        TunedLensOptions { tokens: 100, layers: 2, rank: 1, shuffles: 1, resampling, seed: Seed(1) };
    let refused = |subject: &mut dyn Subject, samples: &[Sample]| -> AnalysisError {
        tuned_lens(subject, samples, options).unwrap_err()
    };
    assert!(refused(&mut Capped(Planted::new(Early::Answer)), &samples()).to_string().contains("capped"));
    let few = Sample::one_document_each(Tokens::new(vec![1; 9], 3, 3).unwrap(), 0);
    assert!(refused(&mut Planted::new(Early::Answer), &[few]).to_string().contains("documents"));
    let mut single = Planted::new(Early::Answer);
    single.shape.feed_forward.truncate(1);
    assert!(refused(&mut single, &samples()).to_string().contains("blocks"));
}

#[test]
fn a_norm_and_a_matrix_are_found_out_from_what_is_read_out() {
    use moescope_model::{Description, FeedForward, Model, Variation};
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
        feed_forward: vec![FeedForward::Dense { width: 8 }],
        variation: Variation::default(),
    };
    let mut subject = ModelSubject::new(Model::initialise(description, Seed(5)).unwrap());
    let x: Vec<f32> = (0..36).map(|at| (at as f32).sin()).collect();
    let readout = readout::Readout::of(&mut subject).unwrap();
    let found = readout.logits(&DMatrix::from_column_slice(12, 3, &x));
    let wanted = subject.unembed(&x).unwrap();
    assert!(found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-4));
}
