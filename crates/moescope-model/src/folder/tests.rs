//! Folders: what is written comes back, and what is damaged is refused with a reason.

use std::path::Path;

use moescope_base::Seed;
use moescope_host::HostError;
use moescope_weights::WeightsError;

use super::inspect;
use crate::ModelError;
use crate::description::{Description, FeedForward, Order, Routed, Router, RouterKind, Score};
use crate::model::Model;
use crate::testing;

fn configuration(folder: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap()
}

fn reconfigure(folder: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut keys = configuration(folder);
    change(&mut keys);
    std::fs::write(folder.join("config.json"), keys.to_string()).unwrap();
}

/// Saves, opens, compares, and returns the family.
fn round_trip(model: &Model) -> String {
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    let read = Model::open(folder.path()).unwrap();
    assert_eq!(read.description(), model.description());
    assert_eq!(read.parameters(), model.parameters());
    for layer in 0..model.description().layers() {
        assert_eq!(read.selection_bias(layer), model.selection_bias(layer));
    }
    assert_eq!(read.hash(), model.hash());
    let seen = inspect(folder.path()).unwrap();
    let counts = model.description().counts();
    let biases = (0..model.description().layers()).filter_map(|l| model.selection_bias(l)).map(<[f32]>::len);
    assert_eq!(seen.params_total, counts.parameters_total + biases.clone().sum::<usize>() as u64);
    assert_eq!(seen.params_active, counts.parameters_active + biases.sum::<usize>() as u64);
    assert_eq!(seen.bytes, 4 * seen.params_total);
    let names = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 2, "no unfinished file is left");
    configuration(folder.path())["model_type"].as_str().unwrap().to_owned()
}

#[test]
fn models_come_back_in_the_simplest_family_that_can_express_them() {
    let learned = Router::learned(true);
    let with = |kind| testing::routed_description(Router { kind, ..Router::learned(false) });
    let cases = [
        (testing::dense_description(), "qwen3"),
        (Description { tied_embeddings: true, ..testing::dense_description() }, "qwen3"),
        (testing::routed_description(learned.clone()), "qwen3_moe"),
        (with(RouterKind::Frozen), "qwen3_moe"),
        (with(RouterKind::Hash { seed: u64::MAX }), "moescope"),
        (with(RouterKind::Random { seed: 2 }), "moescope"),
        (with(RouterKind::Committee { members: 2 }), "moescope"),
        (testing::routed_description(Router { score: Score::Sigmoid, ..learned.clone() }), "moescope"),
        (
            testing::routed_description(Router { order: Order::SelectThenScore, ..learned.clone() }),
            "moescope",
        ),
        (Description { qk_norm: false, ..testing::dense_description() }, "moescope"),
        (
            Description {
                feed_forward: vec![FeedForward::TopKDense { width: 24, active: 3 }; 2],
                ..testing::dense_description()
            },
            "moescope",
        ),
    ];
    for (description, family) in cases {
        assert_eq!(round_trip(&testing::model(description)), family);
    }
    for (_, description) in testing::varied() {
        assert_eq!(round_trip(&testing::model(description)), "moescope");
    }
    let mut biased = testing::model(testing::routed_description(learned));
    biased.set_selection_bias(1, vec![0.1, -0.2, 0.0, 0.5, 0.0, 0.25]);
    assert_eq!(round_trip(&biased), "moescope");
}

#[test]
fn the_sparse_layers_and_sizes_are_inspected() {
    let folder = tempfile::tempdir().unwrap();
    testing::model(testing::routed_description(Router::learned(true))).save(folder.path()).unwrap();
    let seen = inspect(folder.path()).unwrap();
    assert_eq!((seen.family.as_str(), seen.layers, seen.d_model, seen.vocab), ("qwen3_moe", 2, 16, 32));
    assert_eq!((seen.experts, seen.experts_per_token), (6, 2));
    assert_eq!(seen.sparse_layers, [1]);
    let json = serde_json::to_value(&seen).unwrap();
    assert!(json.get("params_total").is_some());
}

#[test]
fn every_cut_of_the_weights_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    testing::model(testing::dense_description()).save(folder.path()).unwrap();
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = Model::open(folder.path()).unwrap_err();
        assert!(matches!(error, ModelError::Host(HostError::Broken { .. })), "{length}: {error}");
        assert!(inspect(folder.path()).is_err());
    }
    let mut longer = bytes.clone();
    longer.push(0);
    std::fs::write(&path, longer).unwrap();
    assert!(matches!(Model::open(folder.path()).unwrap_err(), ModelError::Host(HostError::Broken { .. })));
}

#[test]
fn an_arbitrary_header_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    testing::model(testing::dense_description()).save(folder.path()).unwrap();
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for place in (0..1200).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x15;
        std::fs::write(&path, damaged).unwrap();
        // Either refused, or the change was in a name or number that still reads: the point is that it returns.
        let _ = Model::open(folder.path());
        let _ = inspect(folder.path());
    }
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = testing::model(testing::dense_description());
    model.parameters_mut()[0].tensor.data_mut()[5] = f32::NAN;
    model.save(folder.path()).unwrap();
    let error = Model::open(folder.path()).unwrap_err();
    assert!(matches!(error, ModelError::Weights(WeightsError::NotFinite { entry: 5, .. })), "{error}");
    assert!(error.to_string().contains("model.embed_tokens.weight"), "{error}");
}

/// Rewrites the file of a folder with one more tensor.
fn with_tensor(folder: &Path, name: &str, shape: &[usize], numbers: &[f32]) {
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let stored = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let added: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut tensors: Vec<(String, safetensors::tensor::TensorView<'_>)> = stored.tensors();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), &added).unwrap();
    tensors.push((name.to_owned(), view));
    let written = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(&path, written).unwrap();
}

#[test]
fn a_second_table_beside_a_tied_one_must_be_the_same() {
    let description = Description { tied_embeddings: true, ..testing::dense_description() };
    let model = Model::initialise(description, Seed(4)).unwrap();
    let table = &model.parameters().iter().find(|p| p.name == "model.embed_tokens.weight").unwrap().tensor;
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    with_tensor(folder.path(), "lm_head.weight", table.shape(), table.data());
    assert_eq!(Model::open(folder.path()).unwrap().hash(), model.hash());

    model.save(folder.path()).unwrap();
    let mut other = table.data().to_vec();
    *other.last_mut().unwrap() += 1.0;
    with_tensor(folder.path(), "lm_head.weight", table.shape(), &other);
    let error = Model::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("tie_word_embeddings") && error.contains("`lm_head.weight`"), "{error}");
    assert!(Model::open_streamed(folder.path(), 1 << 30).is_err());
    assert!(inspect(folder.path()).is_ok(), "headers alone do not tell");
}

#[test]
fn whole_numbers_are_no_weights() {
    let model = Model::initialise(testing::dense_description(), Seed(4)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.windows(5).position(|part| part == b"\"F32\"").unwrap();
    bytes[place + 1] = b'I';
    std::fs::write(&path, bytes).unwrap();
    let error = Model::open(folder.path()).unwrap_err();
    assert!(matches!(error, ModelError::TensorFormat { .. }), "{error}");
    assert!(error.to_string().contains("I32"), "{error}");
}

#[test]
fn a_disagreement_of_configuration_and_weights_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let refused = |change: &dyn Fn(&mut serde_json::Value), wanted: &[&str]| {
        testing::model(testing::routed_description(Router::learned(true))).save(path).unwrap();
        reconfigure(path, change);
        let error = Model::open(path).unwrap_err().to_string();
        assert!(wanted.iter().all(|part| error.contains(part)), "{error}");
    };
    refused(&|keys| keys["vocab_size"] = 33.into(), &["model.embed_tokens.weight", "[32, 16]", "[33, 16]"]);
    refused(&|keys| keys["num_experts"] = 7.into(), &["mlp.gate.weight", "[6, 16]", "[7, 16]"]);
    refused(&|keys| keys["num_hidden_layers"] = 3.into(), &["model.layers.2", "missing"]);
    refused(&|keys| keys["num_hidden_layers"] = 1.into(), &["model.layers.1", "no place"]);
    refused(&|keys| keys["model_type"] = "bert".into(), &["bert", "qwen3_moe", "moescope", "mixtral"]);
    refused(&|keys| keys["model_type"] = "mixtrl".into(), &["`mixtrl`", "(did you mean `mixtral`?)"]);
    refused(&|keys| keys["model_type"] = serde_json::Value::Null, &["`model_type` is absent", "mixtral"]);
    refused(&|keys| keys["attention_bias"] = true.into(), &["self_attn.q_proj.bias", "missing"]);
    refused(&|keys| keys["clip_qkv"] = 2.0.into(), &["clip_qkv"]);
    refused(&|keys| keys["hidden_size"] = "wide".into(), &["hidden_size", "whole number"]);
    refused(&|keys| drop(keys.as_object_mut().unwrap().remove("hidden_size")), &["hidden_size", "absent"]);
    refused(
        &|keys| keys["hidden_size"] = serde_json::Value::Null,
        &["`hidden_size` is null", "whole number"],
    );
    refused(&|keys| keys["num_experts_per_tok"] = 9.into(), &["`num_experts_per_tok` is 9", "1 to 6"]);
}

#[test]
fn absurd_sizes_are_refused_without_taking_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (key, routed) in [
        ("num_hidden_layers", false),
        ("vocab_size", false),
        ("hidden_size", false),
        ("num_attention_heads", false),
        ("intermediate_size", false),
        ("head_dim", false),
        ("num_experts", true),
        ("moe_intermediate_size", true),
    ] {
        let description = match routed {
            true => testing::routed_description(Router::learned(true)),
            false => testing::dense_description(),
        };
        testing::model(description).save(path).unwrap();
        for size in [1_000_000_000_u64, 1 << 30, u64::MAX] {
            reconfigure(path, |keys| keys[key] = size.into());
            assert!(Model::open(path).is_err() && inspect(path).is_err(), "{key} = {size}");
        }
    }
}

/// A file may claim terabytes and take no room on the disk.
#[cfg(unix)]
#[test]
fn weights_larger_than_memory_are_refused_and_can_still_be_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let vocab = 1_u64 << 29;
    testing::model(testing::dense_description()).save(path).unwrap();
    reconfigure(path, |keys| keys["vocab_size"] = vocab.into());
    let weights = path.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut places: Vec<(String, serde_json::Value)> =
        header.as_object().unwrap().clone().into_iter().filter(|(name, _)| name != "__metadata__").collect();
    places.sort_by_key(|(_, place)| place["data_offsets"][0].as_u64());
    let mut end = 0;
    for (name, mut place) in places {
        if place["shape"][0] == 32 && (name.contains("embed") || name.contains("lm_head")) {
            place["shape"][0] = vocab.into();
        }
        let size: u64 =
            4 * place["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product::<u64>();
        place["data_offsets"] = serde_json::json!([end, end + size]);
        end += size;
        header[&name] = place;
    }
    let header = header.to_string();
    let mut start = (header.len() as u64).to_le_bytes().to_vec();
    start.extend(header.as_bytes());
    std::fs::write(&weights, &start).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&weights).unwrap();
    if file.set_len(start.len() as u64 + end).is_err() {
        return; // a file system without room for a hole of this size
    }
    assert!(inspect(path).unwrap().bytes > 1 << 36);
    let error = Model::open(path).unwrap_err().to_string();
    assert!(error.contains("this machine has"), "{error}");
}

#[test]
fn an_absent_folder_or_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Model::open(&folder.path().join("nowhere")).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
    testing::model(testing::dense_description()).save(folder.path()).unwrap();
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let error = Model::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("model.safetensors.index.json"), "{error}");
    std::fs::write(folder.path().join("config.json"), "{").unwrap();
    assert!(matches!(Model::open(folder.path()).unwrap_err(), ModelError::Json { .. }));
}

#[test]
fn saving_twice_gives_the_same_bytes_and_mixed_stacks_stay_mixed() {
    let routed =
        Routed { experts: 4, expert_width: 8, per_token: 2, router: Router::learned(false), shared: None };
    let sparse = FeedForward::Routed(routed);
    let dense = FeedForward::Dense { width: 24 };
    let description = Description {
        feed_forward: vec![dense.clone(), sparse.clone(), dense, sparse],
        ..testing::dense_description()
    };
    let model = Model::initialise(description, Seed(1)).unwrap();
    assert_eq!(round_trip(&model), "qwen3_moe");
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    model.save(one.path()).unwrap();
    model.save(two.path()).unwrap();
    for name in ["config.json", "model.safetensors"] {
        let bytes = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
        assert_eq!(bytes(one.path()), bytes(two.path()), "{name}");
    }
    assert_eq!(configuration(one.path())["mlp_only_layers"], serde_json::json!([0, 2]));
}
