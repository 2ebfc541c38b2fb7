//! Our arithmetic against that of transformers, on the reference checkpoints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use moescope_base::{
    Edit, HookPoint, Observation, Request, Site, Subject, TokenSelection, Tokens, ValueEdit,
};
use moescope_engine::{IGNORE, Mode, ParameterId, Tape};
use safetensors::SafeTensors;

use crate::families;
use crate::folder::Configuration;
use crate::model::Model;
use crate::pass::Pass;
use crate::subject::ModelSubject;

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// Expected values by name; indices become floats.
pub(crate) struct Reference {
    values: BTreeMap<String, Vec<f32>>,
    pub(crate) tokens: Tokens,
}

impl Reference {
    pub(crate) fn read(path: &Path) -> Reference {
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut values = BTreeMap::new();
        let mut tokens = None;
        for (name, view) in file.tensors() {
            let data = view.data();
            let integers = || data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()));
            if name == "input_ids" {
                let ids = integers().map(|id| id as u32).collect();
                tokens = Some(Tokens::new(ids, view.shape()[0], view.shape()[1]).unwrap());
            }
            let numbers = match view.dtype() {
                safetensors::Dtype::I64 => integers().map(|x| x as f32).collect(),
                _ => data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            };
            values.insert(name, numbers);
        }
        Reference { values, tokens: tokens.unwrap() }
    }

    /// Compares within 2e-5 absolute or 1e-4 relative; counts what the reference holds.
    pub(crate) fn compare(&self, name: &str, found: &[f32]) -> usize {
        let Some(wanted) = self.values.get(name) else { return 0 };
        assert_eq!(found.len(), wanted.len(), "{name}");
        for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
            let error = (found - wanted).abs();
            assert!(error <= 2e-5 || error <= 1e-4 * wanted.abs(), "{name}[{index}]: {found} and {wanted}");
        }
        1
    }
}

fn real(seen: &Observation, point: HookPoint) -> Vec<f32> {
    seen.values[&point].real().unwrap().to_vec()
}

/// Compares everything that the reference holds, and returns how many tensors that were.
fn compare_all(folder: &Path, reference: &Path) -> usize {
    let model = Model::open(folder).unwrap();
    let reference = Reference::read(reference);
    let layers = model.description().layers();
    let (routed, all) = (
        model.description().subject_shape().routed_layers(),
        model.description().subject_shape().hook_points(),
    );
    let mut subject = ModelSubject::new(model);
    let block = HookPoint::block;
    let hidden = |index: usize| match index {
        0 => block(Site::ResidPre, 0),
        later => block(Site::ResidPost, later - 1),
    };
    let gradients: Vec<HookPoint> = (0..=layers).map(hidden).collect();
    let request = Request { record: &all, gradients: &gradients, ..Request::of(&reference.tokens) };
    let seen = subject.run(&request).unwrap();

    let mut compared = reference.compare("logits", &real(&seen, HookPoint::global(Site::Logits)));
    compared += reference.compare("loss_per_token", &seen.loss);
    compared += reference.compare("hidden.final", &real(&seen, HookPoint::global(Site::FinalNormalized)));
    for index in 0..=layers {
        compared += reference.compare(&format!("hidden.{index}"), &real(&seen, hidden(index)));
        let sum = seen.gradients[&hidden(index)].real().unwrap();
        let mean: Vec<f32> = sum.iter().map(|g| g / seen.loss.len() as f32).collect();
        compared += reference.compare(&format!("grad.hidden.{index}"), &mean);
    }
    for layer in 0..layers {
        compared +=
            reference.compare(&format!("attn.{layer}"), &real(&seen, block(Site::AttnPattern, layer)));
    }
    for layer in routed {
        let indices = seen.values[&block(Site::RouterIndices, layer)].integer().unwrap();
        let indices: Vec<f32> = indices.iter().map(|e| *e as f32).collect();
        let named = |what: &str| format!("router.{layer}.{what}");
        if let Some(wanted) = reference.values.get(&named("topk_idx")) {
            assert_eq!(&indices, wanted, "{}", named("topk_idx"));
            compared += 1;
        }
        compared += reference.compare(&named("logits"), &real(&seen, block(Site::RouterLogits, layer)));
        compared += reference.compare(&named("mlp.logits"), &real(&seen, block(Site::RouterLogits, layer)));
        if let Some(logits) = seen.values.get(&block(Site::AttnRouterLogits, layer)) {
            compared += reference.compare(&named("attn.logits"), logits.real().unwrap());
        }
        compared += reference.compare(&named("topk_weight"), &real(&seen, block(Site::RouterWeights, layer)));
    }
    compared
}

/// Compares the gradients of norms, biases and routers, as far as each is a tensor of its own in the reference.
fn compare_parameter_gradients(folder: &Path, reference: &Path) -> usize {
    let model = Model::open(folder).unwrap();
    let names = &families::read(&Configuration::read(folder).unwrap()).unwrap().family.names;
    let reference = Reference::read(reference);
    let mut tape = Tape::new(Mode::Gradient);
    let forward = model.forward(&mut tape, &reference.tokens, &mut Pass::plain()).unwrap();
    let loss = tape.cross_entropy(forward.logits, &reference.tokens.next_ids(IGNORE)).unwrap();
    let gradients = tape.backward(loss).unwrap();
    let compare = |(place, parameter): (usize, &crate::Parameter)| {
        let found = gradients.parameter(ParameterId(place)).unwrap();
        let candidates = names.candidates(&parameter.name).into_iter();
        let theirs = candidates
            .filter(|(_, cut)| cut.is_whole(model.description()))
            .map(|(name, _)| format!("pgrad.{name}"));
        let named = theirs.into_iter().find(|name| reference.values.contains_key(name));
        named.map_or(0, |name| reference.compare(&name, found.data()))
    };
    model.parameters().iter().enumerate().map(compare).sum()
}

/// Compares a pass in which one expert writes nothing.
fn compare_ablation(folder: &Path, reference: &Path) -> usize {
    let meta = std::fs::read_to_string(folder.join("meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    let number = |key: &str| meta["ablate"][key].as_u64().unwrap() as usize;
    let reference = Reference::read(reference);
    let at = HookPoint::expert(Site::ExpertOut, number("layer"), number("expert"));
    let edits = [Edit::Value { at, tokens: TokenSelection::All, change: ValueEdit::Zero }];
    let logits = HookPoint::global(Site::Logits);
    let request = Request { record: &[logits], edits: &edits, ..Request::of(&reference.tokens) };
    let seen = ModelSubject::new(Model::open(folder).unwrap()).run(&request).unwrap();
    reference.compare("ablate.logits", &real(&seen, logits))
        + reference.compare("ablate.loss_per_token", &seen.loss)
}

fn reference_of(folder: &Path) -> PathBuf {
    folder.join("reference.safetensors")
}

#[test]
fn qwen3_moe_agrees_with_transformers() {
    let folder = fixture("checkpoints/qwen3_moe");
    // Logits, loss, five residual streams and four gradients, two patterns, three values of three routers.
    assert_eq!(compare_all(&folder, &reference_of(&folder)), 2 + 5 + 4 + 2 + 9);
    assert_eq!(compare_ablation(&folder, &reference_of(&folder)), 2);
    // Four norms and a router in each of three layers, and the last norm.
    assert_eq!(compare_parameter_gradients(&folder, &reference_of(&folder)), 3 * 5 + 1);
}

#[test]
fn the_older_spelling_of_the_configuration_gives_the_same_model() {
    let fixture = fixture("checkpoints/qwen3_moe");
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture.join("config.v4.json"), folder.path().join("config.json")).unwrap();
    std::fs::copy(fixture.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let (old, new) = (Model::open(folder.path()).unwrap(), Model::open(&fixture).unwrap());
    assert_eq!(old.description(), new.description());
    assert_eq!(old.parameters(), new.parameters());
}

#[test]
fn llama_agrees_with_transformers_and_mistral_with_llama() {
    let folder = fixture("checkpoints/llama");
    assert_eq!(compare_all(&folder, &reference_of(&folder)), 2 + 5 + 4 + 2);
    assert_eq!(compare_parameter_gradients(&folder, &reference_of(&folder)), 3 * 2 + 1);
    let mistral = tempfile::tempdir().unwrap();
    let configuration = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let configuration = configuration.replace("\"llama\"", "\"mistral\"");
    std::fs::write(mistral.path().join("config.json"), configuration).unwrap();
    std::fs::copy(folder.join("model.safetensors"), mistral.path().join("model.safetensors")).unwrap();
    assert_eq!(compare_all(mistral.path(), &reference_of(&folder)), 13);
}

#[test]
fn mixtral_in_bf16_shards_agrees_with_transformers() {
    let folder = fixture("checkpoints/mixtral__bf16_sharded");
    assert_eq!(compare_all(&folder, &reference_of(&folder)), 2 + 5 + 9);
}

#[test]
fn olmoe_in_the_fused_layout_agrees_with_transformers() {
    let folder = fixture("checkpoints/olmoe__fused");
    assert_eq!(compare_all(&folder, &reference_of(&folder)), 2 + 5 + 4 + 2 + 9);
    assert_eq!(compare_ablation(&folder, &reference_of(&folder)), 2);
    assert_eq!(compare_parameter_gradients(&folder, &reference_of(&folder)), 3 * 5 + 1);
    let seen = crate::inspect(&folder).unwrap();
    assert_eq!((seen.experts, seen.experts_per_token, seen.sparse_layers), (16, 4, vec![0, 1, 2]));
    // Twelve of sixteen experts of three matrices, 24 by 64, rest in each of three layers.
    assert_eq!(seen.params_total - seen.params_active, 3 * 12 * 3 * 24 * 64);
}

/// All of a folder: values, gradients of parameters and the ablation, where there are experts; how many tensors each.
///
/// A model of two layers has two results, four residual streams, three gradients of them and two patterns; each routed layer has three
/// values more.
fn compare_folder(name: &str) -> [usize; 3] {
    let folder = fixture(&format!("checkpoints/{name}"));
    let reference = reference_of(&folder);
    let routed = !crate::inspect(&folder).unwrap().sparse_layers.is_empty();
    let ablated = if routed { compare_ablation(&folder, &reference) } else { 0 };
    [compare_all(&folder, &reference), compare_parameter_gradients(&folder, &reference), ablated]
}

#[test]
fn qwen2_with_windows_and_yarn_agrees_with_transformers() {
    assert_eq!(compare_folder("qwen2"), [11, 11, 0]);
}

#[test]
fn qwen2_moe_with_a_shared_expert_agrees_with_transformers() {
    assert_eq!(compare_folder("qwen2_moe"), [19, 18, 2]);
}

#[test]
fn mistral_with_windows_and_scaled_turns_agrees_with_transformers() {
    assert_eq!(compare_folder("mistral"), [11, 5, 0]);
}

#[test]
fn olmo2_agrees_with_transformers() {
    assert_eq!(compare_folder("olmo2"), [11, 9, 0]);
}

#[test]
fn deepseek_v2_agrees_with_transformers_in_both_ways_to_choose() {
    assert_eq!(compare_folder("deepseek_v2"), [19, 15, 2]);
    assert_eq!(compare_folder("deepseek_v2_greedy"), [17, 9, 2]);
}

#[test]
fn deepseek_v3_agrees_with_transformers() {
    assert_eq!(compare_folder("deepseek_v3"), [19, 15, 2]);
}

#[test]
fn gpt_oss_agrees_with_transformers() {
    assert_eq!(compare_folder("gpt_oss"), [17, 19, 2]);
    // The same with experts in blocks of four bits, as the family is published.
    assert_eq!(compare_folder("gpt_oss_mxfp4"), [17, 19, 2]);
}

#[test]
fn granitemoe_agrees_with_transformers() {
    assert_eq!(compare_folder("granitemoe"), [17, 7, 2]);
}

#[test]
fn phimoe_agrees_with_transformers() {
    assert_eq!(compare_folder("phimoe"), [17, 21, 2]);
}

#[test]
fn jetmoe_agrees_with_transformers() {
    let folder = fixture("checkpoints/jetmoe");
    // Of its two routers in each layer the reference holds the logits.
    assert_eq!(compare_all(&folder, &reference_of(&folder)), 11 + 4);
    assert_eq!(compare_parameter_gradients(&folder, &reference_of(&folder)), 13);
}

#[test]
fn gemma2_agrees_with_transformers() {
    assert_eq!(compare_folder("gemma2"), [11, 9, 0]);
}

#[test]
fn gpt2_agrees_with_transformers() {
    assert_eq!(compare_folder("gpt2"), [11, 16, 0]);
}

#[test]
fn gpt_neox_agrees_with_transformers() {
    assert_eq!(compare_folder("gpt_neox"), [11, 16, 0]);
}

#[test]
fn mixtral_without_the_base_of_its_names_agrees_with_transformers() {
    // Three of five experts, one key head, a turn that depends on the length, in the older spelling.
    assert_eq!(compare_folder("mixtral_bare"), [17, 7, 2]);
}

#[test]
fn qwen2_moe_with_layers_of_many_kinds_agrees_with_transformers() {
    // Every second layer is routed, two have windows; no biases, and YaRN with a magnitude of its own.
    assert_eq!(compare_folder("qwen2_moe_windows"), [16, 8, 2]);
}

#[test]
fn qwen3_with_biases_and_late_windows_agrees_with_transformers() {
    assert_eq!(compare_folder("qwen3"), [11, 17, 0]);
}

#[test]
fn phimoe_beyond_its_original_length_agrees_with_the_published_code() {
    assert_eq!(compare_folder("phimoe_longrope"), [17, 12, 2]);
}

#[test]
fn gpt_neox_with_one_half_after_the_other_agrees_with_transformers() {
    // Three of eight coordinates turn, so one pair is half at rest; one table for both ends, and no biases in attention.
    assert_eq!(compare_folder("gpt_neox_serial"), [11, 14, 0]);
}

#[test]
fn transformers_computed_the_same_from_the_folders_that_we_write() {
    for name in ["dense", "moe", "mixed", "frozen"] {
        let folder = fixture("transformers_opens").join(name);
        assert_eq!(compare_all(&folder, &folder.join("expected.safetensors")), 2, "{name}");
        // Today's code writes the folder that transformers has opened.
        let again = tempfile::tempdir().unwrap();
        Model::open(&folder).unwrap().save(again.path()).unwrap();
        for file in ["config.json", "model.safetensors"] {
            let bytes = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
            assert_eq!(bytes(again.path()), bytes(&folder), "{name}/{file}");
        }
    }
}
