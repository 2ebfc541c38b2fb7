//! Sparse dictionaries of activations: autoencoders and transcoders, learned while activations stream by, measured against nulls, and
//! kept in the format of SAELens.
//!
//! ```
//! use std::ops::ControlFlow;
//! use moescope_base::Seed;
//! use moescope_dictionary::{Kind, Place, Planted, PlantedSettings, Settings, recovery, train};
//!
//! # fn main() -> Result<(), moescope_dictionary::DictionaryError> {
//! // A world of 16 features in 20 dimensions, two of them active at a time.
//! let world = PlantedSettings { features: 16, width: 20, target: None, active: 2.0, noise: 0.01, seed: Seed(1) };
//! let world = Planted::new(world);
//! let truth = world.directions().clone();
//!
//! let settings = Settings { batch: 256, ..Settings::new(Kind::TopK, 24, 3, 200_000, Seed(2)) };
//! let mut watch = |_: &_| ControlFlow::Continue(());
//! let trained = train(&mut world.stream(1024), &settings, Place::default(), &mut watch)?;
//! let found = recovery(&truth, &trained.dictionary.directions())?;
//! assert!(found.mean > 0.95, "most directions are found: {found:?}");
//! # Ok(())
//! # }
//! ```
//!
//! [`train`] reads an [`ActivationStream`], so activations are never all in memory or on disk: whoever has a model gives its
//! activations batch by batch. [`Dictionary::save`] and [`Dictionary::open`] write and read SAELens' folders. [`Evaluation`] sums what the measures are
//! made of, document by document, so that intervals can be had over documents.
//!
//! Why a crate of its own: a dictionary is trained on the engine like a model, yet knows nothing of models; and what it shows is
//! easily too much believed, so the nulls live next door to the measures. Tests plant the truth: [`Planted`] makes rows of known
//! features, which every kind must find, and Gaussian rows, in which there is nothing to find.

mod dictionary;
mod draws;
mod error;
mod measures;
mod planted;
mod rows;
mod saelens;
#[cfg(test)]
mod testing;
mod training;

pub use dictionary::{Dictionary, Parts, Place, Rule};
pub use draws::directions as random_directions;
pub use error::{DictionaryError, SourceError};
pub use measures::*;
pub use planted::{Planted, PlantedSettings};
pub use rows::{ActivationStream, Rows};
pub use saelens::{CONFIGURATION_FILE, TENSORS_FILE};
pub use training::{Kind, Settings, StepReport, Trained, train};
