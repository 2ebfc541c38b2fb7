//! Which tensor of a GGUF file is which of a folder.

use std::collections::BTreeMap;

use moescope_weights::Weights;
use serde_json::{Map, Value};

use super::Architecture;
use crate::folder::{Entry, Stored};

/// Tensors outside the blocks.
const OUTSIDE: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// Modules of a block, before `.weight` or `.bias`.
const MODULES: [(&str, &str); 16] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_inp_shexp", "mlp.shared_expert_gate"),
    ("ffn_gate_shexp", "mlp.shared_expert.gate_proj"),
    ("ffn_up_shexp", "mlp.shared_expert.up_proj"),
    ("ffn_down_shexp", "mlp.shared_expert.down_proj"),
];

/// Every tensor under the name that a folder has for it. A name that is not known stays as it is, so that it is complained of.
pub(super) fn entries(
    architecture: &Architecture,
    configuration: &Map<String, Value>,
    weights: &Weights,
) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    for name in weights.names().filter(|name| *name != "rope_freqs.weight") {
        let known = in_block(name).and_then(|(layer, leaf)| {
            let block =
                Block { architecture, configuration, weights, name, prefix: format!("model.layers.{layer}") };
            block.entries(leaf)
        });
        let outside = OUTSIDE.iter().find(|(stored, _)| *stored == name).map(|(_, own)| (*own).to_owned());
        match known {
            Some(known) => entries.extend(known),
            None => {
                entries.insert(outside.unwrap_or_else(|| name.into()), Entry::whole(weights, name));
            }
        }
    }
    entries
}

/// Number of the block, and what follows it.
fn in_block(name: &str) -> Option<(usize, &str)> {
    let (layer, leaf) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((layer.parse().ok()?, leaf))
}

/// One tensor of a block.
struct Block<'a> {
    architecture: &'a Architecture,
    configuration: &'a Map<String, Value>,
    weights: &'a Weights,
    /// Name in the file.
    name: &'a str,
    /// What stands before the name of a module.
    prefix: String,
}

impl Block<'_> {
    /// What the tensor is in a folder: one tensor, or one for each expert. `None` if the name is not known.
    fn entries(&self, leaf: &str) -> Option<Vec<(String, Entry)>> {
        let (module, kind) = leaf.rsplit_once('.')?;
        if let Some(matrix) = module.strip_prefix("ffn_").and_then(|module| module.strip_suffix("_exps")) {
            return if self.architecture.family == "gpt_oss" {
                self.fused(matrix, kind)
            } else {
                self.one_by_one(matrix, kind)
            };
        }
        if let Some((matrix, expert)) = module.strip_prefix("ffn_").and_then(|module| module.split_once('.'))
        {
            return self.of_expert(matrix, expert.parse().ok()?, kind);
        }
        let own = match module {
            "ffn_gate_inp" if self.architecture.family == "gpt_oss" => "mlp.router",
            "ffn_gate_inp" => "mlp.gate",
            "attn_sinks" => return Some(vec![(format!("{}.self_attn.sinks", self.prefix), self.whole())]),
            _ => MODULES.iter().find(|(stored, _)| *stored == module)?.1,
        };
        let mut entry = self.whole();
        let heads = match module {
            "attn_q" => "num_attention_heads",
            "attn_k" => "num_key_value_heads",
            _ => "",
        };
        if let Some(heads) = self.configuration.get(heads).and_then(Value::as_u64)
            && self.fits_heads(&entry, heads as usize)
        {
            entry.stored = Stored::Pairs { name: self.name.into(), heads: heads as usize };
        }
        if module == "ffn_gate_inp_shexp" && entry.shape.len() == 1 {
            entry.shape.insert(0, 1);
        }
        Some(vec![(format!("{}.{own}.{kind}", self.prefix), entry)])
    }

    fn whole(&self) -> Entry {
        Entry::whole(self.weights, self.name)
    }

    /// Whether rows are pairs of heads. A tensor of another shape is left as it is: its shape will be complained of.
    fn fits_heads(&self, entry: &Entry, heads: usize) -> bool {
        let rows = entry.shape.first().copied().unwrap_or(0);
        self.architecture.pairs && heads > 0 && rows > 0 && rows % (2 * heads) == 0
    }

    /// What a folder calls a matrix of an expert.
    fn expert_name(&self, matrix: &str, expert: usize, kind: &str) -> Option<String> {
        let names = self.architecture.experts;
        let leaf = match matrix {
            "gate" => names.gate,
            "up" => names.up,
            "down" => names.down,
            _ => return None,
        };
        Some(format!("{}.{}.experts.{expert}.{leaf}.{kind}", self.prefix, names.module))
    }

    /// A matrix of one expert, as files of 2023 and early 2024 have them: `blk.L.ffn_gate.E.weight`, `[output, input]`. Its name in a
    /// folder is that of the expert's own matrix, so nothing else needs to know in which of both ways a file was written.
    fn of_expert(&self, matrix: &str, expert: usize, kind: &str) -> Option<Vec<(String, Entry)>> {
        Some(vec![(self.expert_name(matrix, expert, kind)?, self.whole())])
    }

    /// All experts of one matrix, `[expert, output, input]`, as a tensor for each.
    fn one_by_one(&self, matrix: &str, kind: &str) -> Option<Vec<(String, Entry)>> {
        let Entry { shape, .. } = self.whole();
        let [experts, outputs, inputs] = shape[..] else { return None };
        let entry = |expert| {
            let stored = Stored::Row(self.name.into(), expert);
            Some((self.expert_name(matrix, expert, kind)?, Entry { shape: vec![outputs, inputs], stored }))
        };
        (0..experts).map(entry).collect()
    }

    /// All experts of one matrix or bias as a folder of gpt-oss has them: gate and up by turns in one tensor, matrices
    /// `[expert, input, output]`.
    fn fused(&self, matrix: &str, kind: &str) -> Option<Vec<(String, Entry)>> {
        let mut entry = self.whole();
        let (own, stored) = match matrix {
            "down" if kind == "bias" => ("down_proj", entry.stored.clone()),
            "down" => ("down_proj", Stored::Transposed(self.name.into())),
            "gate" => {
                let odd = self.name.replace("ffn_gate_exps", "ffn_up_exps");
                if self.weights.get(&odd).map(|odd| odd.shape()) != Some(entry.shape.as_slice()) {
                    return None;
                }
                entry.shape[1] *= 2;
                ("gate_up_proj", Stored::ByTurns { even: self.name.into(), odd })
            }
            // It is read together with the gates.
            "up" if self.weights.get(&self.name.replace("ffn_up_exps", "ffn_gate_exps")).is_some() => {
                return Some(Vec::new());
            }
            _ => return None,
        };
        entry.stored = stored;
        if let [_, outputs, inputs] = &mut entry.shape[..] {
            std::mem::swap(outputs, inputs);
        }
        let ending = if kind == "bias" { "_bias" } else { "" };
        Some(vec![(format!("{}.mlp.experts.{own}{ending}", self.prefix), entry)])
    }
}
