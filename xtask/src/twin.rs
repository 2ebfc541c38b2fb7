//! `twin FOLDER LAYERS WIDTH HIDDEN EXPERTS CHOSEN`: a checkpoint of the size and shape of a real one, to measure memory and speed with.
//!
//! A Mixtral folder in bf16 of arbitrary numbers, with a tokenizer and with text to run it on in `FOLDER/text`. Every byte is written, so
//! reading it costs what reading a real one costs; routers differ from layer to layer, so tokens spread over the experts.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use moescope_corpus::{Corpus, Tokenizer};
use serde_json::{Map, json};

/// Entries of the vocabulary, as Mixtral has; the tokenizer uses the first of them.
const VOCABULARY: usize = 32_000;
/// Coordinates of a head.
const HEAD: usize = 128;
/// Numbers that are repeated through the file: a prime, so that no two matrices begin at the same one.
const NUMBERS: usize = 1_048_573;

/// Sizes of a twin.
struct Sizes {
    layers: usize,
    width: usize,
    hidden: usize,
    experts: usize,
    chosen: usize,
}

/// A tensor to be written.
struct Tensor {
    name: String,
    shape: Vec<usize>,
}

/// Writes the folder.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [folder, sizes @ ..] = arguments else {
        anyhow::bail!("wanted: twin FOLDER LAYERS WIDTH HIDDEN EXPERTS CHOSEN, such as 4 4096 14336 8 2");
    };
    let sizes: Vec<usize> =
        sizes.iter().map(|size| size.parse()).collect::<Result<_, _>>().context("sizes are numbers")?;
    let [layers, width, hidden, experts, chosen] = sizes[..] else {
        anyhow::bail!("wanted five sizes, found {}", sizes.len())
    };
    ensure!(width.is_multiple_of(4 * HEAD), "WIDTH is {width}, wanted a multiple of {}", 4 * HEAD);
    ensure!((1..=experts).contains(&chosen), "CHOSEN is {chosen}, wanted 1 to {experts}");
    let (folder, sizes) = (Path::new(folder), Sizes { layers, width, hidden, experts, chosen });
    fs::create_dir_all(folder)?;
    write_configuration(folder, &sizes)?;
    write_text(folder)?;
    write_weights(folder, &tensors(&sizes))
}

fn write_configuration(folder: &Path, sizes: &Sizes) -> Result<()> {
    let heads = sizes.width / HEAD;
    let configuration = json!({
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "hidden_act": "silu",
        "hidden_size": sizes.width,
        "intermediate_size": sizes.hidden,
        "max_position_embeddings": 32_768,
        "num_attention_heads": heads,
        "num_key_value_heads": heads / 4,
        "num_hidden_layers": sizes.layers,
        "num_local_experts": sizes.experts,
        "num_experts_per_tok": sizes.chosen,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1_000_000.0,
        "sliding_window": null,
        "tie_word_embeddings": false,
        "vocab_size": VOCABULARY,
    });
    Ok(fs::write(folder.join("config.json"), serde_json::to_string_pretty(&configuration)?)?)
}

/// A tokenizer of the shipped corpus, and that corpus as one file for each domain.
fn write_text(folder: &Path) -> Result<()> {
    let corpus = Corpus::embedded()?;
    let documents = || corpus.domains().iter().flat_map(|domain| &domain.documents);
    let tokenizer = Tokenizer::train(documents().map(|document| document.text.as_str()), 2048)?;
    tokenizer.save(&folder.join("tokenizer.json"))?;
    for domain in corpus.domains() {
        let place = folder.join("text").join(&domain.name);
        fs::create_dir_all(&place)?;
        for (number, document) in domain.documents.iter().enumerate() {
            fs::write(place.join(format!("{number:05}.txt")), &document.text)?;
        }
    }
    Ok(())
}

/// All tensors of such a model under their Hugging Face names.
fn tensors(sizes: &Sizes) -> Vec<Tensor> {
    let (d, f, shared) = (sizes.width, sizes.hidden, sizes.width / 4);
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[usize]| all.push(Tensor { name, shape: shape.to_vec() });
    add("model.embed_tokens.weight".into(), &[VOCABULARY, d]);
    for layer in 0..sizes.layers {
        let block = format!("model.layers.{layer}");
        for (leaf, outputs) in [("q", d), ("k", shared), ("v", shared), ("o", d)] {
            add(format!("{block}.self_attn.{leaf}_proj.weight"), &[outputs, d]);
        }
        for norm in ["input", "post_attention"] {
            add(format!("{block}.{norm}_layernorm.weight"), &[d]);
        }
        add(format!("{block}.block_sparse_moe.gate.weight"), &[sizes.experts, d]);
        for expert in 0..sizes.experts {
            let expert = format!("{block}.block_sparse_moe.experts.{expert}");
            for (leaf, shape) in [("w1", [f, d]), ("w2", [d, f]), ("w3", [f, d])] {
                add(format!("{expert}.{leaf}.weight"), &shape);
            }
        }
    }
    add("model.norm.weight".into(), &[d]);
    add("lm_head.weight".into(), &[VOCABULARY, d]);
    all
}

/// Header and numbers; norms are ones, all else is drawn.
fn write_weights(folder: &Path, tensors: &[Tensor]) -> Result<()> {
    let mut header = Map::new();
    let mut end = 0;
    for tensor in tensors {
        let bytes = 2 * tensor.shape.iter().product::<usize>();
        let offsets = [end, end + bytes];
        header.insert(
            tensor.name.clone(),
            json!({"dtype": "BF16", "shape": tensor.shape, "data_offsets": offsets}),
        );
        end += bytes;
    }
    let mut header = serde_json::to_string(&header)?;
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let drawn = drawn();
    let mut file = BufWriter::with_capacity(1 << 20, File::create(folder.join("model.safetensors"))?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut at = 0;
    for tensor in tensors {
        let mut left = 2 * tensor.shape.iter().product::<usize>();
        if tensor.name.ends_with("norm.weight") {
            file.write_all(&0x3f80_u16.to_le_bytes().repeat(left / 2))?;
            continue;
        }
        while left > 0 {
            let piece = left.min(drawn.len() - at);
            file.write_all(&drawn[at..at + piece])?;
            (at, left) = ((at + piece) % drawn.len(), left - piece);
        }
    }
    Ok(file.flush()?)
}

/// Numbers between -0.03 and 0.03 as bf16, by a linear congruential generator.
fn drawn() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5) * 0.06
    };
    (0..NUMBERS).flat_map(|_| ((next().to_bits() >> 16) as u16).to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_as_long_as_its_header_says() {
        let folder = tempfile::tempdir().unwrap();
        let sizes = Sizes { layers: 1, width: 512, hidden: 24, experts: 3, chosen: 2 };
        let tensors = tensors(&sizes);
        write_weights(folder.path(), &tensors).unwrap();
        let bytes = fs::read(folder.path().join("model.safetensors")).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let numbers: usize = tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        assert_eq!(bytes.len(), 8 + length + 2 * numbers);
        assert_eq!(header["lm_head.weight"]["data_offsets"][1], 2 * numbers);
        // A norm of ones.
        let from = header["model.norm.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
        assert_eq!(bytes[8 + length + from..][..2], [0x80, 0x3f]);
    }
}
