//! The weights of a model, whatever the format of their files: named tensors, decoded to `f32` when and as far as they are
//! asked for.
//!
//! [`Weights::open`] maps safetensors (single, or shards with their index) and GGUF files and reads their headers. A
//! [`TensorView`] gives shape and format at once, and numbers on demand: all of them, or the rows of one expert.
//!
//! ```
//! use moescope_weights::Weights;
//! # let folder = std::env::temp_dir().join(format!("moescope-weights-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let header = br#"{"experts":{"dtype":"BF16","shape":[2,1,2],"data_offsets":[0,8]}}   "#;
//! # let mut file = (header.len() as u64).to_le_bytes().to_vec();
//! # file.extend(header);
//! # file.extend([0x80, 0x3f, 0x00, 0x40, 0x40, 0x40, 0x80, 0x40]);
//! # std::fs::write(folder.join("model.safetensors"), file)?;
//!
//! let weights = Weights::open(&folder)?;
//! let experts = weights.tensor("experts")?;
//! assert_eq!(experts.shape(), [2, 1, 2]); // [expert, output, input]
//! let mut second = [0.0; 2];
//! experts.read_rows(1..2, &mut second)?;
//! assert_eq!(second, [3.0, 4.0]);
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`locate`] finds a model by path, or by its name on the Hugging Face Hub: `org/name[@revision]`, in the cache and with the
//! variables of the hub's own tools; [`locate_headers`] fetches no weights. Nothing is fetched unless such a name is given.
//!
//! Why one room for all formats: a model should not care whether an expert lies in a tensor of its own, in a slice of a fused
//! one, or in blocks of four bits. And whoever reads files from strangers must check every length in them; that is done here,
//! once. Nothing here knows an architecture: names are those of the files.

#[cfg(test)]
mod arbitrary;
mod decode;
mod error;
mod gguf;
mod hub;
mod number_format;
mod quantised;
mod safetensors_files;
mod stored;
mod weights;

pub use error::WeightsError;
pub use gguf::{Metadata, MetadataValue};
pub use hub::{DownloadProgress, HubSettings, ModelName, Outline, locate, locate_headers};
pub use number_format::NumberFormat;
pub use weights::{TensorView, Weights};

#[cfg(test)]
mod tests;
