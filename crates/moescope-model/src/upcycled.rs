//! A dense model made into one of experts: copies of one feed-forward layer, whatever the router says, are that layer.

use std::path::Path;

use moescope_base::{HookPoint, Request, Seed, Site, Subject};
use safetensors::tensor::{SafeTensors, TensorView};
use serde_json::{Value, json};

use crate::model::Model;
use crate::parity::{Reference, fixture};
use crate::random::Normal;
use crate::subject::ModelSubject;

const EXPERTS: usize = 5;
const CHOSEN: usize = 3;

/// Writes a Mixtral folder whose experts are all the feed-forward layer of a Llama folder, with routers of arbitrary numbers.
fn upcycle(dense: &Path, folder: &Path) {
    let text = std::fs::read_to_string(dense.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for key in ["attention_bias", "mlp_bias", "pretraining_tp"] {
        config.as_object_mut().unwrap().remove(key);
    }
    config["model_type"] = json!("mixtral");
    config["num_local_experts"] = json!(EXPERTS);
    config["num_experts_per_tok"] = json!(CHOSEN);
    config["sliding_window"] = json!(null);
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();

    let bytes = std::fs::read(dense.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (layers, width) =
        (config["num_hidden_layers"].as_u64().unwrap(), config["hidden_size"].as_u64().unwrap() as usize);
    let routers: Vec<Vec<u8>> = (0..layers).map(|layer| router(layer, width)).collect();
    let mut tensors: Vec<(String, TensorView<'_>)> = Vec::new();
    for (name, view) in file.tensors() {
        let Some((block, leaf)) = name.split_once(".mlp.") else {
            tensors.push((name, view));
            continue;
        };
        let leaf = match leaf.split('.').next().unwrap() {
            "gate_proj" => "w1",
            "up_proj" => "w3",
            _ => "w2",
        };
        for expert in 0..EXPERTS {
            let name = format!("{block}.block_sparse_moe.experts.{expert}.{leaf}.weight");
            tensors.push((name, view.clone()));
        }
    }
    for (layer, bytes) in routers.iter().enumerate() {
        let name = format!("model.layers.{layer}.block_sparse_moe.gate.weight");
        let view = TensorView::new(safetensors::Dtype::F32, vec![EXPERTS, width], bytes).unwrap();
        tensors.push((name, view));
    }
    safetensors::serialize_to_file(tensors, None, &folder.join("model.safetensors")).unwrap();
}

/// Bytes of a router matrix that sends tokens to different experts.
fn router(layer: u64, width: usize) -> Vec<u8> {
    let mut normal = Normal::new(Seed(layer + 1));
    (0..EXPERTS * width).flat_map(|_| (normal.standard() as f32).to_le_bytes()).collect()
}

#[test]
fn copies_of_a_dense_layer_give_the_dense_logits_to_rounding() {
    let dense = fixture("checkpoints/llama");
    let folder = tempfile::tempdir().unwrap();
    upcycle(&dense, folder.path());
    let reference = Reference::read(&dense.join("reference.safetensors"));
    let indices = HookPoint::block(Site::RouterIndices, 0);
    for room in [None, Some(0)] {
        let model = match room {
            None => Model::open(folder.path()),
            Some(room) => Model::open_streamed(folder.path(), room),
        };
        let logits = HookPoint::global(Site::Logits);
        let asked = Request { record: &[logits, indices], ..Request::of(&reference.tokens) };
        let seen = ModelSubject::new(model.unwrap()).run(&asked).unwrap();
        let found = seen.values[&logits].real().unwrap();
        assert_eq!(reference.compare("logits", found), 1);
        // It is no test of routes if all tokens take the same.
        let chosen = seen.values[&indices].integer().unwrap();
        let first: std::collections::BTreeSet<i64> = chosen.chunks(CHOSEN).map(|slots| slots[0]).collect();
        assert!(first.len() > 2, "{first:?}");

        let plain = Request { record: &[logits], ..Request::of(&reference.tokens) };
        let dense = ModelSubject::new(Model::open(&dense).unwrap()).run(&plain).unwrap();
        let wanted = dense.values[&logits].real().unwrap();
        let apart = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let largest = wanted.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        assert!(apart <= 4.0 * f32::EPSILON * largest.max(1.0), "{apart} of {largest}");
    }
}
