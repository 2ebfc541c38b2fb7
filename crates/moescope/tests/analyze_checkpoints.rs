//! The whole case of instruments on checkpoints of other people's making: folders of several families, and a GGUF file.

#![allow(clippy::unwrap_used)] // a test that cannot go on may panic

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::{Value, json};

/// The fixtures, each with the number of its tokens.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// Words `a`, `b`, … of one letter each, so that one vocabulary serves words and bytes.
fn letter(number: usize) -> char {
    char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[number % 52])
}

/// Two domains of twenty documents, whose words are drawn by a rule that nobody would guess; one of them likes the first letters more.
fn write_text(folder: &Path) {
    for (domain, power) in [("one", 3), ("two", 5)] {
        let place = folder.join(domain);
        fs::create_dir_all(&place).unwrap();
        for document in 0..20_usize {
            let mut text = String::new();
            for word in 0..48_usize {
                let drawn = (document * 31 + word * word * power + word * 7) % 97 % (8 * power);
                write!(text, "{} ", letter(drawn)).unwrap();
            }
            fs::write(place.join(format!("{document}.txt")), text).unwrap();
        }
    }
}

/// A copy of a Hugging Face folder with a tokenizer of one token for each letter.
fn with_words(name: &str, folder: &Path) -> PathBuf {
    let place = folder.join(name);
    fs::create_dir_all(&place).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(fixture("checkpoints").join(name).join(file), place.join(file)).unwrap();
    }
    let vocabulary: BTreeMap<String, usize> =
        (1..46).map(|id| (letter(id - 1).to_string(), id)).chain([("<unk>".to_owned(), 0)]).collect();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    });
    fs::write(place.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    place
}

/// A string as GGUF has it.
fn gguf_text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// The fixture with the vocabulary in its metadata, as files of llama.cpp have it: bytes as letters, a blank as `Ġ`.
fn with_vocabulary(name: &str, folder: &Path) -> PathBuf {
    let (kind_text, kind_list): (u32, u32) = (8, 9);
    let (header_length, alignment) = (24, 32);
    let whole = fs::read(fixture("gguf").join(name)).unwrap();
    let tokens: Vec<String> =
        std::iter::once("Ġ".to_owned()).chain((1..48).map(|id| letter(id - 1).to_string())).collect();
    let text = |key: &str, value: &str| {
        [gguf_text(key), kind_text.to_le_bytes().to_vec(), gguf_text(value)].concat()
    };
    let list = |key: &str, values: &[String]| {
        let kinds = [kind_list.to_le_bytes(), kind_text.to_le_bytes()].concat();
        let count = (values.len() as u64).to_le_bytes().to_vec();
        let values = values.iter().flat_map(|value| gguf_text(value)).collect();
        [gguf_text(key), kinds, count, values].concat()
    };
    let mut added = [
        text("tokenizer.ggml.model", "gpt2"),
        text("tokenizer.ggml.pre", "gpt-2"),
        list("tokenizer.ggml.tokens", &tokens),
        list("tokenizer.ggml.merges", &[]),
    ]
    .concat();
    // What was aligned stays aligned: an entry of blanks fills up.
    let bare = text("filler", "").len();
    let filler = (alignment - (added.len() + bare) % alignment) % alignment;
    added.extend(text("filler", &" ".repeat(filler)));
    let (header, rest) = whole.split_at(header_length);
    let entries = u64::from_le_bytes(header[16..].try_into().unwrap()) + 5;
    let path = folder.join(name);
    fs::write(&path, [&header[..16], &entries.to_le_bytes(), &added, rest].concat()).unwrap();
    path
}

/// What instruments find, and why some were left out.
fn analysed(names: &str, model: &Path, folder: &Path) -> (Value, BTreeMap<String, String>) {
    let out = folder.join(format!("out-{}", model.file_name().unwrap().to_str().unwrap()));
    let text = folder.join("text");
    let output = Command::cargo_bin("moescope")
        .unwrap()
        .args(["--no-progress", "--json", "analyze", names])
        .args([model.as_os_str(), "--text".as_ref(), text.as_os_str(), "--out".as_ref(), out.as_os_str()])
        .args(["--positions", "24", "--permutations", "9"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let left_out = told["instruments"].as_array().unwrap().iter().filter_map(|instrument| {
        let reason = instrument.get("left_out")?.as_str()?.to_owned();
        Some((instrument["about"]["name"].as_str().unwrap().to_owned(), reason))
    });
    let left_out = left_out.collect();
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("</html>"));
    (told, left_out)
}

#[test]
fn all_instruments_go_through_a_gguf_file() {
    let folder = tempfile::tempdir().unwrap();
    write_text(&folder.path().join("text"));
    let model = with_vocabulary("qwen3_moe.gguf", folder.path());
    let (told, left_out) = analysed("all", &model, folder.path());
    assert!(left_out.is_empty(), "{left_out:?}");
    assert!(told["instruments"].as_array().unwrap().len() >= 38);
}

#[test]
fn instruments_of_every_group_go_through_a_routed_checkpoint_of_another_family() {
    let folder = tempfile::tempdir().unwrap();
    write_text(&folder.path().join("text"));
    // Sigmoid scores in groups with a bias, a shared expert, a dense first layer, compressed attention.
    let model = with_words("deepseek_v3", folder.path());
    let names = "routing,specialisation,expert-profile,router-geometry,expert-weights,paths,path-profile,neuron-profile,\
                 expert-representation,logit-lens,logit-attribution,ablation,expert-importance,route-patch,path-patch,\
                 causal-trace,quantised-experts,prefill-decode";
    let (told, left_out) = analysed(names, &model, folder.path());
    assert!(left_out.is_empty(), "{left_out:?}");
    assert_eq!(told["instruments"].as_array().unwrap().len(), names.split(',').count());
}

#[test]
fn a_dense_checkpoint_of_another_family_leaves_out_what_needs_routes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    write_text(&folder.path().join("text"));
    let (told, left_out) = analysed("all", &with_words("gpt2", folder.path()), folder.path());
    assert!(left_out.values().all(|reason| reason.contains("the model is dense")), "{left_out:?}");
    assert!(told["instruments"].as_array().unwrap().len() > left_out.len() + 10);
}
