//! The host: what the disk holds, how much memory there is, and which machine it is.
//!
//! A file has its final name only when it is whole ([`replace`]), so a program that is killed leaves either the old file
//! or the new one; what was being written has a name that [`sweep`] knows. [`FolderLock`] keeps two programs out of
//! one folder, [`TensorFile`] reads safetensors, [`MappedFile`] shows a file without reading it, [`hash_file`] tells whether a
//! file is still what was written, and [`require_memory`] refuses work that cannot fit before memory is asked for.
//!
//! ```
//! use std::io::Write;
//!
//! let folder = std::env::temp_dir().join(format!("moescope-host-{}", std::process::id()));
//! std::fs::create_dir_all(&folder)?;
//! moescope_host::replace(&folder.join("loss.txt"), |file| file.write_all(b"2.31"))?;
//! assert_eq!(moescope_host::read_text(&folder.join("loss.txt"))?, "2.31");
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Why one room for all of this: models, traces, runs and studies keep the same promises about their files, and a
//! promise that is kept in five places is broken in one of them sooner or later. Nothing here knows what is in a file.

mod error;
mod lock;
mod machine;
mod mapped_file;
mod memory;
mod origin;
mod tensor_file;
mod tensor_writer;
mod text_file;
mod whole_file;

pub use error::{HostError, advice};
pub use lock::FolderLock;
pub use machine::Machine;
pub use mapped_file::MappedFile;
pub use memory::{bytes_from_words, bytes_in_words, free_memory, machine_memory, require_memory};
pub use origin::Origin;
pub use tensor_file::{TensorFile, TensorPlace};
pub use tensor_writer::write_tensors;
pub use text_file::{hash_file, hash_text, line_and_column, read_text};
pub use whole_file::{make_folder, replace, sweep};
