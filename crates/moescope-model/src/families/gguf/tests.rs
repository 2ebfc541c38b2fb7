//! Each architecture as GGUF and as a folder: the same configuration, the same tensors to the bit.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::Model;
use crate::families;
use crate::folder::{Configuration, open_checkpoint};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf").join(name)
}

/// Each family with its number of tensors in a folder.
const FAMILIES: [&str; 7] = ["llama", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gpt_oss"];

#[test]
fn tensors_are_those_of_the_folder_to_the_bit() {
    for family in FAMILIES {
        let (_, folder) = open_checkpoint(&fixture(family)).unwrap();
        let (_, file) = open_checkpoint(&fixture(&format!("{family}.gguf"))).unwrap();
        for name in folder.names() {
            // Where experts are called otherwise, the router may all the same be called as everywhere else.
            let same = name.replace(".block_sparse_moe.gate.", ".mlp.gate.");
            let found = file.get(&same).unwrap_or_else(|| panic!("{family}: {same}"));
            assert_eq!(found.shape, folder.get(name).unwrap().shape, "{family}: {name}");
            let (wanted, read) = (folder.read(name).unwrap(), file.read(&same).unwrap());
            assert_eq!(read.data(), wanted.data(), "{family}: {name}");
            let mut row = vec![0.0; wanted.data().len() / found.shape[0]];
            file.read_row(&same, 1.min(found.shape[0] - 1), &mut row).unwrap();
            assert_eq!(
                row,
                wanted.data()[row.len() * 1.min(found.shape[0] - 1)..][..row.len()],
                "{family}: {name}"
            );
        }
        assert_eq!(file.names().count(), folder.names().count(), "{family}");
        assert_eq!(file.numbers(), folder.numbers() + if family == "llama" { 4 } else { 0 }, "{family}");
    }
}

/// Families spell the number of experts in two ways, and transformers reads both.
fn other_spelling(key: &str) -> &str {
    if key == "num_experts" { "num_local_experts" } else { key }
}

#[test]
fn keys_are_those_of_the_folder() {
    for family in FAMILIES {
        let (folder, _) = open_checkpoint(&fixture(family)).unwrap();
        let (file, _) = open_checkpoint(&fixture(&format!("{family}.gguf"))).unwrap();
        let compared = [
            "model_type",
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "max_position_embeddings",
            "rms_norm_eps",
            "tie_word_embeddings",
            "num_experts",
            "num_experts_per_tok",
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "norm_topk_prob",
            "sliding_window",
            "intermediate_size",
            "decoder_sparse_step",
            "mlp_only_layers",
            "attention_bias",
        ];
        for key in compared {
            // A folder writes down what has no effect, and a GGUF file does not.
            let on = |value: &&Value| **value != json!(false) && **value != json!(0);
            let of =
                |keys: &Configuration| keys.get(key).or(keys.get(other_spelling(key))).filter(on).cloned();
            assert_eq!(of(&file), of(&folder), "{family}: {key}");
        }
        let theta = folder.get("rope_parameters").unwrap()["rope_theta"].as_f64();
        assert_eq!(file.number_if("rope_theta").unwrap(), theta, "{family}");
        let scaling = file.get("rope_scaling").cloned().unwrap_or(json!({}));
        for (key, value) in scaling.as_object().unwrap() {
            let wanted = &folder.get("rope_parameters").unwrap()[key];
            assert!(value == wanted || value.as_f64() == wanted.as_f64(), "{family}: {key} {value} {wanted}");
        }
        assert_eq!(
            scaling.is_object() && scaling["rope_type"].is_string(),
            ["llama", "gpt_oss"].contains(&family)
        );
    }
}

#[test]
fn a_model_is_the_same_whichever_way_it_was_stored() {
    let mut opened = 0;
    for family in FAMILIES {
        let Ok(reading) = families::read(&open_checkpoint(&fixture(family)).unwrap().0) else { continue };
        let (folder, file) = (fixture(family), fixture(&format!("{family}.gguf")));
        let (wanted, found) = (Model::open(&folder).unwrap(), Model::open(&file).unwrap());
        assert_eq!(found.description(), &reading.description, "{family}");
        assert_eq!(found.parameters(), wanted.parameters(), "{family}");
        assert_eq!(found.hash(), wanted.hash(), "{family}");
        opened += 1;
    }
    assert_eq!(opened, FAMILIES.len());
}

#[test]
fn experts_may_stand_each_for_itself() {
    let files = ["mixtral.gguf", "mixtral_by_expert.gguf"].map(|name| Model::open(&fixture(name)).unwrap());
    assert_eq!(files[0].description(), files[1].description());
    assert_eq!(files[0].parameters(), files[1].parameters());
}

#[test]
fn the_factor_of_scores_is_multiplied_with_that_of_yarn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let bytes = std::fs::read(fixture("gpt_oss.gguf")).unwrap();
    // Two pairs are put before the key of the factor: a number, f32, and a flag that fills 64 bytes up, since tensors begin at
    // multiples of 32.
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let key = text("gpt-oss.rope.scaling.factor");
    let at = bytes.windows(key.len()).position(|part| part == key).unwrap();
    let number =
        [text("gpt-oss.rope.scaling.attn_factor"), vec![6, 0, 0, 0], 2_f32.to_le_bytes().to_vec()].concat();
    let flag = [text("pad"), vec![7, 0, 0, 0, 1]].concat();
    assert_eq!(number.len() + flag.len(), 64);
    let mut changed = [&bytes[..at], &number, &flag, &bytes[at..]].concat();
    let count = u64::from_le_bytes(changed[16..24].try_into().unwrap()) + 2;
    changed[16..24].copy_from_slice(&count.to_le_bytes());
    std::fs::write(&path, changed).unwrap();
    let (keys, _) = open_checkpoint(&path).unwrap();
    let found = keys.get("rope_scaling").unwrap()["attention_factor"].as_f64().unwrap();
    assert!((found - 2.0 * (1.0 + 0.1 * 32_f64.ln())).abs() < 1e-12, "{found}");
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let refused = |from: &str, to: &str, part: &str| {
        assert_eq!(from.len(), to.len());
        let mut bytes = std::fs::read(fixture("llama.gguf")).unwrap();
        let places: Vec<usize> =
            (0..bytes.len()).filter(|at| bytes[*at..].starts_with(from.as_bytes())).collect();
        assert!(!places.is_empty());
        places.iter().for_each(|at| bytes[*at..at + to.len()].copy_from_slice(to.as_bytes()));
        std::fs::write(&path, bytes).unwrap();
        let error = Model::open(&path).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("a.gguf"), "{error}");
    };
    refused("llama", "lemma", "`lemma`, which is not supported; supported are llama, qwen2");
    refused("llama.rope.freq_base", "llama.rope.freq_bass", "`llama.rope.freq_bass` is 500000");
    refused("llama.block_count", "other.block_count", "`llama.block_count` is absent");
}
