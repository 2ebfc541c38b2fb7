//! From a model to a folder.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

use moescope_host::{make_folder, replace, write_tensors};
use safetensors::tensor::{Dtype, View};

use super::selection_bias_name;
use crate::ModelError;
use crate::families::{self, ExpertNames};
use crate::model::Model;

impl Model {
    /// Writes a Hugging Face folder: `model.safetensors`, then `config.json`, each under another name first.
    ///
    /// The family is `qwen3` or `qwen3_moe` where these can express the model, so that transformers opens it, else `moescope`. The
    /// folder is made if it is missing; what else lies there stays.
    ///
    /// # Errors
    /// [`ModelError::Host`] when something cannot be written, [`ModelError::Streamed`] where weights are not in memory.
    pub fn save(&self, folder: &Path) -> Result<(), ModelError> {
        if self.is_streamed() {
            return Err(ModelError::Streamed { what: "a copy on disk" });
        }
        make_folder(folder)?;
        let (family, configuration) = families::write(self);
        let tensors = self.named_slices(&family.experts);
        write_tensors(&folder.join("model.safetensors"), tensors, Some(("format", "pt")))?;
        let text =
            serde_json::to_string_pretty(&configuration).expect("a map of plain values is JSON") + "\n";
        Ok(replace(&folder.join("config.json"), |file| file.write_all(text.as_bytes()))?)
    }

    /// A hash of everything that decides the results: description, names and weights; hexadecimal BLAKE3.
    ///
    /// # Panics
    /// For a [streamed](Model::is_streamed) model, whose weights are not in memory.
    pub fn hash(&self) -> String {
        assert!(!self.is_streamed(), "a hash of all weights needs them in memory");
        let mut hasher = blake3::Hasher::new();
        let (family, configuration) = families::write(self);
        hasher
            .update(serde_json::to_string(&configuration).expect("a map of plain values is JSON").as_bytes());
        for (name, slice) in self.named_slices(&family.experts) {
            hasher.update(name.as_bytes());
            hasher.update(bytemuck::cast_slice(slice.numbers));
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Every tensor as it stands in the file: one for each expert.
    fn named_slices(&self, names: &ExpertNames) -> Vec<(String, Slice<'_>)> {
        let mut slices = Vec::new();
        for parameter in self.parameters() {
            let tensor = &parameter.tensor;
            let Some((prefix, leaf)) = parameter.name.split_once(".mlp.experts.") else {
                let shape = tensor.shape().to_vec();
                slices.push((parameter.name.clone(), Slice { shape, numbers: tensor.data() }));
                continue;
            };
            let (leaf, kind) = leaf.strip_suffix("_bias").map_or((leaf, "weight"), |leaf| (leaf, "bias"));
            let leaf = match leaf {
                "gate_proj" => names.gate,
                "up_proj" => names.up,
                _ => names.down,
            };
            let shape = tensor.shape()[1..].to_vec();
            let size = shape.iter().product();
            for (expert, numbers) in tensor.data().chunks_exact(size).enumerate() {
                let name = format!("{prefix}.{}.experts.{expert}.{leaf}.{kind}", names.module);
                slices.push((name, Slice { shape: shape.clone(), numbers }));
            }
        }
        for layer in 0..self.description().layers() {
            if let Some(numbers) = self.selection_bias(layer) {
                slices.push((selection_bias_name(layer), Slice { shape: vec![numbers.len()], numbers }));
            }
        }
        slices
    }
}

/// Part of a tensor, as the writer wants it.
struct Slice<'a> {
    shape: Vec<usize>,
    numbers: &'a [f32],
}

impl View for Slice<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(bytemuck::cast_slice(self.numbers))
    }

    fn data_len(&self) -> usize {
        size_of_val(self.numbers)
    }
}
