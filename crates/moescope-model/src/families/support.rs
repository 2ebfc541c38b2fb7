//! What is read of which family, for people: the table of `docs/families.md` is made from this.
//!
//! Nothing is written twice for it. The keys are those by which a family is exempt from the refusal of known effects, the names of tensors
//! those by which files are searched, and the fixtures those of the tests. Two tests hold the declared keys: reading the fixtures,
//! with each key left out or turned over in turn, asks for exactly these.

use serde::Serialize;

use super::{FAMILIES, Family, effects, gguf};

/// One family of checkpoints.
///
/// It tells which files open, not how well a model does; that a family "agrees" rests on its fixtures, small random models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FamilySupport {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// Class of the reference implementation.
    pub architecture: &'static str,
    /// Whether layers may have experts.
    pub routed: bool,
    /// Keys that are read beside those of every family.
    pub keys: Vec<&'static str>,
    /// What the tensors of experts may be called, below `L.` for block L, E for an expert; empty in a dense family.
    pub experts: Vec<String>,
    /// The same model as a GGUF file: its `general.architecture`, if such files are read.
    pub gguf: Option<&'static str>,
    /// What holds the family against the reference implementation, below `fixtures`.
    pub fixtures: Vec<&'static str>,
}

/// All families that can be read, in the order in which they are listed to the user.
pub fn family_support() -> Vec<FamilySupport> {
    FAMILIES.iter().map(|family| support(family)).collect()
}

/// Keys of `config.json` that are read whatever the family is. Of those on one line each is another spelling of the first.
pub const COMMON_KEYS: [&[&str]; 13] = [
    &["model_type"],
    &["vocab_size"],
    &["hidden_size", "n_embd"],
    &["intermediate_size"],
    &["num_hidden_layers", "n_layer"],
    &["num_attention_heads", "n_head"],
    &["num_key_value_heads"],
    &["head_dim"],
    &["max_position_embeddings", "n_positions"],
    &["rms_norm_eps"],
    &["tie_word_embeddings"],
    &[
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "partial_rotary_factor",
        "rotary_pct",
        "original_max_position_embeddings",
    ],
    &["quantization_config"],
];

/// Keys of known effects that are refused, in a family that does not read them, at any other value than the one that has no effect.
pub fn guarded_keys() -> Vec<&'static str> {
    let mut keys = [&effects::OFF[..], &effects::ONE[..], &effects::ABSENT[..], &["layer_types"]].concat();
    keys.sort_unstable();
    keys
}

fn support(family: &Family) -> FamilySupport {
    FamilySupport {
        model_type: family.model_type,
        architecture: family.architecture,
        routed: family.routed,
        keys: family.reads.to_vec(),
        experts: if family.routed { expert_names(family) } else { Vec::new() },
        gguf: gguf::architecture_of(family.model_type),
        fixtures: family.fixtures.to_vec(),
    }
}

/// The places where a matrix of experts is looked for: names of the family, one tensor for all, one for each.
fn expert_names(family: &Family) -> Vec<String> {
    let own = family
        .names
        .leaves
        .iter()
        .filter(|leaf| leaf.ours.starts_with("mlp.experts.") && !leaf.ours.ends_with("bias"));
    let mut names: Vec<String> = own.map(|leaf| leaf.theirs.to_owned()).collect();
    names.dedup();
    if names.is_empty() {
        let experts = &family.experts;
        let (gate, up, down) = (experts.gate, experts.up, experts.down);
        names.push(format!("{}.experts.E.{{{gate},{up},{down}}}.weight", experts.module));
        names.push("mlp.experts.{gate_up_proj,down_proj}".into());
    }
    names
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Map, Value};

    use super::*;
    use crate::folder::{Configuration, open_checkpoint};
    use crate::parity::fixture;

    /// What the configuration of a fixture leads to, as it stands, without each of its keys, and with each of its flags turned over:
    /// so keys are asked for that another one calls for or stands in for.
    fn asked(place: &str, family: &Family) -> BTreeSet<String> {
        let (whole, _) = open_checkpoint(&fixture(place)).unwrap();
        assert_eq!(whole.text_if("model_type").unwrap(), Some(family.model_type), "{place}");
        let mut asked = BTreeSet::new();
        let mut ask = |keys: Map<String, Value>| {
            let configuration = Configuration::new("config.json".into(), keys);
            let _ = super::super::description(&configuration, family);
            asked.extend(configuration.asked());
        };
        ask(whole.keys().clone());
        for (key, value) in whole.keys() {
            let mut less = whole.keys().clone();
            match value {
                Value::Bool(flag) => drop(less.insert(key.clone(), (!flag).into())),
                _ => drop(less.remove(key)),
            }
            ask(less);
        }
        asked
    }

    #[test]
    fn every_key_that_is_asked_for_is_declared_and_every_declared_key_is_asked_for() {
        let common: BTreeSet<String> = COMMON_KEYS.concat().into_iter().map(String::from).collect();
        for family in FAMILIES.iter().filter(|family| !family.fixtures.is_empty()) {
            let asked: BTreeSet<String> =
                family.fixtures.iter().flat_map(|place| asked(place, family)).collect();
            let declared: BTreeSet<String> = family.reads.iter().map(|key| (*key).to_owned()).collect();
            let open: BTreeSet<_> = asked.difference(&common).cloned().collect();
            assert_eq!(open, declared.difference(&common).cloned().collect(), "{}", family.model_type);
        }
    }

    #[test]
    fn every_reference_checkpoint_is_named_by_its_family() {
        let named: BTreeSet<&str> = FAMILIES.iter().flat_map(|family| family.fixtures).copied().collect();
        for entry in std::fs::read_dir(fixture("checkpoints")).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("checkpoints/{}", path.file_name().unwrap().to_string_lossy());
            assert!(!path.is_dir() || named.contains(name.as_str()), "{name}");
        }
        assert!(named.iter().all(|name| fixture(name).exists()));
    }

    #[test]
    fn families_say_where_experts_are() {
        let all = family_support();
        let of = |name: &str| all.iter().find(|family| family.model_type == name).unwrap();
        assert_eq!(of("mixtral").experts[0], "block_sparse_moe.experts.E.{w1,w3,w2}.weight");
        assert_eq!(of("granitemoe").experts[0], "block_sparse_moe.input_linear.weight");
        assert!(of("llama").experts.is_empty() && of("llama").gguf == Some("llama"));
        assert_eq!((of("mixtral").gguf, of("deepseek_v3").gguf), (Some("llama"), None));
        assert!(guarded_keys().contains(&"clip_qkv") && of("olmoe").keys.contains(&"clip_qkv"));
    }
}
