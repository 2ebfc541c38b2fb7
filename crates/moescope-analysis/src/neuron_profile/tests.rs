use super::dashboard::{Dashboard, Setting, dashboards};
use super::instrument::NeuronProfile;
use super::texts::Text;
use super::*;
use crate::instrument::{Instrument, Material};
use crate::matrix::random_rotation;
use crate::planted_model::resampling;
use crate::routing::planted;
use moescope_base::{Seed, Table, Tokens};
use moescope_model::{
    Description, FeedForward, Model, ModelSubject, Positions, Routed, Router, Shared, Variation,
};
use moescope_trace::TokenTable;
use rand::RngExt;

const WIDTH: usize = 32;
const EXPERTS: usize = 4;
const NEURONS: usize = 6;
const VOCAB: usize = 20;

/// A dense block and a routed one with a shared expert. Attention writes nothing and the embedding of a token is its own coordinate, so that
/// the token alone decides what neurons do; `change` may change the weights.
fn model(change: impl Fn(&str, &mut [f32])) -> Model {
    let shared = Some(Shared { width: 5, weighted: false });
    let routed = Routed {
        experts: EXPERTS,
        expert_width: NEURONS,
        per_token: 2,
        router: Router::learned(true),
        shared,
    };
    let description = Description {
        vocab: VOCAB,
        d_model: WIDTH,
        heads: 2,
        key_value_heads: 2,
        head_dim: 4,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-9,
        max_positions: 64,
        tied_embeddings: false,
        qk_norm: false,
        feed_forward: vec![FeedForward::Dense { width: 18 }, FeedForward::Routed(routed)],
        variation: Variation { positions: Positions::Learned, ..Variation::default() },
    };
    let mut model = Model::initialise(description, Seed(7)).unwrap();
    for parameter in model.parameters_mut() {
        let name = parameter.name.clone();
        let data = parameter.tensor.data_mut();
        if name.contains("self_attn") || name.contains("position") {
            data.fill(0.0);
        }
        if name == "model.embed_tokens.weight" {
            data.fill(0.0);
            (0..VOCAB).for_each(|token| data[token * WIDTH + token] = 1.0);
        }
        change(&name, data);
    }
    model
}

/// Neuron 3 of the dense block reads token 7 alone and writes what token 11 is read from.
fn plant(name: &str, data: &mut [f32]) {
    let neurons = 18;
    match name {
        "model.layers.0.mlp.gate_proj.weight" | "model.layers.0.mlp.up_proj.weight" => {
            data[3 * WIDTH..4 * WIDTH].fill(0.0);
            data[3 * WIDTH + 7] = 10.0;
        }
        "model.layers.0.mlp.down_proj.weight" => {
            (0..WIDTH).for_each(|row| data[row * neurons + 3] = 0.0);
            data[25 * neurons + 3] = 5.0;
        }
        "lm_head.weight" => {
            (0..VOCAB).for_each(|token| data[token * WIDTH + 25] = 0.0);
            data[11 * WIDTH + 25] = 1.0;
        }
        _ => {}
    }
}

/// Ten documents of two windows of 16 random tokens.
fn batches() -> Vec<(Tokens, TokenTable)> {
    let mut rng = Seed(3).rng();
    let batch = |half: u32, rng: &mut rand_chacha::ChaCha8Rng| {
        let ids: Vec<u32> = (0..160).map(|_| rng.random_range(0..VOCAB as u32)).collect();
        let documents: Vec<u32> = (0..160).map(|token| 5 * half + token / 32).collect();
        let domains = documents.iter().map(|document| (document % 2) as u16).collect();
        (Tokens::new(ids.clone(), 10, 16).unwrap(), planted::tokens(ids, domains, documents))
    };
    vec![batch(0, &mut rng), batch(1, &mut rng)]
}

fn found(model: Model, layer: usize) -> Vec<Dashboard> {
    let mut subject = ModelSubject::new(model);
    let mut material = Material::new(&mut subject, batches(), Seed(1)).unwrap();
    let text = Text::new(&material.batches);
    let setting = Setting { text, draws: 499, seed: Seed(2), resampling: resampling(4) };
    dashboards(&mut material, layer, &setting).unwrap()
}

#[test]
fn a_planted_neuron_by_hand() {
    let found = found(model(plant), 0);
    assert_eq!(found.len(), super::NEURONS, "of eighteen");
    let own = found.iter().find(|dashboard| dashboard.neuron == Some(3)).expect("it writes most");
    let text = Text::new(&batches());
    let sevens = text.ids.iter().filter(|id| **id == 7).count() as f64 / 320.0;
    assert_eq!(own.density.estimate, sevens);
    assert_eq!((own.known.first[0].id, own.known.p_value), (7, 1.0 / 500.0));
    // It is silent elsewhere: of n tokens in a document of 32 each is 32 / n times as strong as the document's mean.
    let of = |document: &[u32]| document.iter().filter(|id| **id == 7).count() as f64;
    let squares: f64 = text.ids.chunks_exact(32).map(|document| of(document).powi(2)).sum();
    assert!((own.known.first[0].times - 32.0 * 320.0 * sevens / squares).abs() < 1e-6);
    // The norm makes √32 of the one coordinate; gate and up are ten times that, and down has length 5.
    let h = 100.0 * 32.0;
    assert!((own.write.estimate / (sevens * 5.0 * h) - 1.0).abs() < 1e-4, "{:?}", own.write);
    assert!(own.write.low < own.write.estimate && own.write.estimate < own.write.high);
    assert_eq!(own.promoted[0], 11);
    assert_eq!(own.texts.len(), TEXTS);
    assert!(
        own.texts
            .iter()
            .all(|strong| text.ids[strong.token] == 7 && (f64::from(strong.value) - h).abs() < 1.0)
    );
    let mut documents: Vec<u32> = own.texts.iter().map(|strong| text.documents[strong.token]).collect();
    documents.dedup();
    assert_eq!(documents.len(), TEXTS);
}

#[test]
fn a_routed_layer_has_its_experts_their_neurons_and_the_shared_expert() {
    let found = found(model(|_, _| {}), 1);
    assert_eq!(found.len(), EXPERTS * (NEURONS + 1) + 5);
    let loads: f64 = found
        .iter()
        .filter(|dashboard| dashboard.neuron.is_none())
        .map(|dashboard| dashboard.density.estimate)
        .sum();
    assert!((loads - 2.0).abs() < 1e-12, "two experts for each token: {loads}");
    for dashboard in &found {
        let whole = dashboard.neuron.is_none();
        assert_eq!(dashboard.promoted.is_empty(), whole);
        assert!(dashboard.write.estimate > 0.0 && (0.0..=1.0).contains(&dashboard.density.estimate));
    }
    // What an expert adds is at most what its neurons do one by one.
    for whole in found.iter().filter(|dashboard| dashboard.neuron.is_none()) {
        let own = found.iter().filter(|d| d.bank == whole.bank && d.neuron.is_some());
        let sum: f64 = own.map(|dashboard| dashboard.write.estimate).sum();
        assert!(whole.write.estimate <= sum, "{} of {sum}", whole.write.estimate);
    }
}

/// What is told, without names: density, write, how telling, p-value, selectivity, promoted tokens, places of the strongest texts.
fn told(dashboard: &Dashboard) -> ([f64; 5], Vec<u32>, Vec<usize>) {
    let selectivity = dashboard.domain.map_or(f64::NAN, |domain| domain.times);
    let telling = dashboard.known.first.first().map_or(0.0, |first| first.deviance);
    let numbers =
        [dashboard.density.estimate, dashboard.write.estimate, telling, dashboard.known.p_value, selectivity];
    (numbers, dashboard.promoted.clone(), dashboard.texts.iter().map(|strong| strong.token).collect())
}

#[test]
fn experts_may_be_relabelled() {
    let turned = model(|name, data| {
        if name.starts_with("model.layers.1.mlp.") && !name.contains("shared") {
            let size = data.len() / EXPERTS;
            data.rotate_left(size); // expert 1 is now expert 0
        }
    });
    let (plain, turned) = (found(model(|_, _| {}), 1), found(turned, 1));
    for own in plain.iter().filter(|d| matches!(d.bank.place, bank::Place::Expert(_))) {
        let bank::Place::Expert(expert) = own.bank.place else { unreachable!("an expert") };
        let place = bank::Place::Expert((expert + EXPERTS - 1) % EXPERTS);
        let twin = turned.iter().find(|d| d.bank.place == place && d.neuron == own.neuron).unwrap();
        let ((numbers, promoted, texts), (others, other_promoted, other_texts)) = (told(own), told(twin));
        // Weights of experts are summed in another order.
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * (a.abs() + b.abs());
        assert!(numbers.iter().zip(others).all(|(a, b)| near(*a, b)), "{numbers:?} {others:?}");
        assert_eq!((promoted, texts), (other_promoted, other_texts), "expert {expert}, {:?}", own.neuron);
    }
}

#[test]
fn the_basis_of_the_stream_decides_nothing() {
    let rotation = random_rotation(WIDTH, Seed(9));
    let turn = |vector: &[f32]| -> Vec<f32> {
        let of = |row: usize| (0..WIDTH).map(|at| rotation[(row, at)] * f64::from(vector[at])).sum::<f64>();
        (0..WIDTH).map(|row| of(row) as f32).collect()
    };
    let turned = model(|name, data| {
        let reads = ["embed_tokens", "gate", "up_proj", "lm_head"].iter().any(|part| name.contains(part));
        if reads {
            data.chunks_exact_mut(WIDTH).for_each(|row| row.copy_from_slice(&turn(row)));
        }
        if name.contains("down_proj") {
            let width = if name.contains("layers.0") {
                18
            } else if name.contains("shared") {
                5
            } else {
                NEURONS
            };
            for matrix in data.chunks_exact_mut(WIDTH * width) {
                for neuron in 0..width {
                    let column: Vec<f32> = (0..WIDTH).map(|row| matrix[row * width + neuron]).collect();
                    turn(&column).iter().enumerate().for_each(|(row, x)| matrix[row * width + neuron] = *x);
                }
            }
        }
    });
    for layer in 0..2 {
        let (plain, turned) = (found(model(|_, _| {}), layer), found(turned.clone(), layer));
        assert_eq!(plain.len(), turned.len());
        for (own, twin) in plain.iter().zip(&turned) {
            let ((numbers, promoted, _), (others, other_promoted, _)) = (told(own), told(twin));
            assert_eq!((own.bank, own.neuron, promoted), (twin.bank, twin.neuron, other_promoted));
            // Ranks of equal tokens in two documents may change places by rounding; sums of their scores hardly do.
            let near = |a: f64, b: f64| (a - b).abs() <= 0.02 * (a.abs() + b.abs()) + 1e-9;
            assert!(numbers.iter().zip(others).all(|(a, b)| near(*a, b)), "{numbers:?} {others:?}");
        }
    }
}

fn number(table: &Table, column: &str, row: usize) -> f64 {
    table.column(column).unwrap().data.number(row).unwrap()
}

#[test]
fn the_instrument_tells_neurons_texts_and_passages_and_has_draws_enough() {
    let run = || {
        let mut subject = ModelSubject::new(model(plant));
        let mut material = Material::new(&mut subject, batches(), Seed(1)).unwrap();
        (material.permutations, material.replicates) = (19, 50);
        material.words = (0..VOCAB).map(|id| format!(" w{id}")).collect();
        NeuronProfile.run(&mut material).unwrap()
    };
    let found = run();
    let again = run();
    assert_eq!(found.figures, again.figures, "the seed decides all");
    assert_eq!(found.tables[..2], again.tables[..2], "the seed decides all");
    let [profile, texts, passages, known] = &found.tables[..] else { panic!("four tables") };
    // Without attention each neuron is a function of its token, learned or not: that is what the second row is for.
    let counted = |row: usize| ["neurons", "known"].map(|column| number(known, column, row));
    assert_eq!((known.rows(), counted(0)), (2, counted(1)));
    assert_ne!(number(known, "telling", 0), number(known, "telling", 1));
    assert!(found.figures[0].title.contains("with the weights in another order"));
    let rows = super::NEURONS + EXPERTS * (NEURONS + 1) + 5;
    assert_eq!((profile.rows(), texts.rows() >= 2 * rows), (rows, true));
    let least = (0..rows).map(|row| number(profile, "telling_p", row)).fold(1.0, f64::min);
    assert!(least * (rows as f64) < 0.05, "{least}");
    let row = (0..texts.rows()).find(|row| {
        let label = |column: &str| texts.column(column).unwrap().data.label(*row);
        (label("layer"), label("expert"), label("neuron")) == ("0".into(), "dense".into(), "3".into())
    });
    let label = |column: &str| texts.column(column).unwrap().data.label(row.unwrap());
    assert!(label("text").contains("[[ w7]]") && label("token") == "\" w7\"", "{}", label("text"));
    assert!(found.figures[0].title.contains("known by a token"), "{}", found.figures[0].title);
    let marked =
        (0..passages.rows()).filter(|row| passages.column("mark").unwrap().data.label(*row) == "strongest");
    assert!((8..=24).contains(&marked.count()));
}
