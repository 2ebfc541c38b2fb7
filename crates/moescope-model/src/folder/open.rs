//! From a folder to a model.

use std::collections::BTreeMap;
use std::path::Path;

use super::sources::sources;
use super::stock::Stock;
use super::tensors::Tensors;
use super::tied::require_one_table;
use super::{read_checkpoint, selection_bias_name};
use crate::ModelError;
use crate::memory_plan::{MemoryPlan, Way, Work};
use crate::model::Model;
use crate::parameters::Layout;

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
        let (reading, tensors) = read_checkpoint(path)?;
        let layout = Layout::new(&reading.description);
        let sources = sources(&tensors, &reading, &layout)?;
        require_one_table(&tensors, &reading, &layout, &sources)?;
        reading.description.require_memory()?;
        let stock = Stock {
            tensors,
            sources,
            norms_less_one: reading.family.norms_less_one,
            room: 0,
            replaced: BTreeMap::new(),
        };
        let specifications = layout.specifications.iter().enumerate();
        let parameters = specifications
            .map(|(place, wanted)| Ok(wanted.with(stock.read(place, wanted)?)))
            .collect::<Result<_, ModelError>>()?;
        let mut model = Model::from_parts(reading.description, layout, parameters)?;
        read_selection_biases(&mut model, &stock.tensors)?;
        Ok(model)
    }

    /// Opens the same files in whichever way fits into `bound` bytes of memory with this work: as [`open`](Model::open) does
    /// where all weights fit, else so that weights are read for each product and freed after it, which gives the same bits.
    ///
    /// A model whose weights are read as they are needed has no [`parameters`](Model::parameters), and neither gradients nor a
    /// copy on disk. Numbers that are not finite are found when they are read. Let
    /// [`limit_spare_buffers`](moescope_engine::limit_spare_buffers) be told the plan's
    /// [`spare`](MemoryPlan::spare) before a pass, or the engine keeps more of it than was planned.
    ///
    /// # Errors
    /// As [`open`](Model::open), and [`ModelError::Bound`] where not even one step fits.
    pub fn open_within(path: &Path, work: &Work<'_>, bound: u64) -> Result<(Model, MemoryPlan), ModelError> {
        let plan = MemoryPlan::new(path, work, bound)?;
        let mut model = match plan.way {
            Way::InMemory => Model::open(path)?,
            Way::Streamed => Model::open_streamed(path, plan.room)?,
        };
        model.leave_for_streams(plan.streams);
        Ok((model, plan))
    }

    /// Leaves the weights in their files; of those in memory at a time, and what experts make of them, no more than `room` bytes
    /// where they can be cut so far.
    pub(crate) fn open_streamed(path: &Path, room: u64) -> Result<Model, ModelError> {
        let (reading, tensors) = read_checkpoint(path)?;
        let layout = Layout::new(&reading.description);
        let sources = sources(&tensors, &reading, &layout)?;
        require_one_table(&tensors, &reading, &layout, &sources)?;
        let stock = Stock {
            tensors,
            sources,
            norms_less_one: reading.family.norms_less_one,
            room,
            replaced: BTreeMap::new(),
        };
        let mut model = Model::from_parts(reading.description, layout, Vec::new())?;
        read_selection_biases(&mut model, &stock.tensors)?;
        model.read_from(stock);
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
