use super::*;
use crate::matrix::random_rotation;
use crate::planted_model::turn_basis;
use crate::statistics::BootstrapMethod;
use moescope_base::Tokens;
use moescope_model::{Description, FeedForward, Model, ModelSubject, Routed, Router, Variation};

fn model(change: impl Fn(&str, &mut [f32])) -> ModelSubject {
    deep(2, change)
}

fn deep(blocks: usize, change: impl Fn(&str, &mut [f32])) -> ModelSubject {
    let router = Router::learned(true);
    let routed = Routed { experts: 4, expert_width: 6, per_token: 2, router, shared: None };
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
        feed_forward: vec![FeedForward::Routed(routed); blocks],
        variation: Variation::default(),
    };
    let mut model = Model::initialise(description, Seed(5)).unwrap();
    for parameter in model.parameters_mut() {
        change(&parameter.name.clone(), parameter.tensor.data_mut());
    }
    ModelSubject::new(model)
}

fn samples(first: u32) -> Vec<Sample> {
    let mut rng = Seed(7).rng();
    let ids = (0..128).map(|_| rand::RngExt::random_range(&mut rng, 0..20)).collect();
    vec![Sample::one_document_each(Tokens::new(ids, 16, 8).unwrap(), first)]
}

fn options() -> JacobianOptions {
    let resampling =
        Resampling { replicates: 100, level: 0.95, method: BootstrapMethod::Percentile, seed: Seed(1) };
    JacobianOptions { layers: 4, directions: 6, rounds: 2, shuffles: 19, resampling, seed: Seed(2) }
}

fn run(mut subject: ModelSubject) -> Transport {
    let found = jacobian_lens(&mut subject, &samples(0), options()).unwrap();
    assert_eq!(found.len(), 1, "the last block carries nothing further");
    found[0]
}

#[test]
fn where_no_block_writes_changes_arrive_as_they_are() {
    let found = run(model(|name, data| {
        if name.contains("layers.1.") && (name.contains("down_proj") || name.contains("o_proj")) {
            data.fill(0.0);
        }
    }));
    assert!(
        found.cosine.low > 0.9999 && found.identity > 0.9999 && found.gain.estimate.abs() < 1e-4,
        "{found:?}"
    );
    assert!(found.by_expert.unwrap().gain.estimate.abs() < 1e-4);
    assert_eq!(found.directions, 6);
    assert!(found.variance > 0.5 && found.variance <= 1.0);
}

#[test]
fn heads_that_turn_what_they_read_are_carried_by_the_map_and_not_by_the_identity() {
    // The second block's heads copy the stream of the token itself, turned, at many times its length: keys and queries of zero attend
    // evenly, and values of a random matrix are written by another.
    let found = run(model(|name, data| {
        if name.contains("layers.1.self_attn.") {
            match name.contains("q_proj") || name.contains("k_proj") {
                true => data.fill(0.0),
                false => data.iter_mut().for_each(|weight| *weight *= 60.0),
            }
        }
    }));
    assert!(found.cosine.estimate > found.identity + 0.1 && found.gain.low > 0.0, "{found:?}");
}

/// Heads of the second block write strongly, and experts of both do.
fn loud(name: &str, data: &mut [f32]) {
    if name.contains("layers.1.self_attn.v_proj") || name.contains("down_proj") {
        data.iter_mut().for_each(|weight| *weight *= 20.0);
    }
}

#[test]
fn a_basis_of_the_stream_that_is_turned_with_all_that_reads_and_writes_it_changes_little() {
    let rotation = random_rotation(12, Seed(4));
    let own = run(model(loud));
    let turned = run(model(|name, data| {
        loud(name, data);
        turn_basis(name, data, &rotation, [12, 6]);
    }));
    assert!(own.cosine.estimate > own.identity + 0.02, "something is carried: {own:?}");
    assert_eq!((own.directions, own.flips), (turned.directions, turned.flips));
    // Differences of single precision stand in the derivatives.
    for (own, other) in [
        (own.variance, turned.variance),
        (own.cosine.estimate, turned.cosine.estimate),
        (own.identity, turned.identity),
        (own.gain.low, turned.gain.low),
        (own.cosine_free.estimate, turned.cosine_free.estimate),
    ] {
        assert!((own - other).abs() < 2e-3, "{own} {other}");
    }
}

#[test]
fn the_names_of_experts_do_not_matter() {
    let own = run(model(loud));
    let other = run(model(|name, data| {
        loud(name, data);
        if name.contains("mlp.experts") || name.contains("mlp.gate.") {
            data.rotate_left(data.len() / 4);
        }
    }));
    assert!((own.cosine.estimate - other.cosine.estimate).abs() < 1e-3, "{own:?} {other:?}");
    let [own, other] = [own, other].map(|found| found.by_expert.unwrap().gain.estimate);
    assert!((own - other).abs() < 1e-3, "{own} {other}");
}

#[test]
fn numbers_of_documents_and_threads_do_not_matter_and_too_little_is_refused() {
    let mut subject = model(|_, _| {});
    let run = |subject: &mut ModelSubject, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| jacobian_lens(subject, &samples(0), options()).unwrap())
    };
    let one = run(&mut subject, 1);
    assert_eq!(one, run(&mut subject, 2));
    let lone = Sample::one_document_each(Tokens::new(vec![1, 2, 3], 1, 3).unwrap(), 0);
    assert!(jacobian_lens(&mut subject, &[lone], options()).is_err());
    let few = Sample::one_document_each(Tokens::new(vec![1, 2, 3, 4, 5, 6], 3, 2).unwrap(), 0);
    assert!(jacobian_lens(&mut subject, &[few], options()).unwrap_err().to_string().contains("documents"));
}

#[test]
fn a_path_is_two_routed_layers_above_and_its_table_is_as_said() {
    let mut subject = deep(3, loud);
    let found = jacobian_lens(&mut subject, &samples(0), options()).unwrap();
    assert_eq!(found.iter().map(|row| row.by_path.is_some()).collect::<Vec<_>>(), [true, false]);
    assert!(found.iter().all(|row| row.by_expert.is_some()));
    let table = crate::routing::planted::tokens(
        samples(0)[0].tokens().ids().to_vec(),
        vec![0; 128],
        samples(0)[0].documents().to_vec(),
    );
    let batches = vec![(samples(0)[0].tokens().clone(), table)];
    let mut material = crate::instrument::Material::new(&mut subject, batches, Seed(1)).unwrap();
    material.replicates = 50;
    let told = crate::instrument::Instrument::run(&JacobianLens, &mut material).unwrap();
    let names: Vec<&str> = told.tables.iter().map(|table| table.name()).collect();
    assert_eq!(names, ["jacobian_lens", "jacobian_lens_by_expert", "jacobian_lens_by_path"]);
    let unlike = crate::instrument::Instrument::about(&JacobianLens).unlike(&told);
    assert!(unlike.is_empty(), "{unlike:?}");
    assert!(told.figures[2].title.starts_with("Maps by path carry changes better"));
}
