use super::passes::Stage;
use super::*;
use crate::Sample;
use crate::statistics::BootstrapMethod;
use moescope_base::{Edit, HookPoint, Request, Site, Subject, TokenSelection, Tokens, ValueEdit};
use moescope_model::{Description, FeedForward, Model, ModelSubject, Routed, Router, Variation};

const EXPERTS: usize = 4;
const WIDTH: usize = 12;

fn description() -> Description {
    let router = Router::learned(true);
    let routed = Routed { experts: EXPERTS, expert_width: 6, per_token: 2, router, shared: None };
    Description {
        vocab: 20,
        d_model: WIDTH,
        heads: 2,
        key_value_heads: 2,
        head_dim: 6,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-6,
        max_positions: 16,
        tied_embeddings: false,
        qk_norm: false,
        feed_forward: vec![FeedForward::Routed(routed); 3],
        variation: Variation::default(),
    }
}

fn model(change: impl Fn(&str, &mut [f32])) -> ModelSubject {
    let mut model = Model::initialise(description(), Seed(5)).unwrap();
    for parameter in model.parameters_mut() {
        let name = parameter.name.clone();
        change(&name, parameter.tensor.data_mut());
    }
    ModelSubject::new(model)
}

fn samples(seed: u64) -> Vec<Sample> {
    let mut rng = Seed(seed).rng();
    let ids = (0..96).map(|_| rand::RngExt::random_range(&mut rng, 0..20)).collect();
    vec![Sample::one_document_each(Tokens::new(ids, 12, 8).unwrap(), 0)]
}

fn options() -> PathPatchOptions {
    let resampling =
        Resampling { replicates: 60, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
    PathPatchOptions { senders: 4, receiving: 2, turns: 4, resampling, seed: Seed(3) }
}

/// The path to the heads or the experts of the next layer by hand: the stream between is the clean one plus the difference of the writes.
#[test]
fn a_path_by_hand() {
    let mut subject = model(|_, _| {});
    let samples = samples(1);
    let stage = Stage::observe(&mut subject, &samples[0], 0, &[1]).unwrap();
    let change = stage.change(&mut subject, 2, false).unwrap();
    let difference = stage.difference(2, false).unwrap();
    assert!(
        change.iter().zip(&difference).all(|(a, b)| (a - b).abs() < 1e-4),
        "no norm stands behind the experts"
    );
    let reached = stage.reach(&mut subject, &change).unwrap();
    // An edit of the stream before the second block, with everything behind its attention put back, is the path through the heads.
    let pre = HookPoint::block(Site::ResidPre, 1);
    let record = [pre, HookPoint::block(Site::AttnOut, 1)];
    let tokens = samples[0].tokens();
    let clean = subject.run(&Request { record: &record, ..Request::of(tokens) }).unwrap();
    let changed = clean.values[&pre].real().unwrap().iter().zip(&change).map(|(a, b)| a + b).collect();
    let edit = |at: HookPoint, rows: Vec<f32>| Edit::Value {
        at,
        tokens: TokenSelection::All,
        change: ValueEdit::Patch { rows },
    };
    let heads = subject
        .run(&Request { record: &record, edits: &[edit(pre, changed)], ..Request::of(tokens) })
        .unwrap()
        .values[&record[1]]
        .real()
        .unwrap()
        .to_vec();
    let by_hand = subject.run(&Request { edits: &[edit(record[1], heads)], ..Request::of(tokens) }).unwrap();
    let found = stage.effect(&mut subject, &reached, (1, Receiver::Heads), false).unwrap();
    let mut each = 0;
    for (row, before) in clean.loss.iter().enumerate() {
        assert!((f64::from(by_hand.loss[row] - before) - found[row].1[1]).abs() < 1e-4);
        each += usize::from(found[row].1[0] > 1e-7);
    }
    assert!(each > 20, "the path is more than nothing: {each}");
}

#[test]
fn one_expert_moves_fewer_predictions_than_all_and_neither_a_choice() {
    let mut subject = model(|_, _| {});
    let samples = samples(2);
    let stage = Stage::observe(&mut subject, &samples[0], 0, &[1]).unwrap();
    let change = stage.change(&mut subject, 1, true).unwrap();
    let reached = stage.reach(&mut subject, &change).unwrap();
    let all = stage.effect(&mut subject, &reached, (1, Receiver::Experts), true).unwrap();
    let single = stage.effect(&mut subject, &reached, (1, Receiver::Expert(0)), true).unwrap();
    let moved = |of: &[(u32, [f64; 3])]| of.iter().filter(|(_, [kl, ..])| *kl > 1e-9).count();
    assert!(moved(&all) > moved(&single) && moved(&single) > 0);
    assert!(
        all.iter().chain(&single).all(|(_, [.., other])| *other == 0.0),
        "the router read the clean stream"
    );
}

/// Expert 1 of block 0 writes to one coordinate and nowhere else, and of the experts of block 1 `reader` alone reads it.
fn planted(reader: usize) -> ModelSubject {
    model(|name, data| {
        let neurons = 6;
        if name == "model.embed_tokens.weight" {
            // Embeddings so large that a write changes the norm but little.
            data.iter_mut().for_each(|weight| *weight *= 10.0);
            data.chunks_exact_mut(WIDTH).for_each(|row| row[0] = 0.0);
        }
        if name.ends_with("self_attn.o_proj.weight") {
            data[..WIDTH].fill(0.0);
        }
        if name.starts_with("model.layers.0.mlp.experts.down_proj") {
            for (place, own) in data.chunks_exact_mut(neurons).enumerate() {
                let (expert, row) = (place / WIDTH, place % WIDTH);
                if (expert == 1) != (row == 0) {
                    own.fill(0.0);
                }
            }
        }
        let gate = name.starts_with("model.layers.1.mlp.experts.gate_proj");
        if gate || name.starts_with("model.layers.1.mlp.experts.up_proj") {
            for (place, row) in data.chunks_exact_mut(WIDTH).enumerate() {
                row[0] = 0.0;
                if !gate && place / neurons == reader {
                    row.fill(0.0);
                    row[0] = 3.0;
                }
            }
        }
    })
}

#[test]
fn the_expert_that_reads_a_mark_is_found_under_any_name() {
    for reader in [0, 3] {
        let options = PathPatchOptions { turns: 24, senders: 8, ..options() };
        let found = path_patch(&mut planted(reader), &samples(4), options).unwrap();
        let marked: Vec<&Edge> = found
            .edges
            .iter()
            .filter(|edge| edge.sender == Expert { layer: 0, expert: 1 } && edge.receiver.layer == 1)
            .collect();
        assert_eq!(marked.len(), EXPERTS);
        let ratio = |edge: &Edge| edge.gain.estimate / edge.null;
        for edge in marked {
            match edge.receiver.expert == reader {
                true => assert!(ratio(edge) > 1.5, "{edge:?}"),
                false => assert!(ratio(edge) < 1.0 && edge.p > 0.05, "{edge:?}"),
            }
        }
    }
}

#[test]
fn sequences_that_are_alike_send_nothing() {
    let ids: Vec<u32> = (0..8).map(|i| i * 3 % 20).collect();
    let twice = Tokens::new([ids.clone(), ids].concat(), 2, 8).unwrap();
    let error = path_patch(&mut model(|_, _| {}), &[Sample::one_document_each(twice, 0)], options());
    assert!(error.unwrap_err().to_string().contains("writes differ"));
}

#[test]
fn what_no_router_reads_flips_no_route_and_documents_in_another_order_change_nothing() {
    let found = path_patch(&mut model(|_, _| {}), &samples(5), options()).unwrap();
    for effect in &found.effects {
        // Heads stand before the router of their block.
        let before = matches!(effect.receiver, Receiver::Router | Receiver::Heads);
        assert!(before && !effect.held || effect.other_routes == 0.0, "{effect:?}");
        assert_eq!(effect.kl_null.is_nan(), effect.held);
    }
    // The batch as a circle: begun elsewhere, every sequence still has the same next one.
    let first = &samples(5)[0];
    let ids = crate::route_patch::of_next_sequence(first.tokens().ids(), 5 * 8);
    let turned = Sample::one_document_each(Tokens::new(ids, 12, 8).unwrap(), 0);
    let again = path_patch(&mut model(|_, _| {}), &[turned], options()).unwrap();
    for (one, other) in found.edges.iter().zip(&again.edges) {
        assert!(
            (one.gain.estimate - other.gain.estimate).abs() < 1e-4 * one.gain.estimate && one.p == other.p
        );
    }
}

#[test]
fn a_single_routed_layer_and_lone_sequences_are_refused() {
    let mut lone = description();
    lone.feed_forward.truncate(1);
    let mut subject = ModelSubject::new(Model::initialise(lone, Seed(1)).unwrap());
    assert!(path_patch(&mut subject, &samples(1), options()).is_err());
    let one = Sample::one_document_each(Tokens::new(vec![1, 2, 3], 1, 3).unwrap(), 0);
    assert!(path_patch(&mut model(|_, _| {}), &[one], options()).is_err());
}
