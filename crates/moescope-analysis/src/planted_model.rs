//! A small model whose own predictions its text is drawn from, so that any change of the model raises its loss.

use moescope_base::{HookPoint, Request, Seed, Site, Subject, Tokens};
use moescope_model::{Description, FeedForward, Model, ModelSubject, Positions, Routed, Router, Variation};
use moescope_trace::TokenTable;
use nalgebra::DMatrix;
use rand::RngExt;

use crate::Sample;
use crate::routing::planted;
use crate::statistics::{BootstrapMethod, Resampling};

pub(crate) const VOCAB: usize = 24;
pub(crate) const EXPERTS: usize = 6;
pub(crate) const WIDTH: usize = 32;

/// Routed blocks of six experts of eight neurons, two for each token. Attention writes nothing, so that the token alone decides what is
/// predicted; experts write strongly.
pub(crate) fn model(layers: usize, seed: u64, change: impl Fn(&str, &mut [f32])) -> Model {
    let router = Router::learned(true);
    let routed = Routed { experts: EXPERTS, expert_width: 8, per_token: 2, router, shared: None };
    let description = Description {
        vocab: VOCAB,
        d_model: WIDTH,
        heads: 2,
        key_value_heads: 2,
        head_dim: 8,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-6,
        max_positions: 64,
        tied_embeddings: false,
        qk_norm: false,
        feed_forward: vec![FeedForward::Routed(routed); layers],
        variation: Variation { positions: Positions::Learned, ..Variation::default() },
    };
    let mut model = Model::initialise(description, Seed(seed)).unwrap();
    for parameter in model.parameters_mut() {
        let data = parameter.tensor.data_mut();
        match parameter.name.as_str() {
            "model.position_embeddings.weight" => data.fill(0.0),
            name if name.contains("self_attn") => data.fill(0.0),
            name if name.contains("down_proj") => data.iter_mut().for_each(|weight| *weight *= 8.0),
            "lm_head.weight" => data.iter_mut().for_each(|weight| *weight *= 2.0),
            _ => {}
        }
        change(&parameter.name.clone(), parameter.tensor.data_mut());
    }
    model
}

/// Renames the experts of every layer: expert `e` is what `e + 1` was; for [`model`]'s `change`.
pub(crate) fn rename(name: &str, data: &mut [f32]) {
    if name.contains("mlp.experts") || name.contains("mlp.gate") {
        let size = data.len() / EXPERTS;
        data.rotate_left(size);
    }
}

/// Turns the basis of the stream: every matrix that reads it and every one that writes it; for [`model`]'s `change`, and for any model whose norms have
/// unit gains, since these alone know the axes. `inner` are the columns of the matrices that write it: of attention, and of an expert.
pub(crate) fn turn_basis(name: &str, data: &mut [f32], rotation: &DMatrix<f64>, inner: [usize; 2]) {
    let width = rotation.nrows();
    let turn = |vector: &[f32]| -> Vec<f32> {
        let of = |row: usize| -> f64 {
            vector.iter().enumerate().map(|(at, x)| rotation[(row, at)] * f64::from(*x)).sum()
        };
        (0..width).map(|row| of(row) as f32).collect()
    };
    let writes =
        [("o_proj", inner[0]), ("down_proj", inner[1])].into_iter().find(|(part, _)| name.contains(part));
    if let Some((_, columns)) = writes {
        for matrix in data.chunks_exact_mut(width * columns) {
            for column in 0..columns {
                let vector: Vec<f32> = (0..width).map(|row| matrix[row * columns + column]).collect();
                turn(&vector).iter().enumerate().for_each(|(row, x)| matrix[row * columns + column] = *x);
            }
        }
    } else if !name.contains("norm") {
        data.chunks_exact_mut(width).for_each(|row| row.copy_from_slice(&turn(row)));
    }
}

/// Makes an expert of a layer a copy of another, its neurons in the opposite order; for [`model`]'s `change`.
pub(crate) fn twin(name: &str, data: &mut [f32], layer: usize, of: usize, expert: usize) {
    if !name.contains(&format!("layers.{layer}.mlp.experts")) {
        return;
    }
    let size = data.len() / EXPERTS;
    let own = data[of * size..(of + 1) * size].to_vec();
    let (rows, columns) = if name.contains("down_proj") { (WIDTH, 8) } else { (8, WIDTH) };
    for row in 0..rows {
        for column in 0..columns {
            let from = match name.contains("down_proj") {
                true => row * columns + (columns - 1 - column),
                false => (rows - 1 - row) * columns + column,
            };
            data[expert * size + row * columns + column] = own[from];
        }
    }
}

/// Text of so many documents of 24 tokens, one sequence each, drawn from the predictions of a model whose attention writes nothing.
pub(crate) fn own_text(model: &Model, documents: usize, seed: u64) -> Sample {
    let mut subject = ModelSubject::new(model.clone());
    let each = Tokens::new((0..VOCAB as u32).collect(), VOCAB, 1).unwrap();
    let point = HookPoint::global(Site::Logits);
    let seen = subject.run(&Request { record: &[point], ..Request::of(&each) }).unwrap();
    let law: Vec<Vec<f64>> = seen.values[&point].real().unwrap().chunks(VOCAB).map(softmax).collect();
    let mut rng = Seed(seed).child("own text").rng();
    let mut ids: Vec<u32> = Vec::new();
    for _ in 0..documents {
        let mut token = rng.random_range(0..VOCAB);
        for _ in 0..24 {
            ids.push(token as u32);
            let mut left = rng.random::<f64>();
            let next = law[token].iter().position(|p| {
                left -= p;
                left < 0.0
            });
            token = next.unwrap_or(VOCAB - 1);
        }
    }
    Sample::one_document_each(Tokens::new(ids, documents, 24).unwrap(), 0)
}

/// The text as material has it; documents belong to two domains in turn.
pub(crate) fn batch(sample: &Sample) -> (Tokens, TokenTable) {
    let domains = sample.documents().iter().map(|document| (document % 2) as u16).collect();
    let table = planted::tokens(sample.tokens().ids().to_vec(), domains, sample.documents().to_vec());
    (sample.tokens().clone(), table)
}

pub(crate) fn resampling(seed: u64) -> Resampling {
    Resampling { replicates: 200, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(seed) }
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|logit| f64::from(*logit).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}
