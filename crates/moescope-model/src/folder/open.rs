//! From a folder to a model.

use std::path::Path;

use super::gather::gather;
use super::sources::{Source, sources};
use super::tensors::Tensors;
use super::{open_checkpoint, selection_bias_name};
use crate::ModelError;
use crate::families;
use crate::model::Model;
use crate::parameters::{Layout, Role, Specification};

impl Model {
    /// Opens a Hugging Face folder, `config.json` with `model.safetensors` or shards with their index; or a `.gguf` file.
    ///
    /// Weights of every format that `moescope-weights` reads become `f32`. Both layouts of experts are read: one tensor for each, and fused.
    /// See [`supported_families`](crate::supported_families) for the values of `model_type` that are understood.
    ///
    /// # Errors
    /// For a file that is missing or broken, a configuration key whose effect we do not reproduce, a missing, superfluous or
    /// misshapen tensor, weights that are not finite, and more weights than this machine can hold.
    pub fn open(path: &Path) -> Result<Model, ModelError> {
        let (configuration, tensors) = open_checkpoint(path)?;
        let reading = families::read(&configuration)?;
        let layout = Layout::new(&reading.description);
        let sources = sources(&tensors, &reading, &layout)?;
        reading.description.require_memory()?;
        let read = |(wanted, source): (&Specification, &Source)| {
            let mut tensor = gather(&tensors, source, &wanted.shape)?;
            if wanted.role == Role::Norm && reading.family.norms_less_one {
                tensor.data_mut().iter_mut().for_each(|scale| *scale += 1.0);
            }
            Ok(wanted.with(tensor))
        };
        let parameters =
            layout.specifications.iter().zip(&sources).map(read).collect::<Result<_, ModelError>>()?;
        let mut model = Model::from_parts(reading.description, layout, parameters)?;
        read_selection_biases(&mut model, &tensors)?;
        Ok(model)
    }
}

/// Sets the biases that the folder has. They are no parameters: no gradient trains them.
fn read_selection_biases(model: &mut Model, tensors: &Tensors) -> Result<(), ModelError> {
    for layer in 0..model.description().layers() {
        let name = selection_bias_name(layer);
        let Some(entry) = tensors.get(&name) else { continue };
        let experts = model.description().feed_forward[layer].routed().map_or(0, |routed| routed.experts);
        if entry.shape != [experts] {
            let found = entry.shape.clone();
            return Err(ModelError::TensorShape { name, found, wanted: vec![experts] });
        }
        model.set_selection_bias(layer, tensors.read(&name)?.into_data());
    }
    Ok(())
}
